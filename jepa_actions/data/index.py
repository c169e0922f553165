"""Which clips exist, and which of them make batch number `step`: both are functions, so training resumes at any step
exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from jepa_actions.data.types import Segment
from jepa_actions.errors import DataError


class ClipIndex:
    """Every clip of `frames` frames, `block` raw steps apart, that lies inside one segment.

    Clip number `i` shows frames `start + block * arange(frames)`; starts are `stride` raw frames apart within a
    segment. With `pad` a segment that is too short for a clip gives one, whose last frame is repeated (`real` says
    which frames are not). Raises DataError where no segment gives a clip.
    """

    def __init__(
        self, segments: Sequence[Segment], *, frames: int, block: int, stride: int = 1, pad: bool = False
    ) -> None:
        if frames < 1 or block < 1 or stride < 1:
            raise DataError(
                f"clip index: frames {frames}, block {block}, stride {stride} given, expected at least 1 each"
            )
        self.segments = tuple(segments)
        self.frames, self.block, self.stride, self.pad = frames, block, stride, pad
        self.span = (frames - 1) * block + 1
        sizes = np.array([len(segment) for segment in self.segments], dtype=np.int64)
        counts = np.where(sizes >= self.span, (sizes - self.span) // stride + 1, int(pad))
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
        self._stops = self._starts + sizes

    def __len__(self) -> int:
        return int(self._ends[-1])

    def episodes(self) -> Int64[np.ndarray, "e"]:
        """The episodes that have at least one clip, in order, each once."""
        return np.unique(self._episodes[self._ends > self._begins])

    def episode(self, ids: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "b"]:
        """The episode of each clip, without its frames."""
        found: np.ndarray = self._episodes[self._segment(ids)]
        return found

    def clip(self, ids: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b"], Int64[np.ndarray, "b t"]]:
        """The episode of each clip and its frame numbers. Raises DataError where an id is not a clip."""
        segment, frames = self._place(ids)
        return self._episodes[segment], np.minimum(frames, self._last(segment, frames))

    def real(self, ids: Int64[np.ndarray, "b"]) -> Bool[np.ndarray, "b t"]:
        """False where a frame of these clips is padding."""
        segment, frames = self._place(ids)
        inside: np.ndarray = frames < self._stops[segment][:, None]
        return inside

    def _last(self, segment: Int64[np.ndarray, "b"], frames: Int64[np.ndarray, "b t"]) -> Int64[np.ndarray, "b 1"]:
        """The last frame of each clip that lies in its segment, a whole number of blocks after the first."""
        start = frames[:, :1]
        last: np.ndarray = start + (self._stops[segment][:, None] - 1 - start) // self.block * self.block
        return last

    def _place(self, ids: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b"], Int64[np.ndarray, "b t"]]:
        ids = np.asarray(ids, dtype=np.int64)
        segment = self._segment(ids)
        start = self._starts[segment] + (ids - self._begins[segment]) * self.stride
        return segment, start[:, None] + self.block * np.arange(self.frames, dtype=np.int64)

    def _segment(self, ids: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "b"]:
        ids = np.asarray(ids, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= len(self)):
            raise DataError(f"clip index: clip {ids.min()} to {ids.max()} asked for, expected 0 to {len(self) - 1}")
        return np.searchsorted(self._ends, ids, side="right")


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
        self.index_len, self.batch_size, self.seed = index_len, batch_size, seed
        self.steps_per_epoch = index_len // batch_size
        self._share = _share(batch_size, rank, world_size)
        self._order = _Permutations(index_len, seed)

    def ids(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clip numbers of this rank in batch `step` (from 0)."""
        _check_step(step)
        epoch, within = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[within * self.batch_size : (within + 1) * self.batch_size][self._share]


class MixedSampler:
    """Batches with a fixed share of labelled clips: `round(fraction * batch_size)` of them in every batch.

    Labelled and other clips are walked through separately, each by permutations of its own, so a few labelled clips
    come around often. They are spread evenly over a batch, and so over the ranks. A pure function of seed and step.

    Args:
        labelled: whether each clip of the index is labelled.
        fraction: of the batch that is labelled.

    Raises:
        DataError: where a kind of clip that the fraction asks for does not exist, or as `ClipSampler`.
    """

    def __init__(
        self,
        labelled: Bool[np.ndarray, "n"],
        batch_size: int,
        seed: int,
        *,
        fraction: float,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0.0 <= fraction <= 1.0 or batch_size < 1:
            raise DataError(
                f"clip sampler: labelled fraction {fraction} of batch_size {batch_size}, expected 0 to 1 of at least 1"
            )
        quota = round(fraction * batch_size)
        self.quotas = (batch_size - quota, quota)
        self._members = (np.flatnonzero(~labelled), np.flatnonzero(labelled))
        for kind, members, wanted in zip(("unlabelled", "labelled"), self._members, self.quotas, strict=True):
            if wanted and not len(members):
                raise DataError(
                    f"clip sampler: {wanted} {kind} clips of a batch of {batch_size} asked for (labelled fraction "
                    f"{fraction:g}), found no {kind} clip among {len(labelled)}"
                )
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = max(1, len(labelled) // batch_size)
        self._share = _share(batch_size, rank, world_size)
        self._orders = tuple(
            _Permutations(len(members), seed, stream) for stream, members in enumerate(self._members, start=1)
        )
        turns = (np.arange(batch_size + 1) * quota) // batch_size
        self._is_labelled = np.diff(turns).astype(bool)

    def ids(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clip numbers of this rank in batch `step` (from 0)."""
        _check_step(step)
        batch = np.empty(self.batch_size, dtype=np.int64)
        for kind, wanted in enumerate(self.quotas):
            batch[self._is_labelled == bool(kind)] = self._walk(kind, step * wanted, wanted)
        return batch[self._share]

    def _walk(self, kind: int, start: int, count: int) -> Int64[np.ndarray, "n"]:
        """`count` places of the endless row of permutations of one kind of clip."""
        members, order = self._members[kind], self._orders[kind]
        if count == 0:
            return np.empty(0, dtype=np.int64)
        parts, first = [], start // len(members)
        for epoch in range(first, (start + count - 1) // len(members) + 1):
            parts.append(order(epoch))
        begin = start - first * len(members)
        picked: np.ndarray = members[np.concatenate(parts)[begin : begin + count]]
        return picked


class SceneSampler:
    """Batches of several scenes with `per_scene` clips of each, side by side: for what compares moments of one scene.

    Scenes are drawn without replacement within a batch, each alike, and clips of a scene with replacement. A rank gets
    whole scenes. A pure function of seed and step.

    Args:
        scenes: the scene of each clip of the index.
        batch_size: clips of all ranks.
        per_scene: clips of each scene.

    Raises:
        DataError: where a batch is no whole number of scenes, or there are too few scenes, or as `ClipSampler`.
    """

    def __init__(
        self,
        scenes: Int64[np.ndarray, "n"],
        batch_size: int,
        seed: int,
        *,
        per_scene: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if per_scene < 1 or batch_size < 1 or batch_size % per_scene:
            raise DataError(
                f"clip sampler: batch_size {batch_size} with {per_scene} clips per scene, expected a whole number of "
                "scenes"
            )
        self.batch_size, self.seed, self.per_scene = batch_size, seed, per_scene
        self.steps_per_epoch = max(1, len(scenes) // batch_size)
        wanted = batch_size // per_scene
        self._order = np.argsort(scenes, kind="stable")
        _, begins, counts = np.unique(scenes[self._order], return_index=True, return_counts=True)
        if len(begins) < wanted:
            raise DataError(
                f"clip sampler: a batch of {wanted} scenes ({batch_size} clips, {per_scene} of each) asked for, found "
                f"{len(begins)} scenes"
            )
        self._begins, self._counts, self._share = begins, counts, _share(wanted, rank, world_size)

    def ids(self, step: int) -> Int64[np.ndarray, "b"]:
        """The clip numbers of this rank in batch `step` (from 0), scene by scene."""
        _check_step(step)
        numbers = np.random.Generator(np.random.Philox(key=np.array([self.seed, step], dtype=np.uint64)))
        scenes = numbers.choice(len(self._begins), self.batch_size // self.per_scene, replace=False)
        places = numbers.random((len(scenes), self.per_scene))
        scenes, places = scenes[self._share], places[self._share]
        rows = self._begins[scenes][:, None] + (places * self._counts[scenes][:, None]).astype(np.int64)
        picked: np.ndarray = self._order[rows.ravel()]
        return picked


class _Permutations:
    """Permutation number `epoch` of `size` places, drawn from Philox; the latest is kept."""

    def __init__(self, size: int, seed: int, stream: int = 0) -> None:
        if seed < 0:
            raise DataError(f"clip sampler: seed {seed} given, expected at least 0")
        self.size, self.seed, self.stream = size, seed, stream
        self._latest: tuple[int, np.ndarray] | None = None

    def __call__(self, epoch: int) -> Int64[np.ndarray, "n"]:
        latest = self._latest
        if latest is None or latest[0] != epoch:
            key = np.array([self.seed, epoch], dtype=np.uint64)
            bits = np.random.Philox(key=key, counter=[0, 0, 0, self.stream])
            latest = (epoch, np.random.Generator(bits).permutation(self.size))
            self._latest = latest
        return latest[1]


def _share(batch_size: int, rank: int, world_size: int) -> slice:
    """A rank's equal part of a batch."""
    if world_size < 1 or not 0 <= rank < world_size:
        raise DataError(f"clip sampler: rank {rank} of world_size {world_size} given, expected 0 <= rank < world_size")
    if batch_size % world_size:
        raise DataError(f"clip sampler: batch_size {batch_size} given, expected a multiple of world_size {world_size}")
    size = batch_size // world_size
    return slice(rank * size, (rank + 1) * size)


def _check_step(step: int) -> None:
    if step < 0:
        raise DataError(f"clip sampler: step {step} given, expected at least 0")
