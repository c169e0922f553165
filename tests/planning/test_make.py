"""Planners by name and by budget."""

import pytest
from planner_names import SAMPLING

from jepa_actions.errors import ConfigError
from jepa_actions.planning import (
    CEM,
    MPPI,
    PLANNERS,
    CEMConfig,
    build_planner,
    make_planner,
    planner_config,
    with_budget,
)


def test_names_and_settings():
    planner = make_planner("cem", samples=40, elites=5)
    assert isinstance(planner, CEM)
    assert planner.config == CEMConfig(samples=40, elites=5)
    assert isinstance(make_planner("mppi_classical"), MPPI)
    assert not make_planner("mppi_classical").config.adapt
    assert planner_config("hybrid", gradient={"lr": 0.5}).gradient.lr == 0.5
    assert set(PLANNERS) == {"random", "cem", "icem", "mppi", "mppi_classical", "gradient", "hybrid", "cmaes"}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("icme", {}, "planner: found 'icme', did you mean 'icem'"),
        ("zzz", {}, "planner: found 'zzz'; known: random, cem"),
        ("cem", {"sample": 3}, "planner cem: unknown setting 'sample', did you mean 'samples'"),
        ("hybrid", {"gradient": {"step": 3}}, "planner hybrid.gradient: unknown setting 'step', did you mean 'steps'"),
    ],
)
def test_unknown_ones_name_the_nearest(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_planner(name, **settings)


def test_settings_that_are_no_planners():
    with pytest.raises(ConfigError, match="found settings of type dict"):
        build_planner({})


@pytest.mark.parametrize("evaluations", [24, 100, 768, 2000, 5001])
@pytest.mark.parametrize("name", [n for n in PLANNERS if n != "hybrid"])
def test_a_budget_is_kept_and_used(name, evaluations):
    found = with_budget(PLANNERS[name], evaluations).evaluations
    assert 0.65 * evaluations <= found <= evaluations
    assert evaluations < 768 or found > 0.96 * evaluations


@pytest.mark.parametrize("evaluations", [64, 200, 768, 2000])
def test_both_halves_of_hybrid_share_a_budget(evaluations):
    config = with_budget(PLANNERS["hybrid"], evaluations)
    assert 0.85 * evaluations <= config.evaluations <= evaluations
    assert 0.3 < config.sampling.evaluations / config.evaluations < 0.7


@pytest.mark.parametrize("name", SAMPLING)
def test_a_larger_budget_means_more_of_both(name):
    small, large = PLANNERS[name], planner_config(name, evaluations=4 * PLANNERS[name].evaluations)
    assert large.iterations >= 1.8 * small.iterations
    assert large.samples > 1.5 * small.samples
    assert large.elites / large.samples == pytest.approx(small.elites / small.samples, rel=0.05)


@pytest.mark.parametrize("name", PLANNERS)
def test_too_small_a_budget_is_refused(name):
    with pytest.raises(ConfigError, match="a budget of 1 evaluations is too small"):
        planner_config(name, evaluations=1)
