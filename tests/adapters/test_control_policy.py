from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from painted_worlds import Painted, Pool, codec, play

from jepa_actions.adapters.stable_worldmodel import ControlPolicy
from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.evaluation.control import Control

STARTS = [(100.0, 60.0), (20.0, 30.0), (200.0, 200.0)]
GOALS = [(130.0, 60.0), (20.0, 8.0), (185.0, 180.0)]
CEM = Control("cem", evaluations=256, horizon=4)


def playing(control: Control = CEM, *, model=None, starts=STARTS, **options) -> tuple[ControlPolicy, Pool]:
    pool = Pool(starts, GOALS[: len(starts)])
    policy = ControlPolicy(model or Painted(codec()), control, **options)
    policy.set_env(pool)
    return policy, pool


@pytest.mark.parametrize("control", [CEM, Control("icem", evaluations=256, horizon=4), Control("inverse")])
def test_it_goes_where_the_goal_pictures_are(control):
    policy, pool = playing(control)
    assert pool.distances().min() > 15
    play(pool, policy, 16)
    assert pool.distances().max() < 5
    assert {one.episodes for one in policy.decided} == {3}
    evaluations = policy.decided[0].evaluations
    assert evaluations == 0 if control.planner == "inverse" else 240 < evaluations <= 256


def test_a_policy_draws_each_episode_from_its_own_seed_and_decision():
    policy, pool = playing(Control("inverse"), seed=3)
    first = play(pool, policy, 4)
    pool.reset(1)
    again = play(pool, policy, 4)
    np.testing.assert_allclose(again[:, 1], first[:, 1], atol=1e-5)
    mean, other = playing(Control("inverse", settings={"noise": 0.0}), seed=3)
    assert np.abs(play(other, mean, 4) - first).max() > 0.01


def test_a_block_is_executed_before_the_next_decision():
    policy, pool = playing(Control("cem", evaluations=64, horizon=4, execute=2))
    for step in range(1, 9):
        play(pool, policy, 1)
        assert len(policy.decided) == -(-step // 4), "two blocks of two steps per decision"


def test_an_episode_that_begins_anew_acts_as_a_first_one():
    policy, pool = playing()
    first = play(pool, policy, 3)  # in the middle of a block
    pool.reset(1)
    later = play(pool, policy, 3)
    np.testing.assert_array_equal(later[:, 1], first[:, 1])
    assert [one.episodes for one in policy.decided] == [3, 3, 1, 2, 1], "who begins anew does not wait for the others"
    undisturbed, other = playing()
    np.testing.assert_allclose(np.concatenate([first, later])[:, 0], play(other, undisturbed, 6)[:, 0], atol=1e-4)


def test_a_history_has_frames_a_model_step_apart_and_the_actions_between_them():
    model = Painted(codec(), history=2)
    policy, pool = playing(model=model)
    taken = play(pool, policy, 6)
    assert [places.shape[1] for places, _ in model.encoded] == [1, 2, 2]
    places, past = model.encoded[-1]
    raw = model.codec.decode(past[:, 0])
    np.testing.assert_allclose(raw, taken[2:4].swapaxes(0, 1), atol=1e-5)
    np.testing.assert_allclose((places[:, 1] - places[:, 0]), raw.sum(dim=1), atol=1.01)  # colours are whole numbers
    pool.reset(0)
    play(pool, policy, 1)
    assert [tuple(places.shape[:2]) for places, _ in model.encoded[3:]] == [(1, 1), (2, 2)]


def test_no_plan_looks_beyond_the_end_of_an_episode():
    model = Painted(codec())
    policy, pool = playing(model=model, steps=7)
    play(pool, policy, 7)
    horizons = [actions.shape[2] for actions in model.imagined]
    assert sorted(set(horizons)) == [1, 2, 3, 4]
    assert horizons == sorted(horizons, reverse=True)


def test_who_is_over_is_left_alone():
    policy, pool = playing()
    play(pool, policy, 2)
    pool.info["terminated"][1] = True
    taken = play(pool, policy, 2)
    assert np.isnan(taken[:, 1]).all()
    assert np.isfinite(taken[:, [0, 2]]).all()
    assert policy.decided[-1].episodes == 2


def test_an_evaluation_from_a_data_set_counts_from_where_its_episodes_were_cut():
    policy, pool = playing()
    pool.info["step_idx"][:] = 40
    pool.info["terminated"] = pool.info["terminated"].astype(np.float32)  # as its data sets have it
    first = play(pool, policy, 1)
    policy_too, pool_too = playing()
    np.testing.assert_array_equal(first, play(pool_too, policy_too, 1))
    play(pool, policy, 1)
    assert len(policy.decided) == 1, "the second step is no new episode"
    pool.info["step_idx"][:] = 30
    play(pool, policy, 1)
    assert len(policy.decided) == 2


def test_the_same_seed_acts_the_same_and_another_one_does_not():
    acted = [play(pool, policy, 2) for policy, pool in (playing(), playing(), playing(seed=1))]
    np.testing.assert_array_equal(acted[0], acted[1])
    assert not np.array_equal(acted[0], acted[2])


def test_what_does_not_fit_is_named():
    pool = Pool(STARTS, GOALS)
    with pytest.raises(ConfigError, match=r"found no environments, expected World.set_policy"):
        ControlPolicy(Painted(codec()), CEM).get_action(pool.info)
    with pytest.raises(ConfigError, match=r"bounds of dx are \[-5, 5\], expected inside the environment's, \[-3, 3\]"):
        ControlPolicy(Painted(codec(radius=5.0)), CEM).set_env(pool)
    for space in (gymnasium.spaces.Discrete(4), gymnasium.spaces.Box(-9, 9, (3,))):
        wrong = SimpleNamespace(num_envs=3, single_action_space=space)
        with pytest.raises(ConfigError, match=r"found the action space .*, expected a Box of 2 numbers: dx, dy"):
            ControlPolicy(Painted(codec()), CEM).set_env(wrong)
    policy, pool = playing()
    for key, hint in (("goal", "wrap it in GoalPicture"), ("pixels", "World"), ("step_idx", "the infos of a World")):
        broken = {name: value for name, value in pool.info.items() if name != key}
        with pytest.raises(ShapeError, match=f"found no '{key}' among .*{hint}"):
            policy.get_action(broken)
    with pytest.raises(ConfigError, match="timeout_ms"):
        ControlPolicy(Painted(codec()), Control(timeout_ms=5.0))


def test_the_model_is_asked_without_a_graph():
    policy, pool = playing()
    policy.model.register_parameter("weight", torch.nn.Parameter(torch.zeros(1)))
    play(pool, policy, 1)
    assert not policy.model.imagined[-1].requires_grad
