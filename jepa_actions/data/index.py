"""Which clips exist, and which of them make batch number `step`: both are functions, so training resumes at any step
exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from jepa_actions.data.types import Segment
from jepa_actions.errors import DataError


class ClipIndex:
    """Every clip of `frames` frames, `block` raw steps apart, that lies inside one segment.

    Clip number `i` shows frames `start + block * arange(frames)`; starts are `stride` raw frames apart within a
    segment. Raises DataError where no segment is long enough for one clip.
    """

    def __init__(self, segments: Sequence[Segment], *, frames: int, block: int, stride: int = 1) -> None:
        if frames < 1 or block < 1 or stride < 1:
            raise DataError(
                f"clip index: frames {frames}, block {block}, stride {stride} given, expected at least 1 each"
            )
        self.segments = tuple(segments)
        self.frames, self.block, self.stride = frames, block, stride
        self.span = (frames - 1) * block + 1
        sizes = np.array([len(segment) for segment in self.segments], dtype=np.int64)
        counts = np.where(sizes >= self.span, (sizes - self.span) // stride + 1, 0)
        if counts.sum() == 0:
            found = f"{len(sizes)} segments of {sizes.min()} to {sizes.max()} frames" if len(sizes) else "no segment"
            raise DataError(
                f"clip index: {found}, expected one of at least {self.span} frames "
                f"(a clip of {frames} frames, {block} apart)"
            )
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts
        self._episodes = np.array([segment.episode for segment in self.segments], dtype=np.int64)
        self._starts = np.array([segment.start for segment in self.segments], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def episodes(self) -> Int64[np.ndarray, "e"]:
        """The episodes that have at least one clip, in order, each once."""
        return np.unique(self._episodes[self._ends > self._begins])

    def clip(self, ids: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b"], Int64[np.ndarray, "b t"]]:
        """The episode of each clip and its frame numbers. Raises DataError where an id is not a clip."""
        ids = np.asarray(ids, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= len(self)):
            raise DataError(f"clip index: clip {ids.min()} to {ids.max()} asked for, expected 0 to {len(self) - 1}")
        segment = np.searchsorted(self._ends, ids, side="right")
        start = self._starts[segment] + (ids - self._begins[segment]) * self.stride
        return self._episodes[segment], start[:, None] + self.block * np.arange(self.frames, dtype=np.int64)


class ClipSampler:
    """The clips of batch `step`: a pure function of the seed and the step, so there is no state to save.

    Each epoch is a permutation drawn from Philox(seed, epoch) and cut into batches; what is left over at its end is
    dropped. `batch_size` counts the clips of all ranks together; rank `r` of `world_size` gets its own equal share of
    every batch. Raises DataError where the ranks cannot share a batch equally, or the index has fewer clips than one
    batch.
    """

    def __init__(self, index_len: int, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1 or index_len < batch_size:
            raise DataError(
                f"clip sampler: batch_size {batch_size} given, expected 1 to the number of clips, {index_len}"
            )
        if world_size < 1 or not 0 <= rank < world_size:
            raise DataError(
                f"clip sampler: rank {rank} of world_size {world_size} given, expected 0 <= rank < world_size"
            )
        if batch_size % world_size:
            raise DataError(
                f"clip sampler: batch_size {batch_size} given, expected a multiple of world_size {world_size}"
            )
        if seed < 0:
            raise DataError(f"clip sampler: seed {seed} given, expected at least 0")
        self.index_len, self.batch_size, self.seed = index_len, batch_size, seed
        self.steps_per_epoch = index_len // batch_size
        self._share = slice(rank * (batch_size // world_size), (rank + 1) * (batch_size // world_size))
        self._latest: tuple[int, np.ndarray] | None = None

    def ids(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clip numbers of this rank in batch `step` (from 0)."""
        if step < 0:
            raise DataError(f"clip sampler: step {step} given, expected at least 0")
        epoch, within = divmod(step, self.steps_per_epoch)
        order = self._permutation(epoch)
        return order[within * self.batch_size : (within + 1) * self.batch_size][self._share]

    def _permutation(self, epoch: int) -> Int64[np.ndarray, "n"]:
        latest = self._latest
        if latest is None or latest[0] != epoch:
            key = np.array([self.seed, epoch], dtype=np.uint64)
            latest = (epoch, np.random.Generator(np.random.Philox(key=key)).permutation(self.index_len))
            self._latest = latest
        return latest[1]
