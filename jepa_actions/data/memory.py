"""A data set whose frames are decoded once and kept in memory: for small recordings, which are then read thousands of
times."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from jepa_actions.data.types import VideoDataset, check_clips
from jepa_actions.data.view import DatasetView
from jepa_actions.errors import DataError


class InMemory(DatasetView):
    """`dataset` with every frame of `episodes` (default all) held as uint8; the labels are the data set's own."""

    def __init__(self, dataset: VideoDataset, episodes: Iterable[int] | None = None) -> None:
        super().__init__(dataset)
        self._lengths = dataset.lengths()
        kept = np.unique(np.fromiter(range(len(dataset)) if episodes is None else episodes, dtype=np.int64))
        self._begin = np.full(len(dataset), -1, dtype=np.int64)
        self._begin[kept] = np.cumsum(self._lengths[kept]) - self._lengths[kept]
        total = int(self._lengths[kept].sum())
        self._frames = {
            camera: torch.empty((total, 3, *dataset.image_size(camera)), dtype=torch.uint8) for camera in self.cameras
        }
        for e in kept:
            begin, length = int(self._begin[e]), int(self._lengths[e])
            for camera, images in dataset.read_clips(np.array([e]), np.arange(length)[None]).items():
                self._frames[camera][begin : begin + length] = images[0]

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames, copied out of memory. Raises DataError for an episode that is not held."""
        check_clips(self._lengths, episodes, frames, self.name)
        if (self._begin[episodes] < 0).any():
            absent = int(episodes[self._begin[episodes] < 0][0])
            raise DataError(
                f"{self.name}: episode {absent} is not held in memory, expected one of those it was made with"
            )
        rows = torch.from_numpy(self._begin[episodes][:, None] + frames)
        return {camera: images[rows] for camera, images in self._frames.items()}

    def over(self, dataset: VideoDataset) -> VideoDataset:
        """The same frames in memory, with another data set's labels: nothing is decoded again."""
        other = copy.copy(self)
        other.dataset = dataset
        return other

    def facts(self) -> Any:
        """Memory changes nothing that is read."""
        return None

    def fingerprint(self) -> str:
        """That of the data set behind: where frames lie does not change them."""
        return self.dataset.fingerprint()
