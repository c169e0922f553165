"""Poses: every form of a rotation, changes in the frame of the base or the tool, long paths, what is no rotation."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from codec_labels import Labels, labelled

from jepa_actions.data import ActionBounds, ActionCodec, Segment
from jepa_actions.data.actions.pose import SUFFIXES, Displacement, Pose
from jepa_actions.data.actions.rotation import WIDTH, from_matrix, not_a_rotation, to_matrix
from jepa_actions.errors import CheckpointError, DataError, ShapeError

FORMS = tuple(WIDTH)
CHANGES = tuple(SUFFIXES)
BALL = ActionBounds("ball", radius=1.0)


def rotations(count, seed=0):
    """Uniform ones, and the awkward ones: none, half turns about each axis, both poles, almost none."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))
    uniform = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    uniform = uniform * torch.linalg.det(uniform)[:, None, None]
    pi = math.pi
    odd = [[0, 0, 0], [pi, 0, 0], [0, 0, pi], [pi, 0, pi], [0.4, pi / 2, 0], [0.4, -pi / 2, 0], [1e-9, 0, -1e-9]]
    return torch.cat([uniform, to_matrix(torch.tensor(odd, dtype=torch.float64), "euler")])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_rotation_back(form):
    some = rotations(200)
    assert torch.allclose(torch.linalg.det(some), torch.ones(len(some), dtype=torch.float64))
    values = from_matrix(some, form)
    assert values.shape == (207, WIDTH[form])
    torch.testing.assert_close(to_matrix(values, form), some, atol=2e-7 if form == "euler" else 1e-12, rtol=0)
    assert not not_a_rotation(values, form)[0].any()


def test_a_rotation_vector_is_axis_times_angle():
    vectors = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors = vectors / vectors.norm(dim=-1, keepdim=True) * torch.linspace(0, math.pi - 1e-6, 50)[:, None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
    torch.testing.assert_close(to_matrix(vectors, "rotvec"), torch.linalg.matrix_exp(skew))
    torch.testing.assert_close(from_matrix(to_matrix(vectors, "rotvec"), "rotvec"), vectors, atol=1e-9, rtol=0)


def test_quaternions_are_x_y_z_w_and_have_no_sign():
    quarter = torch.tensor([0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)], dtype=torch.float64)
    turned = to_matrix(quarter, "quaternion") @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(to_matrix(-quarter, "quaternion"), to_matrix(quarter, "quaternion"))


def test_six_dimensions_are_the_first_two_columns_and_any_six_numbers_are_a_rotation():
    some = rotations(5)
    torch.testing.assert_close(from_matrix(some, "6d"), torch.cat([some[..., 0], some[..., 1]], dim=-1))
    wild = to_matrix(torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5, "6d")
    torch.testing.assert_close(wild @ wild.mT, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(wild), torch.ones(50, dtype=torch.float64))


def walk(frames, form, seed=0, step=0.3):
    """x y z, a rotation in `form`, a gripper: a path that turns all the way round, in single precision."""
    generator = torch.Generator().manual_seed(seed)
    turns = to_matrix(torch.randn(frames, 3, generator=generator, dtype=torch.float64) * step, "rotvec")
    path = [rotations(1, seed)[0]]
    for turn in turns[1:]:
        path.append(turn @ path[-1])
    rotation = from_matrix(torch.stack(path), form)
    position = torch.randn(frames, 3, generator=generator, dtype=torch.float64).mul(0.01).cumsum(0)
    gripper = torch.rand(frames, 1, generator=generator, dtype=torch.float64)
    return torch.cat([position, rotation, gripper], dim=-1).numpy().astype(np.float32)


def pose_codec(form, change, frame, *, block=1, **more):
    width = WIDTH[form]
    pose = Pose(tuple(range(3, 3 + width)), form, change, (0, 1, 2), frame)
    names = Displacement(4 + width, poses=(pose,)).names([f"s{k}" for k in range(4 + width)])
    spread = np.linspace(0.02, 0.4, len(names), dtype=np.float32)
    return ActionCodec(
        names, block, spread - 0.2, spread, BALL, **({"source": "proprio_difference", "poses": (pose,)} | more)
    )


def distance(one, other, form):
    """Largest difference of position and gripper, and of the rotation matrices."""
    one, other = (torch.as_tensor(x, dtype=torch.float64) for x in (one, other))
    turn = [to_matrix(x[..., 3:-1], form) for x in (one, other)]
    rest = [x[..., [0, 1, 2, -1]] for x in (one, other)]
    return float((rest[0] - rest[1]).abs().max()), float((turn[0] - turn[1]).abs().max())


@pytest.mark.parametrize("frame", ["base", "tool"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMS)
def test_changes_of_a_path_lead_along_it_again(form, change, frame):
    path = walk(25, form)
    codec = pose_codec(form, change, frame, block=3)
    assert len(codec.names) == 4 + len(SUFFIXES[change])
    raw = codec.raw_actions(labelled(proprio=path))
    model = codec.encode(torch.from_numpy(raw).view(-1, 3, len(codec.names)))
    pose = torch.from_numpy(path[0])
    for step, action in enumerate(model):
        along = codec.path(pose, action)
        assert max(distance(along, path[3 * step + 1 : 3 * step + 4], form)) < 3e-6
        pose = codec.integrate(pose, action)
        assert torch.equal(pose, along[-1])


@pytest.mark.parametrize(("form", "change"), [("euler", "euler"), ("quaternion", "rotvec"), ("matrix", "6d")])
def test_a_long_path_does_not_drift(form, change):
    frames = 501
    path = walk(frames, form, step=0.05)
    episode = labelled(proprio=path)
    codec = ActionCodec.fit(
        Labels(episode, proprio=tuple(f"s{k}" for k in range(path.shape[1]))),
        [Segment(0, 0, frames)],
        block=frames - 1,
        source="proprio_difference",
        poses=pose_codec(form, change, "tool").poses,
    )
    raw = torch.from_numpy(codec.raw_actions(episode))
    along = codec.path(torch.from_numpy(path[0]).double(), codec.encode(raw[None])[0])
    at, turned = distance(along, path[1:], form)
    assert at < 1e-6, "500 steps cost no more than the rounding of each"
    assert turned < 1e-6


def test_what_frames_mean():
    """A tool that looks along +y of the base moves 1 m forward along its own x, and turns about its own x."""
    start = [0.0, 0.0, 0.0, 0.0, 0.0, math.pi / 2, 0.0]
    turn = to_matrix(torch.tensor([0.0, 0.0, math.pi / 2]).double(), "euler") @ to_matrix(
        torch.tensor([0.3, 0.0, 0.0]).double(), "euler"
    )
    end = [0.0, 1.0, 0.0, *from_matrix(turn, "euler").tolist(), 0.0]
    episode = labelled(proprio=[start, end])
    tool = pose_codec("euler", "rotvec", "tool").raw_actions(episode)[0]
    np.testing.assert_allclose(tool, [1, 0, 0, 0.3, 0, 0, 0], atol=1e-6)
    base = pose_codec("euler", "rotvec", "base").raw_actions(episode)[0]
    np.testing.assert_allclose(base, [0, 1, 0, 0, 0.3, 0, 0], atol=1e-6)


@pytest.mark.parametrize("change", CHANGES)
def test_the_sign_of_a_quaternion_changes_nothing(change):
    path = walk(20, "quaternion")
    flipped = path.copy()
    flipped[::3, 3:7] *= -1
    codec = pose_codec("quaternion", change, "base")
    one, other = (codec.raw_actions(labelled(proprio=p)) for p in (path, flipped))
    np.testing.assert_allclose(one, other, atol=1e-6)
    after = codec.integrate(torch.from_numpy(flipped[0]), codec.encode(torch.from_numpy(one[:1])))
    assert float((after[3:7] * torch.from_numpy(flipped[0, 3:7])).sum()) > 0, "it stays on the side it was on"


def test_euler_angles_through_both_poles_come_back():
    pitch = np.concatenate([np.linspace(1.2, math.pi / 2, 9), np.linspace(math.pi / 2, -math.pi / 2, 40)])
    path = np.zeros((len(pitch), 7), np.float32)
    path[:, 3], path[:, 4], path[:, 5] = 0.4, pitch, np.linspace(3.0, 4.0, len(pitch)) % 6.283 - 3.1416
    codec = pose_codec("euler", "rotvec", "tool", block=len(pitch) - 1)
    raw = torch.from_numpy(codec.raw_actions(labelled(proprio=path)))
    along = codec.path(torch.from_numpy(path[0]), codec.encode(raw[None])[0])
    assert max(distance(along, path[1:], "euler")) < 2e-6


def test_statistics_bounds_and_names_are_of_the_change_and_are_saved():
    path = walk(60, "quaternion")
    data = Labels(labelled(proprio=path), proprio=("x", "y", "z", "qx", "qy", "qz", "qw", "gripper"))
    pose = Pose((3, 4, 5, 6), "quaternion", "6d", (0, 1, 2), "tool")
    codec = ActionCodec.fit(
        data, [Segment(0, 0, 60)], block=2, source="proprio_difference", poses=(pose,), normalise={3: "quantile"}
    )
    assert codec.names == ("x", "y", "z", "r00", "r10", "r20", "r01", "r11", "r21", "gripper")
    assert codec.normalise == ("zscore",) * 3 + ("quantile",) * 6 + ("zscore",)
    raw = codec.raw_actions(data.episode(0))
    np.testing.assert_allclose(codec.bounds.low, raw.min(0))
    back = ActionCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert back.poses == (pose,)
    assert np.array_equal(back.raw_actions(data.episode(0)), raw)
    with pytest.raises(CheckpointError, match=r"pose: missing keys \['frame'\]"):
        Pose.from_dict({k: v for k, v in pose.to_dict().items() if k != "frame"})


def test_still_changes_nothing():
    path = walk(2, "matrix")
    for change in CHANGES:
        codec = pose_codec("matrix", change, "tool", block=2)
        after = codec.integrate(torch.from_numpy(path[0]), codec.encode(codec.still()))
        torch.testing.assert_close(after, torch.from_numpy(path[0]), atol=2e-6, rtol=0)


def test_two_arms_and_picked_columns():
    left, right = walk(10, "euler", seed=1), walk(10, "euler", seed=2)
    proprio = np.concatenate([left, right], 1)
    columns = (*range(7, 14), *range(7))  # the right arm first
    poses = (Pose((3, 4, 5), position=(0, 1, 2), frame="tool"), Pose((10, 11, 12), position=(7, 8, 9)))
    data = Labels(labelled(proprio=proprio), proprio=tuple(f"s{k}" for k in range(14)))
    codec = ActionCodec.fit(
        data, [Segment(0, 0, 10)], block=1, source="proprio_difference", columns=columns, poses=poses
    )
    assert codec.names[3:6] == ("0.rx", "0.ry", "0.rz")
    assert codec.names[10:13] == ("1.rx", "1.ry", "1.rz")
    raw = codec.raw_actions(data.episode(0))
    for arm, path, frame in ((slice(0, 7), right, "tool"), (slice(7, 14), left, "base")):
        alone = pose_codec("euler", "rotvec", frame).raw_actions(labelled(proprio=path))
        np.testing.assert_allclose(raw[:, arm], alone, atol=1e-7)
    after = codec.integrate(torch.from_numpy(proprio[3]), codec.encode(torch.from_numpy(raw[3:4])))
    assert max(distance(after[:7], left[4], "euler")) < 3e-6
    assert max(distance(after[7:], right[4], "euler")) < 3e-6


@pytest.mark.parametrize("form", ["euler", "quaternion"])
def test_commands_are_seen_from_the_present_pose_and_come_back_as_commands(form):
    proprio, commands = walk(20, form, seed=1), walk(19, form, seed=5)
    episode = labelled(commands, proprio)
    codec = pose_codec(form, "rotvec", "tool", source="action_minus_proprio")
    raw = codec.raw_actions(episode)
    one_step = pose_codec(form, "rotvec", "tool")
    for t in (0, 7, 18):
        pair = labelled(proprio=np.stack([proprio[t], commands[t]]))
        np.testing.assert_allclose(raw[t], one_step.raw_actions(pair)[0], atol=1e-7)
    model = codec.encode(torch.from_numpy(raw)[:, None])
    sent = codec.path(torch.from_numpy(proprio[:-1]), model)[:, 0]
    assert max(distance(sent, commands, form)) < 3e-6
    torch.testing.assert_close(codec.integrate(torch.from_numpy(proprio[:-1]), model), sent), "it counts as reached"


def test_a_gripper_command_may_stay_what_it_is():
    proprio, commands = np.zeros((5, 3)), np.zeros((4, 3))
    proprio[:, 2], commands[:, 0], commands[:, 2] = 9.0, [1, 2, 3, 4], [0, 1, 1, 0]
    data = Labels(labelled(commands, proprio), actions=("x", "y", "gripper"), proprio=("y", "x", "force"))
    settings = {"block": 1, "source": "action_minus_proprio", "proprio_columns": (1, 0)}
    for more, width in (({"absolute": (2,)}, 3), ({"discrete": (2,)}, 4)):
        codec = ActionCodec.fit(data, [Segment(0, 0, 5)], **settings, **more)
        assert codec.raw_actions(data.episode(0))[:, 2].tolist() == [0.0, 1.0, 1.0, 0.0]
        assert codec.action_dim == width
        model = codec.encode(torch.tensor([[1.5, -1.0, 1.0]]))
        sent = codec.path(torch.tensor([10.0, 20.0, 9.0]), model)
        torch.testing.assert_close(sent, torch.tensor([[21.5, 9.0, 1.0]]))
        after = codec.integrate(torch.tensor([10.0, 20.0, 9.0]), model)
        torch.testing.assert_close(after, torch.tensor([9.0, 21.5, 9.0]))


def test_recorded_rotations_may_be_written_otherwise():
    """`source="action"`: no difference is taken, the command is only written as another form, and back."""
    commands = walk(12, "quaternion")
    codec = pose_codec("quaternion", "6d", "base", source="action")
    raw = codec.raw_actions(labelled(commands))
    matrix = to_matrix(torch.from_numpy(commands[:, 3:7]).double(), "quaternion")
    np.testing.assert_allclose(raw[:, 3:9], from_matrix(matrix, "6d"), atol=1e-6)
    assert np.array_equal(raw[:, :3], commands[:, :3])
    sent = codec.path(None, codec.encode(torch.from_numpy(raw)[:, None]))[:, 0]
    assert max(distance(sent, commands, "quaternion")) < 2e-6


BROKEN = {
    "quaternion": [
        ([0.1, 0.1, 0.1, 0.1], r"not a rotation as quaternion: norm 0.2, expected 1"),
        ([0, 0, 0, 0], "norm 0,"),
    ],
    "matrix": [
        ([1, 0, 0, 0, 1, 0, 0, 0, -1], r"not a rotation as matrix: determinant -1, expected 1"),
        ([2, 0, 0, 0, 1, 0, 0, 0, 1], "columns that are 3 from orthonormal, expected 0"),
    ],
    "6d": [([1, 0, 0, 1, 0, 0], "not a rotation as 6d: columns that are 1 from orthonormal")],
}


@pytest.mark.parametrize(("form", "values", "says"), [(f, v, s) for f, cases in BROKEN.items() for v, s in cases])
def test_a_rotation_that_is_none_is_named(form, values, says):
    path = walk(9, form)
    path[4, 3 : 3 + len(values)] = values
    columns = ", ".join(str(k) for k in range(3, 3 + len(values)))
    place = rf"robot: {{}} of episode 2, row 4, dimensions {columns}: "
    with pytest.raises(DataError, match=place.format("proprio") + ".*" + says):
        pose_codec(form, "rotvec", "base").raw_actions(labelled(proprio=path, index=2))
    recorded = pose_codec(form, "rotvec", "base", source="action")
    with pytest.raises(DataError, match=place.format("action") + ".*" + says):
        recorded.raw_actions(labelled(path, index=2))
    unknown = labelled(path, index=2, action_mask=np.arange(9) != 4)
    assert (recorded.raw_actions(unknown)[4] == 0).all(), "an unknown step may hold anything"


def test_rotations_stored_in_half_precision_are_rotations():
    for form in FORMS:
        path = walk(30, form).astype(np.float16).astype(np.float32)
        raw = pose_codec(form, "matrix", "base").raw_actions(labelled(proprio=path))
        turn = torch.from_numpy(raw[:, 3:12]).view(-1, 3, 3).double()
        torch.testing.assert_close(turn @ turn.mT, torch.eye(3).double().expand_as(turn), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Pose((3, 4, 5), "quaternion"), r"rotation in columns \(3, 4, 5\), expected the 4 of form quaternion"),
        (lambda: Pose((3, 4, 5), "euler", "quaternion"), "change 'quaternion' and frame 'base', expected one of"),
        (lambda: Pose((3, 4, 5), frame="camera"), "frame 'camera'"),
        (lambda: Pose((3, 4, 5), position=(0, 1)), r"position in columns \(0, 1\), expected the 3 of x, y, z"),
        (lambda: Pose((3, 4, 5), position=(0, 1, 3)), "expected each once and none negative"),
        (lambda: replace(pose_codec("euler", "euler", "base"), angles=(4,)), r"columns \[4\] belong to a pose and"),
        (lambda: replace(pose_codec("euler", "euler", "base"), absolute=(1,)), r"columns \[1\] belong to a pose and"),
        (lambda: replace(pose_codec("euler", "euler", "base"), absolute=(7,)), r"absolute \(7,\), expected dim"),
        (lambda: replace(pose_codec("euler", "euler", "base"), classes=(0, 0, 0, 4, 0, 0, 0)), "s3 is discrete, expec"),
        (lambda: replace(pose_codec("euler", "euler", "base"), proprio_columns=(0,) * 7), "proprio_columns .* source"),
    ],
)
def test_poses_that_make_no_sense_are_refused(make, says):
    with pytest.raises(DataError, match=says):
        make()


def test_a_path_needs_the_present_pose():
    codec = pose_codec("euler", "euler", "base")
    with pytest.raises(ShapeError, match="proprio is none, expected float with the codec's dimensions, s0, s1"):
        codec.path(None, torch.zeros(7))
    with pytest.raises(ShapeError, match=r"proprio is torch.float32 \(6,\)"):
        codec.path(torch.zeros(6), torch.zeros(7))
    data = Labels(labelled(np.zeros((4, 7))), actions=codec.names)
    with pytest.raises(DataError, match="robot: holds no proprio, which the action codec's source 'action_minus_pro"):
        ActionCodec.fit(data, [Segment(0, 0, 5)], block=1, source="action_minus_proprio")
