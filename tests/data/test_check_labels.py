"""What `data check` finds in labels, one fault at a time, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from made_dataset import MadeDataset, made_episode

from jepa_actions.data.checks.labels import check_labels, robust_scale
from jepa_actions.data.checks.rotations import is_rotation, rotation_groups
from jepa_actions.data.types import Episode


def one_fault(dataset: MadeDataset, **options: object) -> object:
    """The only problem there is."""
    problems = check_labels(dataset, **options)  # type: ignore[arg-type]
    assert len(problems) == 1, problems
    return problems[0]


def three(**changes: object) -> list[Episode]:
    """Three episodes, the second with `changes`."""
    return [made_episode(0), made_episode(1, **changes), made_episode(2)]


def test_good_labels_have_no_problem():
    assert check_labels(MadeDataset(three())) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_are_fatal_only_where_they_are_known(value: float):
    actions = made_episode(1).actions.copy()
    actions[7, 1] = value
    fault = one_fault(MadeDataset(three(actions=actions)))
    assert (fault.episode, fault.fatal, fault.field) == (1, True, "action.dy")
    assert "row 7" in fault.message
    known = np.arange(15) != 7
    assert check_labels(MadeDataset(three(actions=actions, action_mask=known))) == []


def test_absurd_actions_are_fatal_and_absurd_states_a_warning():
    actions = made_episode(1).actions.copy()
    actions[3, 0] = 1e7
    assert one_fault(MadeDataset(three(actions=actions))).fatal
    states = [np.random.default_rng(k).normal(size=(16, 1)).astype(np.float32) for k in range(3)]
    states[1][3] = 1e7
    episodes = [made_episode(k, proprio=state) for k, state in enumerate(states)]
    fault = one_fault(MadeDataset(episodes, proprio_names=["ticks"]))
    assert (fault.episode, fault.fatal, fault.field) == (1, False, "proprio.ticks")


def test_actions_outside_declared_bounds_are_fatal_and_outside_the_statistics_a_warning():
    wide, tight = (np.full(2, -9.0), np.full(2, 9.0)), (np.full(2, -9.0), np.array([9.0, 0.5]))
    assert check_labels(MadeDataset(three()), bounds=wide, stated=wide) == []
    found = check_labels(MadeDataset(three()), bounds=tight)
    assert {(p.episode, p.field, p.fatal) for p in found} == {(k, "action.dy", True) for k in range(3)}
    assert "-9 to 0.5" in found[0].message
    assert all(not p.fatal for p in check_labels(MadeDataset(three()), stated=tight))


def test_an_outlier_is_a_warning_with_its_episode():
    actions = made_episode(1).actions.copy()
    actions[4, 0] = 500.0
    fault = one_fault(MadeDataset(three(actions=actions)))
    assert (fault.episode, fault.fatal, fault.field) == (1, False, "action.dx")
    assert "500" in fault.message


def test_a_gripper_that_rarely_moves_is_no_outlier():
    """Its median deviation is 0: by that alone every movement would be one."""
    episodes = three()
    for episode in episodes:
        episode.actions[:, 1] = 0.0
        episode.actions[12:, 1] = 1.0
    assert check_labels(MadeDataset(episodes)) == []
    assert robust_scale(np.zeros((20, 1)))[1] == 0


def test_one_constant_dimension_is_a_warning():
    episodes = three()
    for episode in episodes:
        episode.actions[:, 1] = 0.25
    fault = one_fault(MadeDataset(episodes))
    assert (fault.episode, fault.fatal, fault.field) == (None, False, "action.dy")


def test_an_episode_whose_actions_never_change_is_fatal_unless_it_is_short():
    still = np.full((15, 2), 0.5, np.float32)
    fault = one_fault(MadeDataset(three(actions=still)))
    assert (fault.episode, fault.fatal, fault.field) == (1, True, "action")
    assert check_labels(MadeDataset(three(actions=still[:4], length=5))) == []


def test_a_data_set_whose_actions_never_change_is_fatal_and_said_once():
    episodes = [made_episode(k, actions=np.zeros((15, 2), np.float32)) for k in range(3)]
    fault = one_fault(MadeDataset(episodes))
    assert (fault.episode, fault.fatal) == (None, True)


@pytest.mark.parametrize(
    ("name", "turn", "found"),
    [
        ("yaw", 2 * np.pi, True),
        ("ee.rz", 2 * np.pi, True),
        ("steering_angle", 360.0, True),
        ("x", 2 * np.pi, False),
        ("gray", 2 * np.pi, False),
    ],
)
def test_wrapped_angles_are_warnings_by_their_name_and_in_either_unit(name: str, turn: float, found: bool):
    ramp = (np.linspace(0, 1.4 * turn, 15) + turn / 2) % turn - turn / 2
    episodes = three()
    for episode in episodes:
        episode.actions[:, 0] = ramp
    problems = check_labels(MadeDataset(episodes, action_names=[name, "dy"]))
    assert [(p.episode, p.fatal) for p in problems] == ([(k, False) for k in range(3)] if found else [])
    assert not found or "wrapped" in problems[0].message


def test_an_angle_may_be_declared_and_a_jump_at_an_unknown_step_is_none():
    episodes = three()
    for episode in episodes:
        episode.actions[:, 0] *= 0.1
    episodes[1].actions[:, 0] = np.where(np.arange(15) < 8, -3.0, 3.0)
    fault = one_fault(MadeDataset(episodes), angles=["dx"])
    assert (fault.episode, "row 7" in fault.message) == (1, True)
    episodes[1].action_mask = np.arange(15) != 8
    assert check_labels(MadeDataset(episodes), angles=["dx"]) == []


QUATERNION = ("x", "ee_qx", "ee_qy", "ee_qz", "ee_qw")


def quaternion_episodes() -> list[Episode]:
    episodes = [made_episode(k, dims=5) for k in range(3)]
    for episode in episodes:
        episode.actions[:, 1:] /= np.linalg.norm(episode.actions[:, 1:], axis=1, keepdims=True)
    return episodes


def test_a_quaternion_that_is_none_is_fatal():
    episodes = quaternion_episodes()
    assert check_labels(MadeDataset(episodes, action_names=QUATERNION)) == []
    episodes[2].actions[5, 1:] *= 1.2
    fault = one_fault(MadeDataset(episodes, action_names=QUATERNION))
    assert (fault.episode, fault.fatal) == (2, True)
    assert "ee_qw" in fault.message
    assert "norm 1" in fault.message


def test_rotations_are_recognised_by_name():
    matrix = [f"rot_{i}{j}" for i in "012" for j in "012"]
    six = [f"ee_rot6d_{k}" for k in range(6)]
    assert rotation_groups(QUATERNION) == [("quaternion", [4, 1, 2, 3])]
    assert rotation_groups([*six, "gripper"]) == [("6d", [0, 1, 2, 3, 4, 5])]
    assert rotation_groups(matrix) == [("matrix", list(range(9)))]
    assert rotation_groups(["left_quat_0", "left_quat_1", "left_quat_2", "left_quat_3"])[0][0] == "quaternion"
    assert rotation_groups(["delta_qx", "delta_qy", "delta_qz", "delta_qw"]) == []
    assert rotation_groups([f"joint_{k}" for k in range(9)]) == []
    assert rotation_groups(["x", "y", "z", "w"]) == []


def test_what_is_a_rotation():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rows = np.stack([turn, np.diag([1.0, 1, -1]), 1.1 * turn]).reshape(3, 9)
    assert is_rotation(rows, "matrix").tolist() == [True, False, False]
    six = np.array([[1, 0, 0, 0, 2, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=float)
    assert is_rotation(six, "6d").tolist() == [True, False, False]


def test_time_that_goes_back_is_fatal_and_a_gap_or_another_rate_a_warning():
    times = np.arange(16) / 10.0
    assert check_labels(MadeDataset(three(times=times))) == []
    back = times.copy()
    back[6] = back[4]
    fault = one_fault(MadeDataset(three(times=back)))
    assert (fault.episode, fault.fatal, fault.field) == (1, True, "timestamp")
    gap = times + np.where(np.arange(16) > 8, 0.7, 0.0)
    fault = one_fault(MadeDataset(three(times=gap)))
    assert (fault.fatal, "frames 8 and 9" in fault.message) == (False, True)
    fault = one_fault(MadeDataset(three(times=times * 2)))
    assert (fault.fatal, fault.field, "5 Hz" in fault.message) == (False, "fps", True)


def test_missing_text_is_a_warning_per_episode_or_once_for_all():
    fault = one_fault(MadeDataset(three(text=None)))
    assert (fault.episode, fault.fatal, fault.kind) == (1, False, "text")
    fault = one_fault(MadeDataset([made_episode(k, text=" ") for k in range(3)]))
    assert (fault.episode, fault.fatal) == (None, False)


def test_a_reward_that_is_not_finite_is_fatal():
    rewards = np.zeros(15, np.float32)
    rewards[2] = np.nan
    fault = one_fault(MadeDataset(three(rewards=rewards)))
    assert (fault.episode, fault.fatal, fault.field) == (1, True, "reward.reward")


def test_real_recordings_have_warnings_at_most(real_data):
    from jepa_actions.data import load_dataset

    droid = check_labels(load_dataset(real_data / "droid_franka"))
    assert droid
    assert not any(p.fatal for p in droid)
    assert all("wrapped" in p.message for p in droid)
    assert check_labels(load_dataset(real_data / "donkeycar")) == []
