"""Batches of clips with model actions: batch = f(data, seed, step), so a run resumes at any step exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from jepa_actions.data.codec import ActionCodec
from jepa_actions.data.index import ClipIndex, ClipSampler
from jepa_actions.data.latent_cache import LatentCache
from jepa_actions.data.memory import InMemory
from jepa_actions.data.types import Batch, Episode, Provenance, VideoDataset, check_finite
from jepa_actions.errors import DataError

LABELS_KEPT = 8192  # episodes whose labels stay in memory
AHEAD = 2  # batches prepared before they are asked for


@dataclass(frozen=True)
class _Labels:
    """One episode's labels, ready to be cut: raw actions and their mask, `None` where the episode has none."""

    episode: Episode
    raw: Float32[np.ndarray, "t-1 a"] | None
    mask: Bool[np.ndarray, "t-1"]


class ClipLoader:
    """Clips of an index as batches.

    `codec` turns raw actions into model actions; its `block` must be the index's. Without a codec, or where the data
    set has nothing the codec reads, batches have no actions. In an episode without actions, one that `labelled` leaves
    out, or a block with an unknown raw action, model actions are zero and `action_mask` is false. `labelled` (one truth
    value per episode) is for studies with few labels. `batch_size` counts the clips of all ranks. `cache="memory"`
    decodes the indexed episodes once, at the start. With `latents` batches have tokens in place of frames. Raises
    DataError for arguments that do not fit together, and for labels that are not finite when their episode is read.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        index: ClipIndex,
        codec: ActionCodec | None,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        cache: Literal["none", "memory"] = "none",
        labelled: Bool[np.ndarray, "e"] | None = None,
        latents: LatentCache | None = None,
    ) -> None:
        if codec is not None and codec.block != index.block:
            raise DataError(
                f"{dataset.name}: clips of block {index.block}, expected the action codec's block, {codec.block}"
            )
        lengths = dataset.lengths()
        for segment in index.segments:
            if segment.episode >= len(lengths) or segment.stop > lengths[segment.episode]:
                raise DataError(f"{dataset.name}: clip index has {segment}, expected one inside an episode")
        if labelled is not None and (labelled.shape != (len(dataset),) or labelled.dtype != np.bool_):
            raise DataError(
                f"{dataset.name}: labelled is {labelled.dtype} {labelled.shape}, expected bool ({len(dataset)},), one "
                f"per episode"
            )
        if cache not in ("none", "memory"):
            raise DataError(f"{dataset.name}: cache {cache!r}, expected 'none' or 'memory'")
        self.dataset = InMemory(dataset, index.episodes().tolist()) if cache == "memory" else dataset
        self.index, self.codec = index, codec
        self.sampler = ClipSampler(len(index), batch_size, seed, rank=rank, world_size=world_size)
        names = None if codec is None else dataset.action_names if codec.source == "action" else dataset.proprio_names
        self.has_actions = names is not None
        self._labelled, self._latents = labelled, latents
        self._labels = lru_cache(maxsize=LABELS_KEPT)(self._read_labels)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every clip comes at most once."""
        return self.sampler.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """This rank's share of batch `step`."""
        return self.clips(self.sampler.ids(step))

    def clips(self, ids: Int64[np.ndarray, "b"]) -> Batch:
        """The clips of these numbers, in this order; for evaluation, which wants every clip once."""
        episodes, frames = self.index.clip(ids)
        labels = [self._labels(int(e)) for e in episodes]
        actions, action_mask, provenance = self._actions(labels, frames)
        rewards, reward_mask = self._rewards(labels, frames)
        proprio = [_rows(item.episode.proprio, row) for item, row in zip(labels, frames, strict=True)]
        texts = [item.episode.text for item in labels]
        return Batch(
            frames={} if self._latents else self.dataset.read_clips(episodes, frames),
            tokens=self._latents.read(episodes, frames) if self._latents else None,
            episode=torch.from_numpy(episodes),
            frame=torch.from_numpy(frames),
            actions=actions,
            action_mask=action_mask,
            provenance=provenance,
            proprio=None if self.dataset.proprio_names is None else torch.from_numpy(np.stack(proprio)),
            rewards=rewards,
            reward_mask=reward_mask,
            text=None if all(text is None for text in texts) else [text or "" for text in texts],
        )

    def labels_of(
        self, ids: Int64[np.ndarray, "b"]
    ) -> tuple[Float[Tensor, "b t-1 a"] | None, Bool[Tensor, "b t-1"] | None]:
        """Model actions of these clips and where they are known, without reading a frame."""
        episodes, frames = self.index.clip(ids)
        actions, known, _ = self._actions([self._labels(int(e)) for e in episodes], frames)
        return actions, known

    def prefetch(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Batches `start_step` to `stop_step - 1`, prepared by one background thread; its errors are raised here."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="clips") as pool:
            ready: deque[Future[Batch]] = deque()
            try:
                for step in range(start_step, stop_step):
                    ready.append(pool.submit(self.batch, step))
                    if len(ready) > AHEAD:
                        yield ready.popleft().result()
                while ready:
                    yield ready.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _read_labels(self, number: int) -> _Labels:
        episode = self.dataset.episode(number)
        raw, mask = None, np.zeros(episode.length - 1, dtype=bool)
        shown = self._labelled is None or bool(self._labelled[number])
        if self.codec is not None and self.has_actions and shown:
            raw = self.codec.raw_actions(episode)
            mask = self.codec.step_mask(episode) if raw is not None else mask
        if episode.proprio is not None:
            place = f"{self.dataset.name}: proprio of episode {number}"
            check_finite(episode.proprio, place, self.dataset.proprio_names)
        return _Labels(episode, raw, mask)

    def _steps(self, frames: Int64[np.ndarray, "t"]) -> Int64[np.ndarray, "t-1 block"]:
        """Raw steps that lead from each frame of a clip to the next."""
        return frames[:-1, None] + np.arange(self.index.block)

    def _actions(
        self, labels: list[_Labels], frames: Int64[np.ndarray, "b t"]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if self.codec is None or not self.has_actions:
            return None, None, None
        shape = (len(labels), frames.shape[1] - 1, self.index.block, len(self.codec.names))
        raw, mask = np.zeros(shape, np.float32), np.zeros(shape[:2], dtype=bool)
        for k, (item, row) in enumerate(zip(labels, frames, strict=True)):
            if item.raw is not None:
                raw[k], mask[k] = item.raw[self._steps(row)], item.mask[self._steps(row)].all(-1)
        known = torch.from_numpy(mask)
        actions = self.codec.encode(torch.from_numpy(raw)).masked_fill(~known[..., None], 0.0)
        source = [item.episode.provenance if self.codec.source == "action" else Provenance.TRUE for item in labels]
        return actions, known, torch.tensor(source, dtype=torch.int64)[:, None].repeat(1, shape[1])

    def _rewards(self, labels: list[_Labels], frames: Int64[np.ndarray, "b t"]) -> tuple[Tensor | None, Tensor | None]:
        if all(item.episode.rewards is None for item in labels):
            return None, None
        sums = np.zeros((len(labels), frames.shape[1] - 1), np.float32)
        mask = np.zeros(sums.shape, dtype=bool)
        for k, (item, row) in enumerate(zip(labels, frames, strict=True)):
            if item.episode.rewards is not None:
                sums[k], mask[k] = item.episode.rewards[self._steps(row)].sum(-1), True
        return torch.from_numpy(sums), torch.from_numpy(mask)


def _rows(values: Float32[np.ndarray, "t p"] | None, rows: Int64[np.ndarray, "t"]) -> Float32[np.ndarray, "t p"]:
    return np.zeros((len(rows), 0), np.float32) if values is None else values[rows]
