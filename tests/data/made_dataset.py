"""A data set made of arrays, for tests of what looks at any data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jepa_actions.data import Episode
from jepa_actions.data.types import VideoDataset, check_clips
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError


class MadeDataset(Viewable):
    """Episodes as given; frame f of episode e is a noise picture of its own, or `pictures[e]` (T, H, W, 3)."""

    name, fps = "made", 10.0

    def __init__(
        self,
        episodes: Sequence[Episode],
        *,
        action_names: Sequence[str] | None = ("dx", "dy"),
        proprio_names: Sequence[str] | None = None,
        pictures: dict[int, np.ndarray] | None = None,
        cameras: Sequence[str] = ("front",),
    ) -> None:
        self.episodes = list(episodes)
        self.action_names = None if action_names is None else tuple(action_names)
        self.proprio_names = None if proprio_names is None else tuple(proprio_names)
        self.cameras = tuple(cameras)
        self.pictures = {}
        for e, episode in enumerate(self.episodes):
            noise = np.random.default_rng(e).integers(0, 256, (episode.length, 16, 24, 3), dtype=np.uint8)
            self.pictures[e] = (pictures or {}).get(e, noise)

    def image_size(self, camera: str) -> tuple[int, int]:
        return (16, 24)

    def __len__(self) -> int:
        return len(self.episodes)

    def lengths(self) -> np.ndarray:
        return np.array([episode.length for episode in self.episodes], dtype=np.int64)

    def episode(self, i: int) -> Episode:
        if not 0 <= i < len(self):
            raise DataError(f"made: episode {i} asked for, expected 0 to {len(self) - 1}")
        return self.episodes[i]

    def read_clips(self, episodes: np.ndarray, frames: np.ndarray) -> dict[str, Tensor]:
        check_clips(self.lengths(), episodes, frames, self.name)
        clips = np.stack([self.pictures[int(e)][row] for e, row in zip(episodes, frames, strict=True)])
        images = torch.from_numpy(clips).permute(0, 1, 4, 2, 3)
        return {camera: images if k == 0 else 255 - images for k, camera in enumerate(self.cameras)}

    def without_labels(self) -> VideoDataset:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return combined(self.name, len(self))


def made_episode(i: int, length: int = 16, dims: int = 2, **more: object) -> Episode:
    """Random actions of `dims` dimensions."""
    rng = np.random.default_rng(100 + i)
    actions = rng.normal(size=(length - 1, dims)).astype(np.float32)
    return Episode(**{"index": i, "length": length, "actions": actions, "text": f"task {i}", **more})  # type: ignore[arg-type]
