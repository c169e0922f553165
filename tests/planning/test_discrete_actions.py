"""Planners search continuous numbers and are given back actions that a codec with classes can decode."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.planning import CEM, CEMConfig, Problem

MOVES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


class Grid:
    """A point that stays or takes one of four steps, scaled by a number; the context is its place (p, 2)."""

    def __init__(self, codec):
        self.codec, self.seen = codec, []

    @property
    def action_dim(self):
        return self.codec.action_dim

    @property
    def action_bounds(self):
        return self.codec.model_bounds

    def rollout(self, context, actions, generator=None):
        self.seen.append(actions)
        raw = self.codec.decode(actions).flatten(-3, -2)  # (p, s, steps, a)
        moves = MOVES[raw[..., -1].long()]
        if raw.shape[-1] == 2:
            moves = moves * raw[..., :1]
        return SimpleNamespace(z=context[:, None] + moves.sum(2))


def codec(*, mixed, block=1):
    classes = (0, 5) if mixed else (5,)
    names = ("size", "direction")[-len(classes) :]
    low, high = ((-0.0, 0.0)[-len(classes) :], (2.0, 4.0)[-len(classes) :])
    ones = np.ones(len(classes), np.float32)
    return ActionCodec(names, block, ones * 0, ones, ActionBounds("box", low=low, high=high), classes=classes)


@pytest.mark.parametrize(("mixed", "block", "horizon"), [(False, 1, 4), (False, 2, 2), (True, 1, 2)])
def test_cem_plans_with_classes(mixed, block, horizon):
    made = codec(mixed=mixed, block=block)
    model = Grid(made)
    start = torch.zeros(2, 2)
    goal = torch.tensor([[3.0, 1.0], [-2.0, -2.0]]) if not mixed else torch.tensor([[1.5, 0.7], [-1.2, -0.4]])

    def cost(rollout, goal):
        return (rollout.z - goal[:, None]).square().sum(-1)

    config = CEMConfig(samples=256, elites=24, iterations=12, init_std=1.0, min_std=0.2)
    plan = CEM(config)(Problem(model, start, goal, cost, horizon, seeds=[0, 1]))
    assert float(plan.cost.max()) < (0.05 if mixed else 1e-6), "the optimum is 0"
    raw = made.decode(plan.actions)
    assert torch.equal(raw[..., -1], raw[..., -1].round())
    for candidates in [*model.seen, plan.actions]:
        for first, count in made.discrete:
            hot = candidates[..., first : first + count]
            assert ((hot == 0) | (hot == 1)).all()
            assert (hot.sum(-1) == 1).all(), "nothing but valid actions is ever imagined"
