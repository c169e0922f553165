"""What is recorded is what happened: every frame in its own episode and step, whatever resets the worlds, and a replay
of seed and actions gives it again."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from toy_env import SIZE, Toy

from jepa_actions.data.open import load_dataset
from jepa_actions.data.recorder.record import record
from jepa_actions.data.types import VideoDataset
from jepa_actions.envs import gym_adapter, gym_vector
from jepa_actions.errors import DataError, ShapeError

MODES = list(AutoresetMode)


def push(observation: Any, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, 2)


def frames_of(dataset: VideoDataset, i: int) -> dict[str, np.ndarray]:
    length = int(dataset.lengths()[i])
    clips = dataset.read_clips(np.array([i]), np.arange(length)[None])
    return {camera.removeprefix("observation.images."): clip[0].numpy() for camera, clip in clips.items()}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def assert_replays(env: gymnasium.Env, dataset: VideoDataset, episodes: int, seed: int) -> None:
    """`reset` with the recorded seed and the recorded actions give the recorded frames, rewards, states and end."""
    assert len(dataset) == episodes
    for i in range(episodes):
        labels, frames = dataset.episode(i), frames_of(dataset, i)["image"]
        assert labels.seed == seed + i
        env.reset(seed=labels.seed)
        pictures, states, rewards, over = [env.unwrapped.picture()], [env.unwrapped.state], [], False
        for action in labels.actions:
            assert not over
            whole = action.astype(env.action_space.dtype)
            _, reward, terminated, truncated, _ = env.step(whole if env.action_space.shape else whole[0])
            pictures.append(env.unwrapped.picture())
            states.append(env.unwrapped.state)
            rewards.append(reward)
            over = terminated or truncated
        assert over
        np.testing.assert_allclose(frames.astype(int), np.stack(pictures).transpose(0, 3, 1, 2), atol=6)
        np.testing.assert_array_equal(labels.rewards, np.array(rewards, np.float32))
        if labels.simulator_state is not None:
            np.testing.assert_array_equal(labels.simulator_state, states)


@pytest.mark.parametrize("shows", ["image", "dict", "render"])
def test_a_replay_of_seed_and_actions_gives_the_recording(tmp_path, shows):
    env = Toy(shows, render_mode="rgb_array")
    record(env, push, tmp_path / "set", episodes=6, seed=7)
    dataset = load_dataset(tmp_path / "set")
    assert_replays(env, dataset, 6, 7)
    assert dataset.fps == 5
    assert len(set(dataset.lengths().tolist())) > 1
    assert dataset.episode(0).simulator_state is not None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shows", ["image", "dict"])
def test_worlds_and_autoreset_change_nothing(tmp_path, mode, shows):
    keep = {"episodes": 8, "seed": 3, "robot_type": "toy", "state_of": None}
    record(Toy(shows), push, tmp_path / "one", **keep)
    env = SyncVectorEnv([partial(Toy, shows)] * 3, autoreset_mode=mode)
    record(env, push, tmp_path / "many", **keep)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert_replays(Toy(shows), load_dataset(tmp_path / "many"), 8, 3)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_rendered_pictures_and_states_of_a_vector(tmp_path, mode):
    makers = [partial(Toy, "render", render_mode="rgb_array")] * 2
    record(SyncVectorEnv(makers, autoreset_mode=mode), push, tmp_path / "set", episodes=5)
    dataset = load_dataset(tmp_path / "set")
    assert_replays(Toy("render", render_mode="rgb_array"), dataset, 5, 0)
    assert dataset.episode(4).simulator_state.shape == (dataset.lengths()[4], 3)


def states_of(env: AsyncVectorEnv) -> Any:
    return env.get_attr("state")


@pytest.mark.parametrize(
    ("mode", "state_of"),
    [(AutoresetMode.SAME_STEP, None), (AutoresetMode.NEXT_STEP, states_of), (AutoresetMode.DISABLED, None)],
)
def test_processes(tmp_path, mode, state_of):
    env = AsyncVectorEnv([partial(Toy, "dict")] * 2, autoreset_mode=mode)
    try:
        record(env, push, tmp_path / "set", episodes=5, seed=1, state_of=state_of)
    finally:
        env.close()
    dataset = load_dataset(tmp_path / "set")
    assert_replays(Toy("dict"), dataset, 5, 1)
    assert (dataset.episode(0).simulator_state is None) == (state_of is None)


def test_what_same_step_autoreset_has_replaced_is_refused(tmp_path):
    env = SyncVectorEnv([partial(Toy, "render", render_mode="rgb_array")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(DataError, match=r"render.* same-step"):
        record(env, push, tmp_path / "set", episodes=2)
    env = SyncVectorEnv([partial(Toy, "image")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(DataError, match="state with same-step"):
        record(env, push, tmp_path / "set", episodes=2, state_of=lambda env: [world.state for world in env.envs])
    assert not (tmp_path / "set").exists()


def test_rows_frames_and_ends(tmp_path):
    env = Toy("dict")
    record(env, push, tmp_path / "set", episodes=4, max_steps=5, text=lambda info: info["task"])
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pydict()
    rows = {name: np.array(values) for name, values in table.items()}
    dataset = load_dataset(tmp_path / "set")
    assert dataset.proprio_names == ("robot.arm_0", "robot.arm_1", "robot.arm_2", "robot.grip")
    assert dataset.cameras == ("observation.images.image",)  # not the goal
    for i, length in enumerate(dataset.lengths().tolist()):
        mine = rows["episode_index"] == i
        env.reset(seed=i)
        steps, hue = min(env.left, 5), env.hue
        assert length == steps + 1
        assert rows["action_valid"][mine].tolist() == [1] * steps + [0]
        cut = env.left > 5
        np.testing.assert_array_equal(rows["next.done"][mine], [False] * (steps - 1) + [True, True])
        np.testing.assert_array_equal(rows["next.terminated"][mine][-1], env.ends_well and not cut)
        np.testing.assert_array_equal(rows["next.truncated"][mine][-1], cut or not env.ends_well)
        red, green = frames_of(dataset, i)["image"][:, :2].mean((2, 3)).T
        np.testing.assert_allclose(red, hue, atol=4)  # no frame of the next episode
        np.testing.assert_allclose(green, 20 + 20 * np.arange(length), atol=4)  # from before the first action on
        assert dataset.episode(i).text == f"hue {hue}"
        assert dataset.episode(i).proprio[:, 3].tolist() == [t % 2 for t in range(length)]


@pytest.mark.parametrize(("acts", "discrete"), [("discrete", 3), ("multi", [2, 5])])
def test_whole_numbers(tmp_path, acts, discrete):
    env = Toy(acts=acts)
    record(env, "random", tmp_path / "set", episodes=3, seed=2)
    feature = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["action"]
    assert (feature["dtype"], feature["info"]["discrete"]) == ("int64", discrete)
    assert_replays(env, load_dataset(tmp_path / "set"), 3, 2)


def test_bounds_are_kept(tmp_path):
    record(Toy(), push, tmp_path / "set", episodes=1)
    feature = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["action"]
    assert feature["info"] == {"low": [-1, -1], "high": [1, 1]}


def test_actions_on_the_bounds_stay_inside(tmp_path):
    env = Toy(acts="narrow")
    record(env, lambda *_: np.array([0.1, -0.1]), tmp_path / "set", episodes=2)  # the environment asserts them
    assert_replays(env, load_dataset(tmp_path / "set"), 2, 0)


def test_random_actions_come_from_the_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        record(Toy(), "random", tmp_path / name, episodes=2, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    actions = [load_dataset(tmp_path / name).episode(0).actions[:2] for name in "ac"]
    assert (actions[0] != actions[1]).all()


def test_several_cameras(tmp_path):
    record(Toy("dict"), push, tmp_path / "parts", episodes=1, camera=("image", "goal"))
    views = {"top": lambda env: env.picture(), "side": lambda env: 255 - env.picture()}
    record(Toy("render"), push, tmp_path / "functions", episodes=1, camera=views)
    for name, cameras in (("parts", ("image", "goal")), ("functions", ("top", "side"))):
        frames = frames_of(load_dataset(tmp_path / name), 0)
        np.testing.assert_allclose(frames[cameras[0]].astype(int) + frames[cameras[1]], 255, atol=8)


def test_two_room_one_and_many(tmp_path):
    keep = {"episodes": 4, "seed": 5, "max_steps": 5, "robot_type": "two_room"}
    record(gym_adapter.TwoRoomEnv(), "random", tmp_path / "one", **keep)
    for mode in MODES:
        env = gym_vector.TwoRoomVectorEnv(3, autoreset_mode=mode)
        record(env, "random", tmp_path / mode.value, **keep | {"state_of": None})
        labels = [load_dataset(tmp_path / name).episode(3) for name in ("one", mode.value)]
        np.testing.assert_array_equal(labels[0].actions, labels[1].actions)
        frames = [frames_of(load_dataset(tmp_path / name), 3)["image"] for name in ("one", mode.value)]
        np.testing.assert_array_equal(*frames)
    assert frames[0].shape == (6, 3, 64, 64)


class Interrupts:
    """A policy that is interrupted in the third episode."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.first = error, set()

    def __call__(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        self.first.add(int(observation[0, 0, 0]))
        if len(self.first) == 3:
            raise self.error
        return np.zeros(2)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the robot fell")])
def test_an_interruption_keeps_the_finished_episodes(tmp_path, error):
    with pytest.raises(type(error)):
        record(Toy(), Interrupts(error), tmp_path / "set", episodes=9)
    assert_replays(Toy(), load_dataset(tmp_path / "set"), 2, 0)


class Forgetful(SyncVectorEnv):
    """Resets every world, whatever it is asked."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=[0] * self.num_envs if options else seed)


class Odd(Toy):
    """Pictures of odd size."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (31, 48, 3), np.uint8)

    def picture(self) -> np.ndarray:
        return super().picture()[1:]


@pytest.mark.parametrize(
    ("make", "policy", "change", "message"),
    [
        (partial(Toy, acts="dict"), "random", {}, "action space Dict.*expected a Box"),
        (partial(Toy, "render"), push, {}, "render_mode='rgb_array'"),
        (partial(Toy, "dict"), push, {"camera": "goal.image"}, "no picture 'goal.image'.*'goal', 'image'"),
        (Toy, lambda *_: np.zeros(3), {}, r"shape \(3,\), expected finite ones of \(2,\)"),
        (Toy, lambda *_: np.full(2, np.nan), {}, "finite"),
        (partial(Toy, acts="discrete"), lambda *_: 3, {}, r"action 3, expected one of Discrete\(3\)"),
        (partial(Toy, acts="discrete"), lambda *_: 0.5, {}, "action 0.5"),
        (Odd, push, {}, "even numbers"),
        (Toy, "rnd", {}, "'rnd'.*or 'random'"),
        (Toy, push, {"episodes": 0}, "at least 1"),
        (partial(Forgetful, [Toy] * 2), push, {}, "reset of other worlds changed world"),
        (dict, push, {"fps": 5}, "gymnasium environment"),
        (Toy, push, {"state_of": lambda env: "x"}, "state_of=None"),
    ],
)
def test_what_cannot_be_recorded(tmp_path, make, policy, change, message):
    with pytest.raises((DataError, ShapeError), match=message):
        record(make(), policy, tmp_path / "set", **({"episodes": 6, "seed": 4} | change))


def test_a_rate_is_needed(tmp_path):
    env = Toy()
    env.metadata = {}
    with pytest.raises(DataError, match="expected fps"):
        record(env, push, tmp_path / "set", episodes=1)
    record(env, push, tmp_path / "set", episodes=1, fps=12.5)
    assert load_dataset(tmp_path / "set").fps == 12.5
    assert load_dataset(tmp_path / "set").image_size("observation.images.image") == SIZE
