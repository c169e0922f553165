"""Batches of clips from a stream of episodes: what is larger than the disk is read in order, shuffled by a buffer."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from jepa_actions.data.actions.codec import ActionCodec
from jepa_actions.data.index import ClipIndex
from jepa_actions.data.loader import AHEAD, ClipLoader
from jepa_actions.data.sources.stream_source import EpisodeStream, HeldEpisodes, StreamedEpisode
from jepa_actions.data.types import Batch, Segment
from jepa_actions.errors import DataError

EMPTY_AT_MOST = 8  # epochs in a row (but at least one per rank) without a clip, after which something must be wrong
LATER = 1 << 40  # numbers of the epochs that only an inexact resume begins


@dataclass
class _Open:
    """An episode in the buffer and the first frames of its clips that are still to come, the next one last."""

    episode: StreamedEpisode
    starts: Int64[np.ndarray, "n"]


class ClipStream:
    """Every clip of a stream once per epoch, as the batches that a `ClipLoader` makes.

    `source` is an `EpisodeStream`, or what one is made of (with `split`, `cameras`, `image_size`). With
    `shuffle_buffer` n the shards come in an order drawn for each epoch, n episodes are kept open, and each clip is
    drawn from all those that they still hold; with 0 clips come in the stream's order. `batch_size` counts the clips of
    all ranks.

    A rank reads whole shards where there are at least as many as ranks, taking another share in every epoch, else
    every `world_size`-th episode; so no clip comes twice in an epoch, and none is left out. A rank with fewer clips
    begins its next epoch earlier: all ranks give as many batches as they are asked for, and a batch may hold the last
    clips of one epoch and the first of the next.

    What comes is a function of (data, seed, rank, step). Resuming at a step repeats the order up to there without
    decoding: it reads what came before, but gives the same batches, bit for bit (`exact_resume`). With `fast_resume` it
    reads nothing again and begins a new epoch, whose clips may repeat those of the one that was broken off; then
    `exact_resume` is false, and resuming warns of it. `Batch.episode` is the episode's number in the stream, see
    `StreamedEpisode`.

    Raises DataError for arguments that do not fit together, a stream without a clip, and what reading it raises.
    """

    def __init__(
        self,
        source: Any,
        *,
        frames: int,
        block: int,
        batch_size: int,
        seed: int,
        stride: int = 1,
        rank: int = 0,
        world_size: int = 1,
        shuffle_buffer: int = 0,
        codec: ActionCodec | None = None,
        fast_resume: bool = False,
        **options: Any,
    ) -> None:
        if min(frames, block, stride, batch_size, world_size) < 1 or min(seed, shuffle_buffer) < 0:
            raise DataError(
                f"clip stream: frames {frames}, block {block}, stride {stride}, batch_size {batch_size}, world_size "
                f"{world_size}, seed {seed}, shuffle_buffer {shuffle_buffer}, expected at least 1 (the last two: 0)"
            )
        if not 0 <= rank < world_size or batch_size % world_size:
            raise DataError(
                f"clip stream: rank {rank} of world_size {world_size} and batch_size {batch_size}, expected a rank "
                "below world_size and a batch_size that it divides"
            )
        if codec is not None and codec.block != block:
            raise DataError(f"clip stream: clips of block {block}, expected the action codec's block, {codec.block}")
        self.stream = source if isinstance(source, EpisodeStream) else EpisodeStream(source, **options)
        self.frames, self.block, self.stride, self.span = frames, block, stride, (frames - 1) * block + 1
        self.codec, self.seed, self.rank, self.world_size = codec, seed, rank, world_size
        self.buffer, self.exact_resume = shuffle_buffer, not fast_resume
        self._share = batch_size // world_size
        self._clips_of: dict[int, int] = {}  # of the epochs that this object has seen whole

    def prefetch(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Batches `start_step` to `stop_step - 1` of this rank in order, prepared by a background thread; errors are
        raised here."""
        batches = self._batches(start_step)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="stream") as pool:
            ready: deque[Future[Batch]] = deque()
            try:
                for _ in range(start_step, stop_step):
                    ready.append(pool.submit(next, batches))
                    if len(ready) > AHEAD:
                        yield ready.popleft().result()
                while ready:
                    yield ready.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)
                batches.close()

    def _batches(self, start_step: int) -> Generator[Batch]:
        epoch, skip = 0, start_step * self._share
        if start_step and not self.exact_resume:
            warnings.warn(
                f"{self.stream.name}: resumed at step {start_step} with fast_resume: a new epoch begins, the clips are "
                "not those of an uninterrupted run",
                stacklevel=2,
            )
            epoch, skip = LATER + start_step, 0
        clips: list[tuple[StreamedEpisode, int]] = []
        ended: list[StreamedEpisode] = []
        try:
            for episode, start, last in self._clips(epoch, skip):
                clips.append((episode, start))
                if last:
                    ended.append(episode)
                if len(clips) == self._share:
                    yield self._batch(clips)
                    clips = []
                    while ended:
                        ended.pop().close()
        finally:
            for episode in [*ended, *(episode for episode, _ in clips)]:
                episode.close()

    def _batch(self, clips: list[tuple[StreamedEpisode, int]]) -> Batch:
        """A tiny data set that holds these clips and no others, as a batch."""
        held = list({id(episode): episode for episode, _ in clips}.values())
        place = {id(episode): k for k, episode in enumerate(held)}
        segments = [Segment(place[id(episode)], start, start + self.span) for episode, start in clips]
        index = ClipIndex(segments, frames=self.frames, block=self.block)
        loader = ClipLoader(HeldEpisodes(self.stream, held), index, self.codec, batch_size=len(clips), seed=self.seed)
        batch = loader.clips(np.arange(len(clips)))
        numbers = [episode.episode.index for episode, _ in clips]
        return replace(batch, episode=torch.tensor(numbers, dtype=torch.int64))

    def _clips(self, epoch: int, skip: int) -> Iterator[tuple[StreamedEpisode, int, bool]]:
        """This rank's clips from epoch `epoch` on but for the first `skip`: episode, first frame, and whether it is the
        last one of that episode."""
        empty = 0
        while True:
            known = self._clips_of.get(epoch)
            if known is not None and known <= skip:
                skip, epoch = skip - known, epoch + 1
                continue
            number = 0
            for number, (episode, start, last) in enumerate(self._epoch(epoch), start=1):
                if number > skip:
                    yield episode, start, last
                elif last:
                    episode.close()
            self._clips_of[epoch] = number
            skip, epoch = max(skip - number, 0), epoch + 1
            empty = 0 if number else empty + 1
            if empty == max(EMPTY_AT_MOST, self.world_size):
                raise DataError(
                    f"{self.stream.name}: no clip for rank {self.rank} of {self.world_size} in {empty} epochs, "
                    f"expected an episode of at least {self.span} frames"
                )

    def _epoch(self, epoch: int) -> Iterator[tuple[StreamedEpisode, int, bool]]:
        """The clips of one epoch, which depend on nothing but (data, seed, rank, epoch)."""
        key = np.array([self.seed, epoch], dtype=np.uint64)
        of_all, own = (np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, r])) for r in (0, self.rank + 1))
        episodes = self._episodes(epoch, of_all)
        if not self.buffer:
            for opened in episodes:
                for start in opened.starts:
                    yield opened.episode, int(start), bool(start == opened.starts[-1])
            return
        held: list[_Open] = []
        try:
            while True:
                while len(held) < self.buffer and (more := next(episodes, None)) is not None:
                    held.append(replace(more, starts=own.permutation(more.starts)))
                if not held:
                    return
                ends = np.cumsum([len(opened.starts) for opened in held])
                k = int(np.searchsorted(ends, own.integers(ends[-1]), side="right"))
                chosen = held[k]
                start, chosen.starts = int(chosen.starts[-1]), chosen.starts[:-1]
                if not len(chosen.starts):
                    held.pop(k)
                yield chosen.episode, start, not len(chosen.starts)
        finally:
            for opened in held:
                opened.episode.close()

    def _episodes(self, epoch: int, of_all: np.random.Generator) -> Iterator[_Open]:
        """This rank's episodes that have a clip."""
        shards = of_all.permutation(self.stream.shards) if self.buffer else np.arange(self.stream.shards)
        turn = (self.rank + epoch) % self.world_size
        whole = self.stream.shards >= self.world_size
        for shard in (shards[turn :: self.world_size] if whole else shards).tolist():
            wanted = None if whole else (lambda row, shard=shard: (row + shard) % self.world_size == turn)
            for episode in self.stream.episodes(shard, wanted=wanted):
                starts = np.arange(0, episode.episode.length - self.span + 1, self.stride)
                if len(starts):
                    yield _Open(episode, starts)
                else:
                    episode.close()
