"""Behaviour in TwoRoom as a video data set, made on the spot: what `env:two_room` means."""

import hashlib
from dataclasses import asdict

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor, from_numpy

from jepa_actions.data import Episode, FramesOnly, VideoDataset, Viewable, combined
from jepa_actions.envs import TwoRoomConfig, TwoRoomEpisodes, generate_episodes, render
from jepa_actions.training.config import EnvConfig

HELDOUT_SEED = 1_000_003  # added to the seed of held-out behaviour, so that no episode is drawn twice


class TwoRoomDataset(Viewable):
    """Behaviour in TwoRoom as a video data set: positions are kept, frames are rendered when a clip is read."""

    name = "env:two_room"
    cameras = ("image",)
    fps = 10.0
    action_names = ("dx", "dy")
    proprio_names: tuple[str, ...] | None = None

    def __init__(self, episodes: TwoRoomEpisodes, config: TwoRoomConfig | None = None) -> None:
        self.episodes = episodes
        self.config = config or TwoRoomConfig()

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.config.image_size, self.config.image_size

    def __len__(self) -> int:
        return len(self.episodes.positions)

    def lengths(self) -> np.ndarray:
        count, frames = self.episodes.positions.shape[:2]
        return np.full(count, frames, dtype=np.int64)

    def episode(self, i: int) -> Episode:
        return Episode(
            index=i,
            length=self.episodes.positions.shape[1],
            actions=self.episodes.actions[i].numpy(),
            dataset=self.name,
        )

    def states(self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]) -> tuple[Tensor, Tensor, Tensor]:
        """True positions `(b, t, 2)` in px, wall x `(b,)` and door y `(b,)`; for evaluation only."""
        rows = from_numpy(np.asarray(episodes))
        positions = self.episodes.positions[rows[:, None], from_numpy(np.asarray(frames))]
        return positions, self.episodes.wall_x[rows], self.episodes.door_y[rows]

    def same_layout(self, one: int, other: int) -> bool:
        """Whether two episodes have the same wall and door."""
        e = self.episodes
        return bool(e.wall_x[one] == e.wall_x[other]) and bool(e.door_y[one] == e.door_y[other])

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        positions, wall_x, door_y = self.states(episodes, frames)
        steps = positions.shape[1]
        images = render(
            positions.flatten(0, 1), wall_x.repeat_interleave(steps), door_y.repeat_interleave(steps), self.config
        )
        return {"image": images.unflatten(0, positions.shape[:2])}

    def without_labels(self) -> VideoDataset:
        """The same frames without actions and without the positions they are drawn from: drawn once into memory."""
        return FramesOnly(self)

    def fingerprint(self) -> str:
        """Of every position, action and layout."""
        e = self.episodes
        parts = [tensor.contiguous().numpy().tobytes() for tensor in (e.positions, e.actions, e.wall_x, e.door_y)]
        return combined(self.name, asdict(self.config), [hashlib.sha256(part).hexdigest() for part in parts])


def two_room_dataset(config: EnvConfig, *, heldout: bool = False) -> TwoRoomDataset:
    """Behaviour episodes of TwoRoom; held-out ones live in layouts that training never sees."""
    return TwoRoomDataset(
        generate_episodes(
            config.heldout_episodes if heldout else config.episodes,
            steps=config.steps,
            seed=config.seed + (HELDOUT_SEED if heldout else 0),
            crossing_rate=config.crossing_rate,
            layouts="heldout" if heldout else "train",
            episodes_per_layout=config.episodes_per_layout,
        )
    )
