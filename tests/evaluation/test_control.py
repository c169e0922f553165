"""How an evaluation decides, from words: planners, costs, and the inverse head by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_world import random_frames, tiny_codec, tiny_world

from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import LatentAgent, PolicyAgent
from jepa_actions.evaluation.control import Control, latent_agent, make_cost, oracle_agent, parse_control
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.tasks import make_tasks
from jepa_actions.models import DistanceConfig, InverseConfig
from jepa_actions.planning import CEM, MPPI, PRESETS, LatentCost, TemporalCost

GOALS = {"distance": DistanceConfig(width=16, depth=1), "goal_inverse": InverseConfig(width=16, max_gap=6)}


def test_words_are_fields_and_settings():
    found = parse_control("cem:evaluations=192,proposals=8,fuse=true,cost=l2,reach=false,init_std=0.5")
    assert found == Control(evaluations=192, proposals=8, fuse=True, cost="l2", reach=False, settings={"init_std": 0.5})
    planner = found.make_planner()
    assert isinstance(planner, CEM)
    assert planner.config.evaluations <= 192
    assert planner.config.init_std == 0.5
    assert isinstance(parse_control("mppi").make_planner(), MPPI)
    assert parse_control("inverse") == Control(planner="inverse")


def test_what_is_left_out_is_as_in_the_base():
    base = Control(cost="l1", horizon=7, settings={"samples": 32, "elites": 4})
    found = parse_control("cem:execute=2,elites=8", base)
    assert found == replace(base, execute=2, settings={"samples": 32, "elites": 8})
    other = parse_control("random:horizon=3", base)
    assert other == replace(base, planner="random", horizon=3, settings={}), "settings are one planner's own"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("mpii", "planner: found 'mpii', did you mean 'mppi'"),
        ("dino-wn", "planner: found 'dino-wn', did you mean 'dino_wm'"),
        (
            "zzz",
            "known: random, cem, icem, mppi, mppi_classical, gradient, hybrid, cmaes; published: vjepa2_ac, dino_wm,",
        ),
        ("zzz", "policies: inverse, subgoal"),
        ("lewm:sampels=8", "planner lewm: unknown setting 'sampels', did you mean 'samples'"),
        ("cem:horizon=0", "found horizon 0 and execute 1, expected 1 <= execute <= horizon"),
        ("dino_wm:horizon=3", "planner dino_wm: found horizon 3 and execute 5"),
        ("cem:sampels=8", "unknown setting 'sampels', did you mean 'samples'"),
        ("cem:samples", "planner 'cem:samples': found 'samples', expected key=value"),
        ("cem:evaluations=many", "evaluations: found 'many', expected int"),
        ("cem:evaluations=2.5", "evaluations: found 2.5, expected int"),
        ("cem:proposals=true", "proposals: found True, expected int"),
        ("cem:reach=1", "reach: found 1, expected bool"),
        ("cem:cost=l3", "cost: found 'l3', expected one of auto, l2, l1, cosine, temporal"),
        ("cem:fuse=true", "fuse: found true and no proposals"),
        ("cem:samples=4,elites=8", "1 <= elites <= samples"),
    ],
)
def test_words_that_mean_nothing_are_one_line(words, message):
    with pytest.raises(ConfigError) as caught:
        parse_control(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_planner_goes_by_name_with_all_that_was_published(name):
    preset, model = PRESETS[name], tiny_world(**GOALS)
    found = parse_control(name).resolved(model)
    assert found.make_planner().config == preset.planner
    assert (found.horizon, found.execute, found.warm_start) == (preset.horizon, preset.execute, preset.warm_start)
    assert make_cost(found, model) == preset.cost, "although this model has a temporal distance"
    assert found.resolved(model) == found


def test_what_is_asked_for_wins_over_what_was_published():
    model = tiny_world(**GOALS)
    found = parse_control("dino_wm:samples=40,elites=4,horizon=7,execute=1,cost=temporal,warm_start=false").resolved(
        model
    )
    planner = found.make_planner()
    assert (planner.config.samples, planner.config.elites, planner.config.iterations) == (40, 4, 30)
    assert planner.config.returns == "mean"
    assert (found.horizon, found.execute, found.cost, found.reduce) == (7, 1, "temporal", "sum")
    assert not found.warm_start
    assert parse_control("lewm:evaluations=100").make_planner().config.evaluations <= 100
    assert parse_control("tdmpc2:cost=l1").resolved(model).reduce == "sum"


@pytest.mark.parametrize(("name", "warm"), [("eb_jepa_cem", False), ("tdmpc2", True), ("cem", True)])
def test_a_published_planner_begins_as_published(name, warm):
    model = tiny_world(tiny_codec(block=2))
    control = parse_control(f"{name}:samples=8,elites=2,iterations=2").resolved(model)
    agent = latent_agent(control, model, model.codec, random_frames(2, 3, 16, 16), seed=0, history=1, budget=9)
    agent.act(random_frames(2, 3, 16, 16))
    mpc = agent._executor.mpc
    assert (mpc.horizon, mpc.execute) == (control.horizon, control.execute)
    assert (mpc._next is not None) == warm


@pytest.mark.parametrize("words", ["inverse:samples=4", "inverse:evaluations=64", "subgoal:proposals=4"])
def test_a_policy_takes_no_settings_of_a_search(words):
    with pytest.raises(ConfigError, match="expected no settings of a search: it is a policy"):
        parse_control(words)


@pytest.mark.parametrize(("value", "expected"), [("-1", "0 or more"), ("true", "a number"), ("much", "a number")])
def test_a_policys_noise_is_checked(value, expected):
    with pytest.raises(ConfigError, match=rf"planner inverse.noise: found .*expected {expected}"):
        parse_control(f"inverse:noise={value}")


@pytest.mark.parametrize("words", ["inverse", "inverse:noise=0"])
def test_a_policy_draws_anew_at_each_decision_and_for_each_task(words):
    """The same picture four times over: of the mean nothing changes, a draw always does, and is the same alone."""
    model, frame = tiny_world(tiny_codec(block=2), **GOALS), random_frames(1, 3, 16, 16).expand(4, -1, -1, -1)
    control = parse_control(words).resolved(model)

    def acts(rows):
        agent = latent_agent(
            control, model, model.codec, frame[rows], seed=7, history=1, budget=9, first=range(4)[rows][0]
        )
        return torch.stack([agent.act(frame[rows]) for _ in range(2)], dim=1).flatten(2)

    found = acts(slice(0, 4))
    different = {tuple(action) for action in found.flatten(0, 1).tolist()}
    assert len(different) == (1 if "noise" in words else 8)
    assert torch.equal(acts(slice(2, 3)), found[2:3])


def test_the_cost_is_the_temporal_distance_where_it_was_learned():
    plain, learned = tiny_world(), tiny_world(**GOALS)
    assert Control().resolved(plain).cost == "l2"
    assert Control().resolved(learned).cost == "temporal"
    assert Control(cost="l1").resolved(learned).cost == "l1"
    assert Control().resolved(plain).reduce == "last"
    assert Control().resolved(learned).reduce == "sum"
    assert Control(reduce="last").resolved(learned).reduce == "last"
    with pytest.raises(ConfigError, match="cost temporal: this model has no temporal distance"):
        Control(cost="temporal").resolved(plain)
    cost = make_cost(Control(reduce="sum").resolved(learned), learned)
    assert isinstance(cost, TemporalCost)
    assert (cost.reduce, cost.reach) == ("sum", float(learned.distance.reach))
    unpunished = make_cost(Control(reach=False).resolved(learned), learned)
    assert isinstance(unpunished, TemporalCost)
    assert unpunished.reach is None
    assert make_cost(Control(cost="cosine"), plain) == LatentCost("cosine", "last")


@pytest.mark.parametrize(
    "words", ["cem:samples=8,elites=2,iterations=2,proposals=3", "cem:samples=8,elites=2", "inverse"]
)
def test_a_real_model_decides_every_way(words):
    model, goals = tiny_world(tiny_codec(block=2), **GOALS), random_frames(3, 3, 16, 16)
    control = parse_control(words).resolved(model)
    agent = latent_agent(control, model, model.codec, goals, seed=0, history=1, budget=4)
    assert isinstance(agent, PolicyAgent if words == "inverse" else LatentAgent)
    assert agent.observes == "frames"
    for step in range(2):
        actions = agent.act(random_frames(3, 3, 16, 16, seed=step))
        assert actions.shape == (3, 2, 2)
        assert (actions.abs() <= torch.tensor([3.0, 1.0]) + 1e-4).all()
    costs = [0, 0] if words == "inverse" else agent.decisions.evaluations
    assert agent.decisions.evaluations == costs
    assert len(agent.decisions.seconds) == len(agent.decisions.encoding) == 2
    assert (agent.decisions.predicted is None) == (words == "inverse")


def test_what_a_model_lacks_is_named():
    model = tiny_world(tiny_codec(block=2))
    for words in ("inverse", "cem:proposals=4"):
        with pytest.raises(ConfigError, match="no goal-conditioned inverse head"):
            latent_agent(
                parse_control(words).resolved(model),
                model,
                model.codec,
                random_frames(2, 3, 16, 16),
                seed=0,
                history=1,
                budget=4,
            )


def test_a_description_is_for_json():
    found = parse_control("cem:proposals=4,samples=16").describe()
    assert found["planner"] == "cem"
    assert found["settings"] == {"samples": 16}
    assert found["proposals"] == 4


def test_an_oracle_that_knows_the_way_passes_doors_and_one_that_does_not_stands_at_the_wall():
    from known_worlds import BALL

    world, protocol = TwoRoomWorld(), replace(load_protocol("two_room/cross_room"), budget=120)
    tasks = make_tasks(protocol, 8, seed=0)
    success = []
    for cost in ("temporal", "l2"):
        control = parse_control(f"cem:samples=48,elites=8,iterations=3,cost={cost}")
        agent = oracle_agent(control, world, BALL, tasks, seed=0, budget=24)
        success.append(play(tasks, agent, world, protocol).solved.float().mean())
    assert success[0] >= 0.85
    assert success[1] < success[0] - 0.2
