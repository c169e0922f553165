"""What a frozen encoder makes of a data set's frames, made once and kept in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from jepa_actions.data.types import VideoDataset, check_clips
from jepa_actions.errors import DataError

CHUNK = 64  # frames read and encoded at a time
SHARE = 0.8  # of the machine's memory, at most

Encode = Callable[[dict[str, UInt8[Tensor, "b t c h w"]]], dict[str, Float[Tensor, "b t p d"]]]


class LatentCache:
    """Tokens of every frame, encoded an episode at a time when a clip of it is first asked for.

    An episode is always encoded whole and in the same chunks, so that its tokens do not depend on which clips were read
    before: a run that resumes gets the same bits.

    Args:
        dataset: where frames come from.
        encode: uint8 frames per camera to tokens per camera, without gradient, each frame alone.
        episodes: those that may be asked for.
        limit: bytes that they may take in memory; by default four fifths of what the machine has.
    """

    def __init__(
        self, dataset: VideoDataset, encode: Encode, episodes: Iterable[int], *, limit: int | None = None
    ) -> None:
        self.dataset, self.encode = dataset, encode
        self.limit = limit if limit is not None else int(SHARE * _memory())
        self._lengths = dataset.lengths()
        self._total = int(self._lengths[np.fromiter(episodes, dtype=np.int64)].sum())
        self._kept: dict[int, dict[str, Float[Tensor, "t p d"]]] = {}

    def read(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, Float[Tensor, "b t p d"]]:
        """Tokens of the named frames, per camera.

        Raises:
            DataError: if the tokens of all episodes would not fit in memory.
        """
        check_clips(self._lengths, episodes, frames, self.dataset.name)
        clips = [
            {camera: tokens[torch.from_numpy(row)] for camera, tokens in self._episode(int(episode)).items()}
            for episode, row in zip(episodes, frames, strict=True)
        ]
        return {camera: torch.stack([clip[camera] for clip in clips]) for camera in clips[0]}

    def _episode(self, number: int) -> dict[str, Float[Tensor, "t p d"]]:
        if number not in self._kept:
            rows = np.arange(self._lengths[number])[None]
            parts = []
            for chunk in np.split(rows, range(CHUNK, rows.shape[1], CHUNK), axis=1):
                tokens = self.encode(self.dataset.read_clips(np.array([number]), chunk))
                parts.append({camera: found[0].cpu() for camera, found in tokens.items()})
                self._check(parts[0])
            self._kept[number] = {camera: torch.cat([part[camera] for part in parts]) for camera in parts[0]}
        return self._kept[number]

    def _check(self, part: dict[str, Float[Tensor, "t p d"]]) -> None:
        needed = self._total * sum(tokens[0].numel() * tokens.element_size() for tokens in part.values())
        if needed > self.limit:
            raise DataError(
                f"{self.dataset.name}: data.cache latents: the tokens of {self._total} frames take "
                f"{needed / 2**30:.1f} GiB, expected at most {self.limit / 2**30:.1f} GiB; take fewer episodes, pooled "
                "tokens (model.backbone.tokens) or data.cache memory"
            )


def _memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
