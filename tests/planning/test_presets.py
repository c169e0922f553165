"""Published planners: their budgets, costs and horizons, and what V-JEPA 2-AC's bounds do to a search."""

import pytest
import torch
from linear_model import Box, LinearModel

from jepa_actions.errors import ConfigError
from jepa_actions.planning import CEM, MPPI, PRESETS, VJEPA2_AC, Bounded, CEMConfig, LatentCost, MPPIConfig, Problem


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


@pytest.mark.parametrize(
    ("name", "samples", "elites", "iterations", "init_std", "horizon", "execute", "reduce"),
    [
        ("dino_wm", 300, 30, 30, 1.0, 5, 5, "last"),
        ("lewm", 300, 30, 30, 1.0, 5, 5, "last"),
        ("pldm", 2000, 2000, 1, 12**0.5, 96, 1, "sum"),
        ("tdmpc2", 512, 64, 6, 2.0, 3, 1, "sum"),
        ("eb_jepa_mppi", 200, 20, 20, 2.0, 90, 1, "sum"),
        ("eb_jepa_cem", 200, 20, 20, 1.5, 90, 1, "sum"),
    ],
)
def test_the_other_published_settings(name, samples, elites, iterations, init_std, horizon, execute, reduce):
    preset = PRESETS[name]
    config = preset.planner
    assert (config.samples, config.elites, config.iterations, config.init_std) == (
        samples,
        elites,
        iterations,
        init_std,
    )
    assert (preset.horizon, preset.execute, preset.cost) == (horizon, execute, LatentCost("l2", reduce))
    assert config.momentum == 0.0


def test_published_temperatures_divide():
    """TD-MPC2 and eb_jepa multiply by 0.5 and 0.005; PLDM divides by 0.005, and its noise is a variance of 12."""
    temperature = {name: PRESETS[name].planner.temperature for name in ("tdmpc2", "eb_jepa_mppi", "pldm")}
    assert temperature == {"tdmpc2": 1 / 0.5, "eb_jepa_mppi": 1 / 0.005, "pldm": 0.005}
    assert not PRESETS["pldm"].planner.adapt
    cost = torch.tensor([[0.0, 0.3, 1.0]])
    torch.testing.assert_close(PRESETS["tdmpc2"].planner.weights(cost), torch.softmax(-0.5 * cost, 1))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_a_planner_that_plans(name):
    preset = PRESETS[name]
    planner = preset.build()
    assert isinstance(planner, MPPI if isinstance(preset.planner, MPPIConfig) else CEM)
    problem = Problem(arm(), torch.zeros(1, 7), Target(torch.full((1, 1, 7), 8.0)), preset.cost, 2, [0])
    plan = planner(problem)
    assert plan.evaluations == preset.planner.evaluations
    still = preset.cost(problem.model.rollout(problem.context, torch.zeros(1, 1, 2, 7)), problem.goal)
    assert plan.cost < still[:, 0]
    if isinstance(preset.planner, MPPIConfig):
        with pytest.raises(ConfigError, match="preset: found MPPIConfig, expected CEMConfig"):
            preset.cem  # noqa: B018
    else:
        assert preset.cem is preset.planner


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
