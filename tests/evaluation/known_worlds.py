"""Worlds and models of which everything is known: latents that are the true positions, exact heads and dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from jepa_actions.data import ActionBounds, ActionCodec, Episode, Segment
from jepa_actions.models import InverseConfig
from jepa_actions.training import ActionConfig, DataConfig, EnvConfig, OpenData, open_data

UNIT = 16.0  # px of one latent unit
ROOM = DataConfig(
    path="env:two_room",
    frames=4,
    block=5,
    action=ActionConfig(ball=True),
    env=EnvConfig(episodes=40, heldout_episodes=20),
)


def room() -> OpenData:
    """A little behaviour in TwoRoom."""
    return open_data(ROOM, (64, 64), ("image",))


class Cart:
    """Frames of 4x4 whose red and green are the whole-numbered position; actions are its changes, without walls.

    `switch` adds a gripper that no picture shows.
    """

    name, cameras, fps = "cart", ("image",), 10.0
    proprio_names: tuple[str, ...] | None = None

    def __init__(self, moves: Sequence[np.ndarray], *, switch: bool = False) -> None:
        self.action_names = ("dx", "dy", "gripper") if switch else ("dx", "dy")
        self.positions = [120 + np.concatenate([np.zeros((1, 2)), np.cumsum(m, 0)]) for m in moves]
        assert all(p.min() >= 0 and p.max() <= 255 for p in self.positions), "the cart left its picture"
        rng = np.random.default_rng(7)
        self.actions = [
            np.column_stack([m, rng.choice([-1.0, 1.0], len(m))] if switch else [m]).astype(np.float32) for m in moves
        ]

    def image_size(self, camera: str) -> tuple[int, int]:
        return 4, 4

    def __len__(self) -> int:
        return len(self.actions)

    def lengths(self) -> np.ndarray:
        return np.array([len(p) for p in self.positions], dtype=np.int64)

    def episode(self, i: int) -> Episode:
        return Episode(index=i, length=len(self.positions[i]), actions=self.actions[i], dataset=self.name)

    def read_clips(self, episodes: np.ndarray, frames: np.ndarray) -> dict[str, Tensor]:
        found = np.stack([self.positions[e][f] for e, f in zip(episodes, frames, strict=True)])
        image = torch.zeros(*found.shape[:2], 3, 4, 4, dtype=torch.uint8)
        image[:, :, :2] = torch.from_numpy(found).to(torch.uint8)[..., None, None]
        return {"image": image}


def wander(episodes: int = 6, steps: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Random whole-numbered moves that stay in the picture."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-2, 3, (steps, 2)) for _ in range(episodes)]


def opened(cart: Cart, train: Sequence[Segment], heldout: Sequence[Segment], block: int = 1) -> OpenData:
    return OpenData(cart, tuple(train), cart, tuple(heldout), ActionCodec.fit(cart, train, block=block))


def cart_positions(images: Tensor) -> Tensor:
    return images[:, :, :2, 0, 0].float()


def dot_positions(images: Tensor) -> Tensor:
    """Centre of the red dot, x and y in px."""
    red, pixel = images[:, :, 0].float(), torch.arange(images.shape[-1], dtype=torch.float32)
    x, y = (red * pixel).sum((-1, -2)), (red * pixel[:, None]).sum((-1, -2))
    return torch.stack([x, y], dim=-1) / red.sum((-1, -2))[..., None]


@dataclass
class Latent:
    z: Tensor


class ExactDynamics:
    """Adds up the raw actions, and checks that it was given the past that belongs before the present."""

    def __init__(self, codec: ActionCodec, history: int) -> None:
        self.codec, self.config = codec, SimpleNamespace(history=history)

    def start(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        assert z.shape[1] == actions.shape[1] == self.config.history - 1
        return z, actions

    def rollout(self, z: Tensor, actions: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if cache is not None:
            after = torch.cat([cache[0], z[:, None]], dim=1)[:, 1:]  # where the past actions led to
            torch.testing.assert_close(cache[0] + self.moved(cache[1]), after)
        return z[:, None] + self.moved(actions).cumsum(1)

    def moved(self, actions: Tensor) -> Tensor:
        return self.codec.decode(actions)[..., :2].sum(-2)[:, :, None] / UNIT


class KnownWorld(nn.Module):
    """A `WorldModel` by hand: z is the position in units of 16 px, the inverse head and the dynamics are exact."""

    def __init__(self, codec: ActionCodec, see=dot_positions, history: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.codec, self.see = codec, see
        self.config = SimpleNamespace(inverse=InverseConfig(width=32), cameras=("image",))
        self.grid = (1, 1)
        self.dynamics = ExactDynamics(codec, history)
        self.inverse = self.head

    def encode_frames(self, frames: dict[str, Tensor]) -> Tensor:
        return self.see(frames["image"])[:, :, None] / UNIT

    def head(self, z: Tensor, later: Tensor, gap: Tensor) -> SimpleNamespace:
        raw = torch.zeros(len(z), self.codec.block, len(self.codec.names))
        raw[..., :2] = (later - z) * UNIT / self.codec.block
        return SimpleNamespace(mean=self.codec.encode(raw))

    # planning

    @property
    def action_dim(self) -> int:
        return self.codec.action_dim

    @property
    def action_bounds(self):
        return self.codec.model_bounds

    def encode(self, frames: dict[str, Tensor]) -> Tensor:
        return self.encode_frames(frames)[:, -1]

    def goal(self, frames: dict[str, Tensor]) -> Latent:
        return Latent(self.encode_frames({name: image[:, None] for name, image in frames.items()})[:, 0])

    def rollout(self, context: Tensor, actions: Tensor, generator=None) -> Latent:
        flat = self.dynamics.moved(actions.flatten(0, 1)).cumsum(1)
        return Latent(context[:, None, None] + flat.unflatten(0, actions.shape[:2]))


def nowhere(images: Tensor) -> Tensor:
    """An encoder that sees nothing."""
    return torch.zeros(*images.shape[:2], 2)


BALL = ActionCodec(
    ("dx", "dy"),
    5,
    np.array([0.1, 0.0], np.float32),
    np.array([0.7, 0.8], np.float32),
    ActionBounds("ball", radius=1.8),
)
