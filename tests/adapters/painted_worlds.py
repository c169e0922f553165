"""Environments whose picture's colour is the agent's place, in a pool like stable-worldmodel's."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.models import Context, Goal, InverseConfig, Rollout

SIZE, SHOWN = 8, 16  # px: what the model sees, and what the world shows


def codec(block: int = 2, radius: float = 3.0, **changes) -> ActionCodec:
    fields = {
        "names": ("dx", "dy"),
        "block": block,
        "mean": np.array([0.5, -0.25], np.float32),
        "std": np.array([2.0, 1.5], np.float32),
        "bounds": ActionBounds("ball", radius=radius),
    }
    return ActionCodec(**(fields | changes))


class Painted(nn.Module):
    """Reads the place off the colour, and adds up actions: a perfect model of `Pool`."""

    distance, subgoal = None, None

    def __init__(self, codec: ActionCodec, history: int = 1, cameras: tuple[str, ...] = ("image",)):
        super().__init__()
        self.codec, self.history = codec, history
        self.config = SimpleNamespace(cameras=cameras, backbone=None, encoder=SimpleNamespace(image_size=(SIZE, SIZE)))
        self.goal_inverse = SimpleNamespace(config=InverseConfig(max_gap=8))
        self.encoded: list[tuple[Tensor, Tensor | None]] = []
        self.imagined: list[Tensor] = []

    @property
    def action_dim(self):
        return self.codec.action_dim

    @property
    def action_bounds(self):
        return self.codec.model_bounds

    def encode(self, frames, *, past_actions=None):
        assert frames.shape[2:] == (3, SIZE, SIZE)
        places = frames.float().mean(dim=(-2, -1))[..., :2]
        self.encoded.append((places, past_actions))
        return Context(places[:, -1:], None)

    def goal(self, frames):
        assert frames.shape[1:] == (3, SIZE, SIZE)
        return Goal(frames.float().mean(dim=(-2, -1))[:, None, :2])

    def rollout(self, context, actions, generator=None):
        self.imagined.append(actions)
        moved = self.codec.decode(actions, exact=False).sum(dim=-2)
        return Rollout((context.z[:, None] + moved.cumsum(dim=2)).unsqueeze(-2), context.z, actions)

    def goal_actions(self, z, z_goal, k=None, before=None):
        raw = ((z_goal - z)[:, 0] / self.codec.block)[:, None].expand(-1, self.codec.block, -1)
        mean = self.codec.encode(raw)
        return SimpleNamespace(mean=mean, std=torch.full_like(mean, 0.1))


def paint(place) -> np.ndarray:
    picture = np.zeros((SHOWN, SHOWN, 3), np.uint8)
    picture[..., :2] = np.clip(np.round(place), 0, 255)
    return picture


class Pool:
    """n worlds without walls, with the infos of stable-worldmodel's `EnvPool`: arrays (n, 1, ...), changed in place."""

    def __init__(self, starts, goals, reach: float = 3.0):
        self.starts, self.goals = np.array(starts, float), np.array(goals, float)
        self.num_envs = len(self.starts)
        self.single_action_space = gymnasium.spaces.Box(-reach, reach, (2,), np.float32)
        self.places, self.steps = self.starts.copy(), np.zeros(self.num_envs, int)
        self.info: dict[str, np.ndarray] = {}
        self.taken: list[np.ndarray] = []
        for row in range(self.num_envs):
            self.reset(row)

    def reset(self, row, start=None):
        self.places[row] = self.starts[row] if start is None else start
        self.steps[row] = 0
        self._show(row)

    def step(self, actions):
        self.taken.append(actions.copy())
        for row in range(self.num_envs):
            if not self.info["terminated"][row, 0]:
                self.places[row] += np.clip(actions[row], -3, 3)
                self.steps[row] += 1
                self._show(row)

    def _show(self, row):
        shown = {
            "pixels": paint(self.places[row]),
            "goal": paint(self.goals[row]),
            "step_idx": np.int64(self.steps[row]),
            "terminated": np.bool_(False),
            "truncated": np.bool_(False),
        }
        for key, value in shown.items():
            if key not in self.info:
                self.info[key] = np.zeros((self.num_envs, 1, *np.shape(value)), np.asarray(value).dtype)
            self.info[key][row, 0] = value

    def distances(self):
        return np.linalg.norm(self.goals - self.places, axis=1)


def play(pool: Pool, policy, steps: int) -> np.ndarray:
    """The actions of so many steps, (steps, n, 2)."""
    first = len(pool.taken)
    for _ in range(steps):
        pool.step(policy.get_action(pool.info))
    return np.stack(pool.taken[first:])


def solver_info(starts, goals, samples: int, frames: int = 1) -> dict[str, Tensor]:
    """What a solver gives a model: every problem repeated along a second axis."""
    shown = {"pixels": starts, "goal": goals}
    info = {}
    for key, places in shown.items():
        pictures = torch.from_numpy(np.stack([paint(place) for place in places]))[:, None]
        pictures = pictures.expand(-1, frames if key == "pixels" else 1, -1, -1, -1)
        info[key] = pictures[:, None].expand(-1, samples, -1, -1, -1, -1)
    return info
