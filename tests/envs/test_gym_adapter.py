"""TwoRoom as a gymnasium environment: the checker accepts it, and the batch does what single environments do."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import jepa_actions.envs
from jepa_actions.envs import TwoRoomConfig, render
from jepa_actions.envs.gym_adapter import TwoRoomEnv
from jepa_actions.envs.gym_vector import TwoRoomVectorEnv
from jepa_actions.errors import ConfigError, DataError, ShapeError

ID = "jepa_actions/TwoRoom-v0"
assert jepa_actions.envs  # importing the room registers the id


def same(found: Any, expected: Any, where: str = "") -> None:
    """Assert that two nests of dicts, tuples, arrays and numbers are equal."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key in expected:
            same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, tuple) or (isinstance(expected, np.ndarray) and expected.dtype == object):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            same(a, b, f"{where}/{i}")
    else:
        np.testing.assert_array_equal(found, expected, err_msg=where)


def test_check_env_accepts_it() -> None:
    env = gymnasium.make(ID).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")  # ours is in px, on purpose
        check_env(env)


def test_observation_info_and_episode_end() -> None:
    env = gymnasium.make(ID, render_mode="rgb_array")
    options = {"wall_x": 30, "door_y": 40, "start": (10.0, 10.0), "goal": (18.0, 10.0)}
    observation, info = env.reset(seed=0, options=options)
    assert info["position"].tolist() == [10.0, 10.0]
    assert info["goal_position"].tolist() == [18.0, 10.0]
    assert (float(info["wall_x"]), float(info["door_y"])) == (30.0, 40.0)
    assert not info["success"]
    goal = render(torch.tensor([18.0, 10.0]), torch.tensor(30.0), torch.tensor(40.0), TwoRoomConfig())
    np.testing.assert_array_equal(observation["goal"], goal.permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(env.render(), observation["image"])
    observation, reward, terminated, truncated, info = env.step(np.array([2.0, 0.0], dtype=np.float32))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation["image"][10, 12].tolist() == [255, 0, 0]
    observation, reward, terminated, truncated, info = env.step(np.array([2.0, 0.0], dtype=np.float32))
    assert (reward, terminated, truncated) == (1.0, True, False)  # 4 px from the goal
    assert info["success"]


def test_an_episode_is_cut_after_200_steps() -> None:
    env = gymnasium.make(ID)
    env.reset(seed=0, options={"different_rooms": True})
    ends = [env.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(200)]
    assert ends[-2:] == [(False, False), (False, True)]


def test_reset_options() -> None:
    env = TwoRoomEnv(layouts="heldout")
    for seed in range(20):
        _, info = env.reset(seed=seed, options={"different_rooms": True})
        assert (info["position"][0] < info["wall_x"]) != (info["goal_position"][0] < info["wall_x"])
        assert jepa_actions.envs.is_heldout(int(info["wall_x"]), int(info["door_y"]))
        _, info = env.reset(options={"different_rooms": True, "goal": (6.0, 6.0), "layouts": "train"})
        assert info["position"][0] > info["wall_x"]
        assert not jepa_actions.envs.is_heldout(int(info["wall_x"]), int(info["door_y"]))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stat": (1, 1)}, ConfigError, "'stat' is unknown, expected any of layouts"),
        ({"wall_x": 5}, ConfigError, "found 5, expected an integer from 20 to 44"),
        ({"door_y": 20.5}, ConfigError, "found 20.5"),
        ({"layouts": "test"}, ConfigError, "found 'test'"),
        ({"goal": (1, 2, 3)}, ShapeError, r"goal: found shape \(3,\)"),
        ({"start": (1.0, 2.0)}, DataError, r"start: found \[1.0, 2.0\]"),
        ({"goal": (float("nan"), 2.0)}, DataError, "goal: found"),
        ({"start": (6, 6), "goal": (7, 7), "different_rooms": True}, ConfigError, "one room"),
    ],
)
def test_bad_reset_options_are_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        TwoRoomEnv().reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (np.zeros(3), ShapeError, r"found shape \(3,\).*expected \(2,\)"),
        (np.zeros((1, 2)), ShapeError, r"found shape \(1, 2\)"),
        (np.array([np.nan, 0.0]), DataError, r"found \[nan, 0.0\]"),
        (np.array([0.0, np.inf]), DataError, "expected finite"),
        ("left", ShapeError, "str that is not numeric"),
    ],
)
def test_bad_actions_are_named(action: Any, error: type[Exception], words: str) -> None:
    env = TwoRoomEnv()
    env.reset(seed=0)
    with pytest.raises(error, match=words):
        env.step(action)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_batch_equals_single_environments_step_for_step(mode: AutoresetMode) -> None:
    n, limit = 5, 12
    batch = TwoRoomVectorEnv(n, max_episode_steps=limit, autoreset_mode=mode)
    single = SyncVectorEnv([lambda: gymnasium.make(ID, max_episode_steps=limit)] * n, autoreset_mode=mode)
    assert batch.single_observation_space == single.single_observation_space
    assert batch.action_space == single.action_space
    same(batch.reset(seed=4), single.reset(seed=4))
    rng = np.random.default_rng(0)
    finished = successes = 0
    for _ in range(60):
        info = batch.world.get_state(), batch._goal
        towards = (info[1] - info[0].position).numpy() + rng.normal(size=(n, 2))
        actions = np.clip(towards, -2.45, 2.45).astype(np.float32)
        found, expected = batch.step(actions), single.step(actions)
        for part in range(5):
            same(found[part], expected[part], str(part))
            if isinstance(expected[part], np.ndarray):
                assert found[part].dtype == expected[part].dtype
        finished += int((found[2] | found[3]).sum())
        successes += int(found[2].sum())
    assert finished > 10  # episodes did end, both ways
    assert 0 < successes < finished
    same(batch.reset(seed=[7, None, 7, 8, 9]), single.reset(seed=[7, None, 7, 8, 9]))


def test_without_autoreset_the_caller_resets_with_a_mask() -> None:
    batch = TwoRoomVectorEnv(3, max_episode_steps=2, autoreset_mode="Disabled")
    with pytest.raises(DataError, match="expected a reset"):
        batch.step(np.zeros((3, 2), dtype=np.float32))
    _, first = batch.reset(seed=0, options={"different_rooms": True})
    push = np.full((3, 2), 0.5, dtype=np.float32)
    batch.step(push)
    *_, truncated, infos = batch.step(push)
    assert truncated.all()
    with pytest.raises(DataError, match="world 0 has no running episode"):
        batch.step(push)
    with pytest.raises(ShapeError, match="reset_mask"):
        batch.reset(options={"reset_mask": np.ones(2, dtype=np.bool_)})
    _, partial = batch.reset(options={"reset_mask": np.array([True, False, True])})
    assert partial["_position"].tolist() == [True, False, True]
    assert batch.world.get_state().position[1].tolist() == infos["position"][1].tolist()
    assert partial["position"][0].tolist() != first["position"][0].tolist()


def test_options_per_world() -> None:
    batch = gymnasium.make_vec(ID, num_envs=3, render_mode="rgb_array")
    assert isinstance(batch, TwoRoomVectorEnv)
    assert batch.max_episode_steps == 200
    starts = np.array([[8.0, 8.0], [9.0, 9.0], [50.0, 50.0]])
    observation, info = batch.reset(seed=0, options={"start": starts, "wall_x": [20, 30, 40], "goal": (10.0, 50.0)})
    np.testing.assert_array_equal(info["position"], starts)
    assert info["wall_x"].tolist() == [20.0, 30.0, 40.0]
    assert info["goal_position"].tolist() == [[10.0, 50.0]] * 3
    frames = batch.render()
    assert frames is not None
    np.testing.assert_array_equal(np.stack(frames), observation["image"])
    with pytest.raises(ShapeError, match="found 2 values, expected 3"):
        batch.reset(options={"start": starts[:2]})
    with pytest.raises(ShapeError, match=r"found shape \(2,\).*expected \(3, 2\)"):
        batch.step(np.zeros(2))
    with pytest.raises(DataError, match="row 2"):
        batch.step(np.array([[0, 0], [0, 0], [np.nan, 0]], dtype=np.float32))


def test_render_modes() -> None:
    assert TwoRoomEnv().render() is None
    with pytest.raises(ConfigError, match="render_mode"):
        TwoRoomEnv(render_mode="human")
    with pytest.raises(ConfigError, match="render_mode"):
        TwoRoomVectorEnv(2, render_mode="human")
