"""The pictures of a simulated data set and nothing else: a simulator draws them from a state that tells the actions."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.types import Episode, VideoDataset, check_clips
from jepa_actions.data.view import Viewable

CHUNK = 256  # frames rendered at a time


class FramesOnly(Viewable):
    """Every frame of `dataset`, drawn once and kept compressed in memory (without loss); the data set is not kept."""

    action_names: tuple[str, ...] | None = None
    proprio_names: tuple[str, ...] | None = None

    def __init__(self, dataset: VideoDataset) -> None:
        self.name, self.cameras, self.fps = dataset.name, dataset.cameras, dataset.fps
        self._lengths = dataset.lengths()
        self._sizes = {camera: dataset.image_size(camera) for camera in self.cameras}
        self._source = dataset.fingerprint()
        self._begin = np.cumsum(self._lengths) - self._lengths
        self._frames: dict[str, list[bytes]] = {camera: [] for camera in self.cameras}
        episodes = np.repeat(np.arange(len(self._lengths)), self._lengths)
        numbers = np.arange(len(episodes)) - self._begin[episodes]
        for start in range(0, len(episodes), CHUNK):
            rows = slice(start, start + CHUNK)
            for camera, images in dataset.read_clips(episodes[rows], numbers[rows, None]).items():
                self._frames[camera] += [zlib.compress(image.tobytes(), 1) for image in images[:, 0].numpy()]

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames."""
        return self._sizes[camera]

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        """Its length."""
        return Episode(i, int(self._lengths[i]), dataset=self.name)

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera."""
        check_clips(self._lengths, episodes, frames, self.name)
        places = (self._begin[episodes][:, None] + frames).ravel().tolist()
        out = {}
        for camera, packed in self._frames.items():
            shape = (3, *self._sizes[camera])
            images = torch.empty((len(places), *shape), dtype=torch.uint8)
            rows = images.numpy()
            for k, place in enumerate(places):
                rows[k] = np.frombuffer(zlib.decompress(packed[place]), np.uint8).reshape(shape)
            out[camera] = images.unflatten(0, frames.shape)
        return out

    def without_labels(self) -> VideoDataset:
        """Itself: there are none."""
        return self

    def fingerprint(self) -> str:
        """That of the data set it was drawn from."""
        return self._source
