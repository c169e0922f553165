"""Published planners: V-JEPA 2-AC's budget, bounds and cost, and what they do to a search."""

import pytest
import torch
from linear_model import Box, LinearModel

from jepa_actions.errors import ConfigError
from jepa_actions.planning import CEM, PRESETS, VJEPA2_AC, Bounded, CEMConfig, LatentCost, Problem


class Target:
    def __init__(self, z):
        self.z = z


def arm():
    """Seven action dimensions that move seven numbers; wide bounds."""
    wide = Box(torch.full((7,), -5.0), torch.full((7,), 5.0))
    return LinearModel(wide, transition=torch.eye(7), control=torch.eye(7))


def test_the_published_settings():
    cem = VJEPA2_AC.cem
    assert (cem.samples, cem.elites, cem.iterations, cem.momentum, cem.returns) == (800, 10, 10, 0.15, "mean")
    assert (VJEPA2_AC.horizon, VJEPA2_AC.execute, VJEPA2_AC.cost) == (1, 1, LatentCost(metric="l1", reduce="last"))
    assert VJEPA2_AC.high == (0.05, 0.05, 0.05, 0.0, 0.0, 0.0, 0.75)
    assert VJEPA2_AC.low == tuple(-x for x in VJEPA2_AC.high)
    assert PRESETS["vjepa2_ac"] is VJEPA2_AC


def test_it_reaches_what_its_bounds_allow_and_never_turns():
    high = torch.tensor(VJEPA2_AC.high)
    model = Bounded(arm(), Box(-high, high))
    goal = torch.tensor([[0.02, -0.3, 0.0, 0.4, 0.4, 0.4, 0.5]])
    problem = Problem(model, torch.zeros(1, 7), Target(goal[:, None]), VJEPA2_AC.cost, VJEPA2_AC.horizon, [0])
    plan = CEM(VJEPA2_AC.cem)(problem)
    expected = torch.tensor([0.02, -0.05, 0.0, 0.0, 0.0, 0.0, 0.5])
    torch.testing.assert_close(plan.actions[0, 0], expected, atol=0.01, rtol=0)
    assert (plan.actions[0, 0, 3:6] == 0).all()
    assert plan.evaluations == 800 * 10 + 1


def test_a_search_that_starts_as_wide_as_its_bounds():
    """One dimension is a thousand times narrower than the other: started in model units it is all at its ends."""
    narrow = torch.tensor([0.002, 2.0])
    model = LinearModel(Box(-narrow, narrow), transition=torch.eye(2), control=torch.diag(torch.tensor([1000.0, 1.0])))
    goal = torch.tensor([[0.9, -0.7]])  # the first dimension's best action is 0.0009
    found = {}
    for init in ("unit", "bounds"):
        config = CEMConfig(samples=64, elites=8, iterations=1, init=init)
        problem = Problem(model, torch.zeros(1, 2), Target(goal[:, None]), LatentCost(), 1, [0])
        found[init] = float(CEM(config)(problem).cost[0])
    assert found["bounds"] < 0.05 < found["unit"] / 4


def test_another_start_is_refused():
    with pytest.raises(ConfigError, match=r"CEMConfig\.init: found 'wide', expected 'unit' or 'bounds'"):
        CEMConfig(init="wide")
