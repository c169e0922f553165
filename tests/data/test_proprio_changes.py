"""Proprio and its changes: rotations, what a codec reads off two poses, and what it adds to one."""

import math

import numpy as np
import pytest
import torch

from jepa_actions.data import ActionBounds, ActionCodec, Episode
from jepa_actions.data.actions.rotation import euler_to_matrix, matrix_to_euler, rotated, rotation_between
from jepa_actions.errors import DataError, ShapeError

POSE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
BOX = ActionBounds("box", low=(-9.0,) * 7, high=(9.0,) * 7)


def about(axis, angle):
    """The rotation about one fixed axis, by the right-hand rule."""
    one, other = [(1, 2), (2, 0), (0, 1)][axis]
    out = torch.eye(3, dtype=torch.float64)
    out[one, one] = out[other, other] = math.cos(angle)
    out[one, other], out[other, one] = -math.sin(angle), math.sin(angle)
    return out


def angles(*shape, reach=math.pi):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(*shape, 3, generator=generator, dtype=torch.float64) * 2 - 1) * reach


def test_angles_turn_about_the_fixed_axes_x_then_y_then_z():
    for roll, pitch, yaw in angles(20).tolist():
        expected = about(2, yaw) @ about(1, pitch) @ about(0, roll)
        found = euler_to_matrix(torch.tensor([roll, pitch, yaw], dtype=torch.float64))
        torch.testing.assert_close(found, expected)


def test_matrices_give_their_angles_back_and_at_the_poles_their_rotation():
    some = angles(50, reach=1.5)
    torch.testing.assert_close(matrix_to_euler(euler_to_matrix(some)), some)
    poles = torch.tensor([[0.3, math.pi / 2, 0.0], [0.4, math.pi / 2, -1.1], [2.0, -math.pi / 2, 0.7]]).double()
    found = matrix_to_euler(euler_to_matrix(poles))
    torch.testing.assert_close(euler_to_matrix(found), euler_to_matrix(poles), atol=1e-6, rtol=0)
    assert (found[:, 2] == 0).all()


def test_the_rotation_between_two_orientations_leads_from_one_to_the_other():
    start, end = angles(30), angles(30).flip(0)
    reached = rotated(start, rotation_between(start, end))
    torch.testing.assert_close(euler_to_matrix(reached), euler_to_matrix(end))


def codec(block=1, names=POSE, **more) -> ActionCodec:
    size = len(names)
    settings = {"source": "proprio_difference", "angles": (3, 4, 5), **more}
    bounds = ActionBounds("box", low=(-9.0,) * size, high=(9.0,) * size)
    mean, std = np.linspace(-0.2, 0.3, size, dtype=np.float32), np.linspace(0.5, 2.0, size, dtype=np.float32)
    return ActionCodec(names, block, mean, std, bounds, **settings)


def poses(frames, seed=0):
    """A path whose angles cross +-pi."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, 7)) * np.array([0.1, 0.1, 0.1, 0.5, 0.2, 0.5, 0.1])
    path = np.cumsum(steps, 0)
    path[:, 3:6] = np.angle(np.exp(1j * path[:, 3:6]))
    path[:, 4] = np.clip(path[:, 4], -1.2, 1.2)
    return path.astype(np.float32)


@pytest.mark.parametrize("rotation", ["additive", "composed"])
@pytest.mark.parametrize("block", [1, 3])
def test_what_is_read_off_a_path_leads_along_it_again(rotation, block):
    made, path = codec(block, rotation=rotation), poses(13)
    episode = Episode(0, len(path), proprio=path)
    raw = torch.from_numpy(made.raw_actions(episode)).view(-1, block, 7)
    pose = torch.from_numpy(path[0])
    for step, action in enumerate(made.encode(raw)):
        pose = made.integrate(pose, action)
        expected = torch.from_numpy(path[(step + 1) * block])
        torch.testing.assert_close(pose[[0, 1, 2, 6]], expected[[0, 1, 2, 6]], atol=1e-4, rtol=0)
        found, wanted = (euler_to_matrix(x[3:6].double()) for x in (pose, expected))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
        assert (pose[3:6].abs() <= math.pi + 1e-5).all()


def test_the_two_kinds_of_rotation_differ_where_axes_mix():
    path = poses(2, seed=3)
    path[0, 3:6], path[1, 3:6] = (0.0, 1.0, 0.0), (0.5, 1.0, 0.4)
    found = [codec(rotation=r).raw_actions(Episode(0, 2, proprio=path)) for r in ("additive", "composed")]
    assert np.abs(found[0][0, 3:6] - found[1][0, 3:6]).max() > 0.05
    np.testing.assert_allclose(found[0][0, 3:6], [0.5, 0.0, 0.4], atol=1e-6)


def test_only_the_picked_dimensions_move_and_candidates_broadcast():
    made = codec(names=("yaw", "x"), columns=(2, 0), angles=(0,))
    proprio = torch.tensor([[1.0, 5.0, 3.0], [2.0, 6.0, 0.0]])
    raw = torch.tensor([[0.5, 0.25], [-1.0, 1.0], [0.0, 0.0]])
    after = made.integrate(proprio[:, None], made.encode(raw[None, :, None]))
    assert after.shape == (2, 3, 3)
    torch.testing.assert_close(after[..., 1], proprio[:, 1:2].expand(-1, 3))
    torch.testing.assert_close(after[..., 0], proprio[:, 0, None] + raw[:, 1])
    torch.testing.assert_close(after[0, :, 2], torch.tensor([3.5 - 2 * math.pi, 2.0, 3.0]))
    assert torch.equal(proprio, torch.tensor([[1.0, 5.0, 3.0], [2.0, 6.0, 0.0]]))  # not in place


def test_recorded_commands_leave_proprio_as_it_is():
    made = codec(source="action", angles=())
    proprio = torch.randn(4, 2)
    assert torch.equal(made.integrate(proprio, torch.randn(4, 7)), proprio)


def test_proprio_without_the_codecs_dimensions_is_refused():
    with pytest.raises(ShapeError, match=r"proprio is .*\(3, 6\), expected float with the codec's dimensions, x, y, z"):
        codec().integrate(torch.zeros(3, 6), torch.zeros(3, 7))
    with pytest.raises(ShapeError, match="the codec's dimensions, yaw"):
        codec(names=("yaw",), columns=(5,), angles=(0,)).integrate(torch.zeros(3, 5), torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rotation": "quaternion"}, "rotation 'quaternion', expected 'additive' or 'composed'"),
        ({"rotation": "composed", "angles": (3, 4)}, "with source proprio_difference and 2 angles, expected"),
        ({"rotation": "composed", "source": "action"}, "with source action and 3 angles, expected"),
    ],
)
def test_a_rotation_that_cannot_be_composed_is_refused(settings, message):
    with pytest.raises(DataError, match=message):
        codec(**settings)
