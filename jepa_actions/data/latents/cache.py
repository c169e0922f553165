"""What a frozen encoder makes of a data set's frames: in what pieces it is made, and a cache of it in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from jepa_actions.data.types import VideoDataset, check_clips
from jepa_actions.errors import DataError

CHUNK = 64  # frames read and encoded at a time
AHEAD = 2  # chunks of frames read before they are encoded
SHARE = 0.8  # of the machine's memory, at most

Encode = Callable[[dict[str, UInt8[Tensor, "b t c h w"]]], dict[str, Float[Tensor, "b t p d"]]]


class Latents(Protocol):
    """The tokens of a data set's frames, wherever they are kept: what `ClipLoader(latents=...)` reads."""

    def read(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, Float[Tensor, "b t p d"]]:
        """Tokens of the named frames, per camera."""
        ...

    def latents_of(self, episode: int) -> dict[str, Float[Tensor, "t p d"]]:
        """Tokens of a whole episode, per camera."""
        ...


Chunk = tuple[int, int, dict[str, Tensor]]  # episode, its first frame, and frames or tokens per camera


def frame_chunks(dataset: VideoDataset, episodes: Iterable[int], frames: int, every: int = 1) -> Iterator[Chunk]:
    """Whole episodes, or every so manieth frame of them, in pieces of so many frames, in order.

    An episode is always cut in the same way, so that its tokens do not depend on what was encoded before: an encoding
    or a run that goes on later gets the same bits.
    """
    lengths = dataset.lengths()
    for episode in episodes:
        for start in range(0, int(lengths[episode]), frames * every):
            rows = np.arange(start, min(start + frames * every, int(lengths[episode])), every)[None]
            yield episode, start, dataset.read_clips(np.array([episode]), rows)


def encoded(chunks: Iterable[Chunk], encode: Encode) -> Iterator[Chunk]:
    """The tokens `(t, p, d)` of frames, on the CPU."""
    for episode, start, frames in chunks:
        yield episode, start, {camera: tokens[0].cpu() for camera, tokens in encode(frames).items()}


def read_ahead(chunks: Iterator[Chunk]) -> Generator[Chunk]:
    """The same chunks, `AHEAD` of them made by a thread before they are asked for; its errors are raised here."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames") as pool:
        ready: deque[Future[Chunk | None]] = deque()
        try:
            while True:
                while len(ready) <= AHEAD:
                    ready.append(pool.submit(next, chunks, None))
                chunk = ready.popleft().result()
                if chunk is None:
                    return
                yield chunk
        finally:
            pool.shutdown(cancel_futures=True)


class LatentCache:
    """Tokens of every frame in memory, encoded an episode at a time when a clip of it is first asked for. Several
    threads may read.

    Args:
        dataset: where frames come from.
        encode: uint8 frames per camera to tokens per camera, without gradient, each frame alone.
        episodes: those that may be asked for.
        limit: bytes that they may take in memory; by default four fifths of what the machine has.
        every: only frames whose number it divides may be asked for, and only these are encoded.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        encode: Encode,
        episodes: Iterable[int],
        *,
        limit: int | None = None,
        every: int = 1,
    ) -> None:
        self.dataset, self.encode, self.every = dataset, encode, every
        self.limit = limit if limit is not None else int(SHARE * _memory())
        self._lengths = dataset.lengths()
        self._total = int((-(-self._lengths[np.fromiter(episodes, dtype=np.int64)] // every)).sum())
        self._kept: dict[int, dict[str, Float[Tensor, "t p d"]]] = {}
        self._lock = Lock()

    def read(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, Float[Tensor, "b t p d"]]:
        """Tokens of the named frames, per camera.

        Raises:
            DataError: if the tokens of all episodes would not fit in memory, or for a frame that is not encoded.
        """
        check_clips(self._lengths, episodes, frames, self.dataset.name)
        if (frames % self.every).any():
            raise DataError(f"{self.dataset.name}: expected frames that {self.every} divides, found {frames.tolist()}")
        clips = [
            {camera: tokens[row] for camera, tokens in self.latents_of(int(episode)).items()}
            for episode, row in zip(episodes, torch.from_numpy(frames // self.every), strict=True)
        ]
        return {camera: torch.stack([clip[camera] for clip in clips]) for camera in clips[0]}

    def latents_of(self, episode: int) -> dict[str, Float[Tensor, "t p d"]]:
        """Tokens of an episode's frames that may be asked for, per camera. Raises DataError as `read` does."""
        check_clips(self._lengths, np.array([episode]), np.zeros((1, 0), dtype=np.int64), self.dataset.name)
        with self._lock:
            if episode not in self._kept:
                parts: list[dict[str, Tensor]] = []
                for _, _, part in encoded(frame_chunks(self.dataset, [episode], CHUNK, self.every), self.encode):
                    self._check(part)
                    parts.append(part)
                self._kept[episode] = {camera: torch.cat([part[camera] for part in parts]) for camera in parts[0]}
            return self._kept[episode]

    def _check(self, part: dict[str, Float[Tensor, "t p d"]]) -> None:
        needed = self._total * sum(tokens[0].numel() * tokens.element_size() for tokens in part.values())
        if needed > self.limit:
            raise DataError(
                f"{self.dataset.name}: data.cache latents: the tokens of {self._total} frames take "
                f"{needed / 2**30:.1f} GiB, expected at most {self.limit / 2**30:.1f} GiB; take fewer episodes, pooled "
                "tokens (model.backbone.tokens), data.cache memory, or a cache on disk (jepa-actions data encode)"
            )


def _memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
