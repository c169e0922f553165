from __future__ import annotations

import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from jepa_actions.adapters.stable_worldmodel.random_play import RandomPlay, Wander, crossings
from jepa_actions.adapters.stable_worldmodel.two_room import (
    GoalPicture,
    StraightLine,
    Strict,
    cross_room_tasks,
    free_boxes,
    passes,
)
from jepa_actions.data.open import load_dataset
from jepa_actions.data.recorder.record import record
from jepa_actions.errors import ConfigError

PLACE = gymnasium.spaces.Box(0, 224, (2,), np.float32)


class Room(gymnasium.Env):
    """What stable-worldmodel's TwoRoom-v1 has that the adapter reads, and no collisions: an agent may walk through the
    wall."""

    BORDER_SIZE, IMG_SIZE = 14, 224
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    wall_axis, wall_pos, wall_thickness = 1, 112.0, 10
    door_positions, door_sizes = torch.tensor([49.0]), torch.tensor([14.0])
    render_mode = "rgb_array"

    def __init__(self):
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = PLACE
        agent = {"radius": SimpleNamespace(value=np.array([7.0])), "speed": SimpleNamespace(value=np.array([5.0]))}
        self.variation_space = {"agent": agent}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        options = options or {}
        self.agent_position = torch.tensor(options.get("state", self.np_random.uniform(21, 99, 2)))
        self.target_position = torch.tensor(options.get("target_state", [164.0, 112.0]))
        return self._seen()

    def step(self, action):
        self.agent_position = self.agent_position + 5 * torch.as_tensor(action)
        place, info = self._seen()
        return place, 0.0, info["distance_to_target"] < 16, False, info

    def _seen(self):
        place = self.agent_position.numpy().astype(np.float32)
        far = float((self.agent_position - self.target_position).norm())
        return place, {"state": place, "goal_state": self.target_position.numpy(), "distance_to_target": far}

    def render(self):
        picture = np.zeros((224, 224, 3), np.uint8)
        x, y = self.agent_position.round().int().clamp(0, 223).tolist()
        picture[y - 8 : y + 8, x - 8 : x + 8] = 255
        return picture


def walk(env, start, goal, actions):
    """Ends, and the last info, of actions from start to goal."""
    env.reset(options={"state": np.array(start), "target_state": np.array(goal)})
    ends = []
    for action in actions:
        _, _, terminated, truncated, info = env.step(np.array(action))
        ends.append((terminated, truncated))
    return ends, info


def test_a_task_is_solved_at_the_end_alone():
    near, far = [(0.5, 0.0)] * 4, [(0.5, 0.0)] * 2 + [(-1.0, 0.0)] * 2
    ends, info = walk(Strict(Room(), 4), (30.0, 50.0), (45.0, 50.0), near)
    assert ends == [(False, False)] * 3 + [(True, False)], "it goes on although the goal is near from the first step"
    assert (info["ever"], info["at_end"], info["route_valid"]) == (True, True, True)
    ends, info = walk(Strict(Room(), 4), (30.0, 50.0), (50.0, 50.0), far)
    assert ends[-1] == (False, True)
    assert (info["ever"], info["at_end"]) == (True, False)


@pytest.mark.parametrize(("y", "valid"), [(49.0, True), (64.0, True), (65.5, False), (120.0, False)])
def test_a_way_through_the_wall_does_not_count(y, valid):
    ends, info = walk(Strict(Room(), 4), (103.0, y), (123.0, y), [(1.0, 0.0)] * 4)
    assert info["at_end"]
    assert info["route_valid"] is valid
    assert ends[-1] == (valid, not valid)


def test_a_wall_may_lie_across():
    room = Room()
    room.wall_axis = 0
    assert passes(room, np.array([49.0, 100.0]), np.array([49.0, 120.0]))
    assert not passes(room, np.array([100.0, 100.0]), np.array([100.0, 120.0]))
    assert not passes(room, np.array([30.0, 100.0]), np.array([40.0, 160.0])), (
        "where the line meets the wall, not where"
    )
    (_, first), (second, _) = free_boxes(room)
    assert (first.tolist(), second.tolist()) == ([203.0, 99.5], [21.0, 124.5])


def test_the_goals_picture_shows_the_agent_there_and_leaves_it_where_it_is():
    env = GoalPicture(Room())
    _, info = env.reset(options={"state": np.array([30.0, 50.0]), "target_state": np.array([160.0, 90.0])})
    rows, columns = np.nonzero(info["goal"][..., 0])
    assert (columns.mean().round(), rows.mean().round()) == (160.0, 90.0)
    assert env.unwrapped.agent_position.tolist() == [30.0, 50.0]


def test_tasks_cross_the_wall_and_more_of_them_begin_with_the_same():
    room = Room()
    tasks = cross_room_tasks(room, 40, seed=3)
    assert cross_room_tasks(room, 10, seed=3) == tasks[:10]
    assert cross_room_tasks(room, 10, seed=4) != tasks[:10]
    left = [task.start[0] < 112 for task in tasks]
    assert 10 < sum(left) < 30
    for task, from_left in zip(tasks, left, strict=True):
        near, far = sorted((task.start[0], task.goal[0]))
        assert 21 <= near <= 99.5
        assert 124.5 <= far <= 203
        assert (task.start[0] == near) is from_left
        assert 21 <= min(task.start[1], task.goal[1]) <= max(task.start[1], task.goal[1]) <= 203
    assert tasks[0].options["state"].dtype == np.float32


def test_the_straight_floor_steps_at_the_target_inside_the_action_space():
    policy = StraightLine()
    policy.set_env(SimpleNamespace(envs=[Room(), Room()]))
    info = {
        "state": np.array([[[10.0, 10.0]], [[10.0, 10.0]]]),
        "goal_state": np.array([[[12.0, 11.0]], [[50.0, -10.0]]]),
    }
    np.testing.assert_allclose(policy.get_action(info), [[0.4, 0.2], [1.0, -0.5]], rtol=1e-6)


def test_random_play_is_recorded_and_read_by_training(tmp_path):
    env = RandomPlay(Room(), size=32)
    env.reset(seed=0, options={"target_state": np.array([30.0, 30.0])})
    for _ in range(3):
        assert not env.step(np.zeros(2))[2], "random play has no goal to end at"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = record(env, Wander(), tmp_path / "play", episodes=3, seed=5, camera="image", max_steps=12)
    data = load_dataset(root)
    assert (len(data), data.lengths().tolist(), data.image_size("observation.images.image")) == (
        3,
        [13, 13, 13],
        (32, 32),
    )
    actions = np.stack([data.episode(i).actions for i in range(3)])
    assert (np.linalg.norm(actions, axis=-1) <= 1 + 1e-6).all()
    assert np.abs(actions[0] - actions[1]).max() > 0.1, "every episode is a walk of its own"


def test_wandering_goes_straight_on_and_then_elsewhere():
    policy, rng = Wander(), np.random.default_rng(0)
    actions = np.stack([policy(None, rng) for _ in range(400)])
    angle = np.arctan2(actions[:, 1], actions[:, 0])
    turn = np.abs((np.diff(angle) + np.pi) % (2 * np.pi) - np.pi)
    assert (turn < 0.5).mean() > 0.9
    assert 4 < (turn > 0.5).sum() < 40
    again = np.random.default_rng(0)
    np.testing.assert_array_equal(policy(None, again), actions[0])
    for wrong in ({"turn": 0.0}, {"slowest": 1.5}, {"noise": -1.0}):
        with pytest.raises(ConfigError, match="Wander: found"):
            Wander(**wrong)


def test_crossings_are_counted():
    places = [np.array([x, 50.0]) for x in (100.0, 111.0, 113.0, 120.0, 100.0)]
    assert crossings(Room(), places) == 2
