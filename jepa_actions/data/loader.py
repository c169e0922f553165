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

from jepa_actions.data.actions.codec import ActionCodec
from jepa_actions.data.actions.read import missing
from jepa_actions.data.index import ClipIndex, ClipSampler, MixedSampler, SceneSampler
from jepa_actions.data.latents.cache import Latents
from jepa_actions.data.memory import InMemory
from jepa_actions.data.types import Batch, Episode, VideoDataset, check_finite
from jepa_actions.errors import DataError

LABELS_KEPT = 8192  # episodes whose labels stay in memory
AHEAD = 2  # batches prepared before they are asked for


@dataclass(frozen=True)
class _Labels:
    """One episode's labels, ready to be cut: raw actions and their mask, `None` where the episode has none."""

    episode: Episode
    raw: Float32[np.ndarray, "t-1 a"] | None
    mask: Bool[np.ndarray, "t-1"]
    origins: Int64[np.ndarray, "t-1"]


class ClipLoader:
    """Clips of an index as batches.

    `codec` turns raw actions into model actions; its `block` must be the index's. Without a codec, or where the data
    set has nothing the codec reads, batches have no actions. In an episode without actions, or a block with an unknown
    raw action, model actions are zero and `action_mask` is false. With `labelled_fraction` every batch has that share
    of clips with a known action; with `scenes`, the scene of each episode, and `per_scene` it has that many clips of
    each of its scenes. `batch_size` counts the clips of all ranks. `cache="memory"` decodes the indexed
    episodes once, at the start. With `latents` batches have tokens in place of frames, or, where they are `pooled`, z.
    Batches are prepared by
    `workers` threads; their number changes nothing but the speed. Raises DataError for arguments that do not fit
    together, and for labels that are not finite when their episode is read.
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
        labelled_fraction: float | None = None,
        latents: Latents | None = None,
        pooled: bool = False,
        scenes: Int64[np.ndarray, "e"] | None = None,
        per_scene: int = 0,
        workers: int = 1,
    ) -> None:
        if codec is not None and codec.block != index.block:
            raise DataError(
                f"{dataset.name}: clips of block {index.block}, expected the action codec's block, {codec.block}"
            )
        lengths = dataset.lengths()
        for segment in index.segments:
            if segment.episode >= len(lengths) or segment.stop > lengths[segment.episode]:
                raise DataError(f"{dataset.name}: clip index has {segment}, expected one inside an episode")
        if workers < 1:
            raise DataError(f"{dataset.name}: {workers} workers, expected at least 1")
        if cache not in ("none", "memory"):
            raise DataError(f"{dataset.name}: cache {cache!r}, expected 'none' or 'memory'")
        self.dataset = InMemory(dataset, index.episodes().tolist()) if cache == "memory" else dataset
        self.index, self.codec = index, codec
        self.has_actions = codec is not None and missing(dataset, codec.source) is None
        self._latents, self._pooled, self._workers, self._scenes = latents, pooled, workers, None
        self._labels = lru_cache(maxsize=LABELS_KEPT)(self._read_labels)
        self.sampler: ClipSampler | MixedSampler | SceneSampler
        if scenes is not None:
            if labelled_fraction is not None or len(scenes) != len(lengths):
                raise DataError(
                    f"{dataset.name}: {len(scenes)} scenes and labelled fraction {labelled_fraction}, expected one "
                    f"scene for each of {len(lengths)} episodes, and no fraction"
                )
            self._scenes = torch.from_numpy(np.asarray(scenes, dtype=np.int64))
            shown = np.asarray(scenes)[index.episode(np.arange(len(index)))]
            self.sampler = SceneSampler(shown, batch_size, seed, per_scene=per_scene, rank=rank, world_size=world_size)
        elif labelled_fraction is None:
            self.sampler = ClipSampler(len(index), batch_size, seed, rank=rank, world_size=world_size)
        else:
            self.sampler = MixedSampler(
                self._labelled_clips(), batch_size, seed, fraction=labelled_fraction, rank=rank, world_size=world_size
            )

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
        real = self.index.real(ids)
        labels = [self._labels(int(e)) for e in episodes]
        actions, action_mask, provenance = self._actions(labels, frames, real)
        rewards, reward_mask = self._rewards(labels, frames, real)
        proprio, proprio_mask = self._proprio(labels, frames)
        texts = [item.episode.text for item in labels]
        tokens = self._latents.read(episodes, frames) if self._latents else None
        return Batch(
            frames={} if self._latents else self.dataset.read_clips(episodes, frames),
            tokens=None if self._pooled else tokens,
            z=torch.cat(list(tokens.values()), dim=2) if self._pooled and tokens else None,
            scene=None if self._scenes is None else self._scenes[torch.from_numpy(episodes)],
            episode=torch.from_numpy(episodes),
            frame=torch.from_numpy(frames),
            actions=actions,
            action_mask=action_mask,
            provenance=provenance,
            proprio=proprio,
            proprio_mask=proprio_mask,
            rewards=rewards,
            reward_mask=reward_mask,
            text=None if all(text is None for text in texts) else [text or "" for text in texts],
            frame_mask=None if real.all() else torch.from_numpy(real),
        )

    def labels_of(
        self, ids: Int64[np.ndarray, "b"]
    ) -> tuple[Float[Tensor, "b t-1 a"] | None, Bool[Tensor, "b t-1"] | None]:
        """Model actions of these clips and where they are known, without reading a frame."""
        episodes, frames = self.index.clip(ids)
        labels = [self._labels(int(e)) for e in episodes]
        actions, known, _ = self._actions(labels, frames, self.index.real(ids))
        return actions, known

    def prefetch(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Batches `start_step` to `stop_step - 1` in order, prepared by background threads; errors are raised here."""
        with ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="clips") as pool:
            ready: deque[Future[Batch]] = deque()
            try:
                for step in range(start_step, stop_step):
                    ready.append(pool.submit(self.batch, step))
                    if len(ready) > AHEAD * self._workers:
                        yield ready.popleft().result()
                while ready:
                    yield ready.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _labelled_clips(self) -> Bool[np.ndarray, "n"]:
        """Whether each clip of the index has a known action."""
        found = np.zeros(len(self.index), dtype=bool)
        for ids in np.array_split(np.arange(len(self.index)), max(1, len(self.index) // 4096)):
            episodes, frames = self.index.clip(ids)
            labels = [self._labels(int(e)) for e in episodes]
            found[ids] = self._known(labels, frames, self.index.real(ids)).any(axis=1)
        return found

    def _read_labels(self, number: int) -> _Labels:
        episode = self.dataset.episode(number)
        raw, mask = None, np.zeros(episode.length - 1, dtype=bool)
        origins = episode.origins()
        if self.codec is not None and self.has_actions:
            raw = self.codec.raw_actions(episode)
            mask = self.codec.step_mask(episode) if raw is not None else mask
            origins = self.codec.step_origins(episode)
        if episode.proprio is not None:
            place = f"{self.dataset.name}: proprio of episode {number}"
            check_finite(episode.proprio, place, self.dataset.proprio_names)
        return _Labels(episode, raw, mask, origins)

    def _steps(self, frames: Int64[np.ndarray, "t"], last: int) -> Int64[np.ndarray, "t-1 block"]:
        """Raw steps that lead from each frame of a clip to the next; those of padding are some step or other."""
        return np.minimum(frames[:-1, None] + np.arange(self.index.block), last)

    def _known(
        self, labels: list[_Labels], frames: Int64[np.ndarray, "b t"], real: Bool[np.ndarray, "b t"]
    ) -> Bool[np.ndarray, "b t-1"]:
        """Where every raw action of a model step is known."""
        known = np.zeros((len(labels), frames.shape[1] - 1), dtype=bool)
        for k, (item, row) in enumerate(zip(labels, frames, strict=True)):
            if item.raw is not None and len(item.mask):
                known[k] = item.mask[self._steps(row, len(item.mask) - 1)].all(-1)
        known &= real[:, 1:]
        return known

    def _actions(
        self, labels: list[_Labels], frames: Int64[np.ndarray, "b t"], real: Bool[np.ndarray, "b t"]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if self.codec is None or not self.has_actions:
            return None, None, None
        mask = self._known(labels, frames, real)
        raw = np.zeros((*mask.shape, self.index.block, len(self.codec.names)), np.float32)
        provenance = np.zeros(mask.shape, np.int64)
        for k, (item, row) in enumerate(zip(labels, frames, strict=True)):
            if item.raw is None or not len(item.raw):
                continue
            steps = self._steps(row, len(item.raw) - 1)
            raw[k] = item.raw[steps]
            provenance[k] = item.origins[steps].max(-1)  # of a block, the least certain
        known = torch.from_numpy(mask)
        actions = self.codec.encode(torch.from_numpy(raw)).masked_fill(~known[..., None], 0.0)
        return actions, known, torch.from_numpy(provenance)

    def _rewards(
        self, labels: list[_Labels], frames: Int64[np.ndarray, "b t"], real: Bool[np.ndarray, "b t"]
    ) -> tuple[Tensor | None, Tensor | None]:
        if all(item.episode.rewards is None for item in labels):
            return None, None
        sums = np.zeros((len(labels), frames.shape[1] - 1), np.float32)
        mask = np.zeros(sums.shape, dtype=bool)
        for k, (item, row) in enumerate(zip(labels, frames, strict=True)):
            if item.episode.rewards is not None and len(item.episode.rewards):
                sums[k] = item.episode.rewards[self._steps(row, len(item.episode.rewards) - 1)].sum(-1)
                mask[k] = real[k, 1:]
        return torch.from_numpy(sums * mask), torch.from_numpy(mask)

    def _proprio(self, labels: list[_Labels], frames: Int64[np.ndarray, "b t"]) -> tuple[Tensor | None, Tensor | None]:
        names = self.dataset.proprio_names
        if names is None:
            return None, None
        rows = np.zeros((*frames.shape, len(names)), np.float32)
        mask = np.zeros(frames.shape, dtype=bool)
        for k, (item, row) in enumerate(zip(labels, frames, strict=True)):
            if item.episode.proprio is not None:
                rows[k], mask[k] = item.episode.proprio[row], True
        return torch.from_numpy(rows), torch.from_numpy(mask)
