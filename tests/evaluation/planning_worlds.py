"""Models of which everything is known, with all that an evaluation of planning asks of a model."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from known_worlds import BALL, UNIT, KnownWorld, dot_positions
from torch import Tensor

from jepa_actions.models import Context, Goal, InverseConfig, Rollout


class StraightLine:
    """TwoRoom without walls: reads the dot's place off the picture and adds up actions.

    `offset` px per model step is a fault of its dynamics, `scale` another one. `encoded` is what it was shown: frames
    and the model actions between them.
    """

    history = 1

    def __init__(self, codec=BALL, scale=1.0, offset=(0.0, 0.0), goals=False):
        self.codec, self.scale, self.offset = codec, scale, torch.tensor(offset)
        self.goal_inverse = SimpleNamespace(config=InverseConfig(max_gap=8)) if goals else None
        self.encoded: list[tuple[Tensor, Tensor | None]] = []

    @property
    def action_dim(self):
        return self.codec.action_dim

    @property
    def action_bounds(self):
        return self.codec.model_bounds

    def encode(self, frames, *, past_actions=None):
        assert frames.dtype == torch.uint8
        assert frames.shape[2:] == (3, 64, 64)
        self.encoded.append((frames, past_actions))
        return Context(dot_positions(frames[:, -1:]), None)

    def goal(self, frames):
        return Goal(dot_positions(frames[:, None]))

    def rollout(self, context, actions, generator=None):
        moved = self.codec.decode(actions).sum(dim=-2) * self.scale + self.offset
        return Rollout((context.z[:, None] + moved.cumsum(dim=2)).unsqueeze(-2), context.z, actions)

    def branch(self, context, count):
        return Context(context.z.repeat_interleave(count, dim=0), None)

    def advance(self, context, action):
        return Context(self.rollout(context, action[:, None, None]).z[:, 0, 0], None, context.z)

    def goal_actions(self, z, z_goal, k=None, before=None):
        steps = (z_goal - z)[:, 0].norm(dim=-1).div(1.8 * self.codec.block).ceil().clamp_min(1.0)
        raw = ((z_goal - z)[:, 0] / steps[:, None] / self.codec.block)[:, None].expand(-1, self.codec.block, -1)
        mean = self.codec.encode(raw)
        return SimpleNamespace(mean=mean, std=torch.full_like(mean, 0.1))


class Traveller(KnownWorld):
    """`KnownWorld` that plans from latents: its contexts are those of a `WorldModel`."""

    goal_inverse, distance = None, None

    def __init__(self, codec, see=dot_positions, history=1, max_gap=1):
        super().__init__(codec, see, history)
        self.history = history
        self.config = SimpleNamespace(
            inverse=InverseConfig(width=32, max_gap=max_gap),
            cameras=("image",),
            rollout=SimpleNamespace(precision="float32"),
        )
        self.dynamics.config.proprio = 0
        self.asked: list[int] = []

    def rollout(self, context: Context, actions: Tensor, generator=None) -> Rollout:
        moved = self.dynamics.moved(actions.flatten(0, 1)).cumsum(1).unflatten(0, actions.shape[:2])
        return Rollout(context.z[:, None, None] + moved, context.z, actions)

    def encode(self, frames, *, past_actions=None) -> Context:
        return Context(self.encode_frames({"image": frames})[:, -1], None)

    def context(self, z: Tensor, past_actions: Tensor, proprio: Tensor | None = None) -> Context:
        cache = self.dynamics.start(z[:, :-1], past_actions)
        return Context(z[:, -1], cache, z[:, -2] if z.shape[1] > 1 else None)

    def goal(self, frames) -> Goal:
        return Goal(self.encode_frames({"image": frames[:, None]})[:, 0])

    def infer_actions(self, z: Tensor, z_goal: Tensor, k: int) -> SimpleNamespace:
        assert k <= self.config.inverse.max_gap
        self.asked.append(k)
        raw = torch.zeros(len(z), self.codec.block, len(self.codec.names))
        raw[..., :2] = (z_goal - z) * UNIT / self.codec.block / k
        return SimpleNamespace(mean=self.codec.encode(raw))
