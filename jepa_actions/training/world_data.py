"""Behaviour in a simulator as a video data set, made on the spot: what `env:NAME` means."""

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, from_numpy

from jepa_actions.data import Episode, FramesOnly, VideoDataset, Viewable, combined
from jepa_actions.envs.two_room_geometry import TwoRoomConfig
from jepa_actions.envs.world import Behaviour, World
from jepa_actions.envs.worlds import make_world
from jepa_actions.errors import ConfigError
from jepa_actions.training.config import EnvConfig

HELDOUT_SEED = 1_000_003  # added to the seed of held-out behaviour, so that no episode is drawn twice
TWO_ROOM_ONLY = ("crossing_rate", "accidental_crossings", "push", "distractors")


class WorldDataset(Viewable):
    """Behaviour in a world as a video data set: states are kept, frames are rendered when a clip is read."""

    cameras = ("image",)
    proprio_names: tuple[str, ...] | None = None

    def __init__(self, world: World, behaviour: Behaviour) -> None:
        self.world, self.behaviour = world, behaviour
        self.name = f"env:{world.name}"
        self.fps, self.action_names = world.fps, world.action_names

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.world.image_size, self.world.image_size

    def __len__(self) -> int:
        return len(self.behaviour)

    def lengths(self) -> np.ndarray:
        count, frames = self.behaviour.states.shape[:2]
        return np.full(count, frames, dtype=np.int64)

    def episode(self, i: int) -> Episode:
        return Episode(
            index=i,
            length=self.behaviour.states.shape[1],
            actions=self.behaviour.actions[i].numpy(),
            dataset=self.name,
        )

    def states(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> tuple[Float[Tensor, "b t s"], Float[Tensor, "b l"]]:
        """True states and layouts of these frames; for evaluation only."""
        rows = from_numpy(np.asarray(episodes))
        return self.behaviour.states[rows[:, None], from_numpy(np.asarray(frames))], self.behaviour.layouts[rows]

    def scenes(self) -> Int64[np.ndarray, "e"]:
        """A number per episode; episodes with the same one show the same layout."""
        layouts = self.behaviour.layouts.numpy()
        if not layouts.shape[1]:
            return np.zeros(len(layouts), dtype=np.int64)
        return np.unique(layouts, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def same_layout(self, one: int, other: int) -> bool:
        """Whether two episodes show the same layout."""
        return bool((self.behaviour.layouts[one] == self.behaviour.layouts[other]).all())

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        states, layouts = self.states(episodes, frames)
        return {"image": self.world.render(states, layouts[:, None])}

    def without_labels(self) -> VideoDataset:
        """The same frames without actions and without the states they are drawn from: drawn once into memory."""
        return FramesOnly(self)

    def fingerprint(self) -> str:
        """Of every state, action and layout, and of what draws them."""
        b = self.behaviour
        parts = [tensor.contiguous().numpy().tobytes() for tensor in (b.states, b.actions, b.layouts)]
        config = getattr(self.world, "config", None)
        drawn = [repr(config)]
        if isinstance(config, TwoRoomConfig) and config.distractors is not None:
            drawn.append(repr(config.distractors))
        return combined(self.name, *drawn, [hashlib.sha256(part).hexdigest() for part in parts])


def world_of(name: str, config: EnvConfig) -> World:
    """The world behind `env:NAME`, with the behaviour that the recipe describes.

    Raises:
        ConfigError: for an unknown world, or a setting that is another world's.
    """
    defaults = EnvConfig()
    chosen: dict[str, Any] = {key: getattr(config, key) for key in TWO_ROOM_ONLY}
    if name == "two_room":
        return make_world(name, config=TwoRoomConfig(distractors=chosen.pop("distractors")), **chosen)
    for key, value in chosen.items():
        if value != getattr(defaults, key):
            raise ConfigError(f"data.env.{key}: found {value!r} with env:{name}, expected none: it is for env:two_room")
    return make_world(name)


def world_dataset(name: str, config: EnvConfig, *, heldout: bool = False) -> WorldDataset:
    """Behaviour episodes of a world; held-out ones live in layouts that training never sees."""
    world = world_of(name, config)
    return WorldDataset(
        world,
        world.behaviour(
            config.heldout_episodes if heldout else config.episodes,
            steps=config.steps,
            seed=config.seed + (HELDOUT_SEED if heldout else 0),
            split="heldout" if heldout else "train",
            episodes_per_layout=config.episodes_per_layout,
        ),
    )
