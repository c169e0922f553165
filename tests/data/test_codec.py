"""Raw to model actions and back; bounds; angles; statistics of the labelled training steps only."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_actions.data import ActionBounds, ActionCodec, Episode, Segment, wrap_angle
from jepa_actions.errors import CheckpointError, DataError, ShapeError


class Labels:
    """A data set that has labels and no frames: all a codec needs."""

    def __init__(self, episodes, actions=("dx", "dy"), proprio=("x", "y", "yaw")):
        self.name, self.episodes = "robot", episodes
        self.action_names, self.proprio_names = actions, proprio

    def episode(self, i):
        return self.episodes[i]


def episode(actions=None, proprio=None, mask=None, index=0):
    length = len(proprio) if actions is None else len(actions) + 1
    as32 = [None if x is None else np.asarray(x, np.float32) for x in (actions, proprio)]
    return Episode(index=index, length=length, actions=as32[0], proprio=as32[1], action_mask=mask, dataset="robot")


def codec_for(mean, std, bounds, block=1, **more):
    names = tuple(f"a{k}" for k in range(len(mean)))
    return ActionCodec(names, block, np.asarray(mean, np.float32), np.asarray(std, np.float32), bounds, **more)


numbers = st.floats(-50, 50)
scales = st.floats(0.01, 30)


@settings(deadline=None)
@given(
    st.lists(st.tuples(numbers, scales), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 99), st.booleans()
)
def test_round_trip_and_projection(statistics, block, seed, ball):
    mean, std = zip(*statistics, strict=True)
    size = len(mean)
    g = torch.Generator().manual_seed(seed)
    raw = torch.randn(5, 2, block, size, generator=g) * 40
    bounds = ActionBounds("ball", radius=7.5) if ball else ActionBounds("box", low=(-9.0,) * size, high=(4.0,) * size)
    codec = codec_for(mean, std, bounds, block)
    model = codec.encode(raw)
    assert model.shape == (5, 2, block * size)
    assert codec.action_dim == block * size
    scale = raw.abs() + codec_scale(codec)
    assert ((codec.decode(model) - raw).abs() <= 1e-6 * scale).all()
    limits = codec.model_bounds
    projected = codec.decode(limits.project(model))
    assert ((projected - bounds.project(raw)).abs() <= 2e-6 * scale).all(), (
        "projecting in model space is projecting in raw units"
    )
    slack = 2e-6 * codec_scale(codec)
    if ball:
        assert (projected.norm(dim=-1) <= 7.5 + slack.max()).all()
    else:
        assert (projected >= -9.0 - slack).all()
        assert (projected <= 4.0 + slack).all()
    again = limits.project(limits.project(model))
    assert torch.allclose(again, limits.project(model), atol=1e-4), "projecting twice is projecting once"
    assert (limits.project(model) >= limits.low - 1e-3).all()
    assert (limits.project(model) <= limits.high + 1e-3).all()


def codec_scale(codec):
    """Rounding of float32 is relative to the numbers that were added."""
    return 50.0 + torch.from_numpy(np.abs(codec.mean) + codec.std)


def test_a_block_is_consecutive_raw_actions_side_by_side():
    codec = codec_for([1.0, 2.0], [2.0, 4.0], ActionBounds("ball", radius=1.0), block=2)
    model = codec.encode(torch.tensor([[[3.0, 2.0], [1.0, 6.0]]]))
    assert model.tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_the_ball_scales_each_raw_action_of_a_block_by_itself():
    codec = codec_for([0.0, 0.0], [1.0, 0.5], ActionBounds("ball", radius=1.0), block=2)
    raw = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    projected = codec.decode(codec.model_bounds.project(codec.encode(raw)))
    assert torch.allclose(projected, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


@settings(deadline=None)
@given(st.floats(-1e3, 1e3))
def test_wrapped_angles_are_in_range_and_equal_modulo_a_turn(angle):
    wrapped = float(wrap_angle(np.array([angle]))[0])
    assert -math.pi < wrapped <= math.pi
    assert math.isclose(math.cos(wrapped), math.cos(angle), abs_tol=1e-9)
    assert math.isclose(math.sin(wrapped), math.sin(angle), abs_tol=1e-9)


def test_wrapping_at_the_ends():
    ends = np.array([math.pi, -math.pi, 3 * math.pi, -3 * math.pi, 0.0, 6.2])
    assert np.allclose(wrap_angle(ends), [math.pi, math.pi, math.pi, math.pi, 0.0, 6.2 - 2 * math.pi])
    just_over = np.nextafter(-math.pi, -10)
    assert -math.pi < wrap_angle(np.array([just_over]))[0] <= math.pi


def test_differences_of_proprio_wrap_only_the_named_angles():
    poses = [[0.0, 0.0, 3.1], [5.0, 0.5, -3.1], [5.0, 0.0, 3.1]]
    data = Labels([episode(proprio=poses)], actions=None)
    codec = ActionCodec.fit(
        data, [Segment(0, 0, 3)], block=1, source="proprio_difference", columns=(2, 0), angles=(0,), bounds="support"
    )
    raw = codec.raw_actions(data.episode(0))
    assert codec.names == ("yaw", "x")
    assert np.allclose(raw, [[2 * math.pi - 6.2, 5.0], [6.2 - 2 * math.pi, 0.0]], atol=1e-6)
    assert np.allclose(codec.bounds.low, raw.min(0))
    assert np.allclose(codec.bounds.high, raw.max(0))


def test_statistics_are_of_labelled_steps_inside_the_segments():
    actions = [[1.0, 5.0], [3.0, 5.0], [100.0, 0.0], [7.0, 5.0], [1000.0, 0.0]]
    mask = np.array([True, True, False, True, True])
    data = Labels([episode(actions, mask=mask), episode([[9.0, 9.0]] * 3, index=1)])
    codec = ActionCodec.fit(data, [Segment(0, 0, 2), Segment(0, 1, 5)], block=1)
    # steps 0, 1, 3: step 2 is unlabelled, step 4 leads out of the segment
    assert np.allclose(codec.mean, [11 / 3, 5.0])
    assert np.allclose(codec.std, [np.std([1.0, 3.0, 7.0]), 1.0]), "a dimension that never changes gets std 1"
    assert codec.bounds == ActionBounds("box", low=(1.0, 5.0), high=(7.0, 5.0))
    ball = ActionCodec.fit(data, [Segment(0, 0, 2)], block=1, ball=True)
    assert ball.bounds.kind == "ball"
    assert math.isclose(ball.bounds.radius, math.sqrt(26), rel_tol=1e-6)
    given_bounds = ActionBounds("ball", radius=1.8)
    assert ActionCodec.fit(data, [Segment(0, 0, 2)], block=1, bounds=given_bounds).bounds == given_bounds


def test_unlabelled_steps_may_be_nan_and_read_as_zero():
    data = Labels([episode([[1.0, 1.0], [np.nan, 2.0]], mask=np.array([True, False]))])
    codec = ActionCodec.fit(data, [Segment(0, 0, 3)], block=1)
    assert codec.raw_actions(data.episode(0)).tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_nan_is_named():
    data = Labels([episode([[1.0, 1.0]] * 4), episode([[1.0, 1.0], [1.0, np.nan]], index=1)])
    with pytest.raises(DataError, match=r"robot: action of episode 1, row 1, dimension 1 \(dy\): found nan"):
        ActionCodec.fit(data, [Segment(0, 0, 5), Segment(1, 0, 3)], block=1)
    poses = Labels([episode(proprio=[[0.0, 0, 0], [0, 0, np.inf]])])
    with pytest.raises(DataError, match=r"robot: proprio of episode 0, row 1, dimension 2 \(yaw\): found inf"):
        ActionCodec.fit(poses, [Segment(0, 0, 2)], block=1, source="proprio_difference")


def test_json_round_trip_keeps_every_bit():
    data = Labels([episode(proprio=np.random.default_rng(0).normal(size=(9, 3)))])
    for ball in (False, True):
        codec = ActionCodec.fit(
            data, [Segment(0, 0, 9)], block=3, source="proprio_difference", columns=(0, 2), angles=(1,), ball=ball
        )
        back = ActionCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
        raw = torch.randn(4, 3, 2)
        assert torch.equal(back.encode(raw), codec.encode(raw))
        assert back.to_dict() == codec.to_dict()
        assert (back.bounds, back.source, back.columns, back.angles) == (codec.bounds, codec.source, (0, 2), (1,))


def test_a_saved_codec_with_other_keys_is_refused():
    saved = codec_for([0.0], [1.0], ActionBounds("ball", radius=1.0)).to_dict()
    with pytest.raises(CheckpointError, match="not known \\['scale'\\]"):
        ActionCodec.from_dict({**saved, "scale": 2})
    with pytest.raises(CheckpointError, match="missing keys \\['std'\\]"):
        ActionCodec.from_dict({key: value for key, value in saved.items() if key != "std"})
    with pytest.raises(CheckpointError, match="action bounds: missing keys \\['radius'\\]"):
        ActionCodec.from_dict({**saved, "bounds": {"kind": "ball"}})


def test_wrong_shapes_are_refused():
    codec = codec_for([0.0, 0.0], [1.0, 1.0], ActionBounds("ball", radius=1.0), block=3)
    for wrong in (torch.zeros(4, 3, 3), torch.zeros(4, 2, 2), torch.zeros(6), torch.zeros(3, 2, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"raw actions are .*expected float \(\.\.\., 3, 2\)"):
            codec.encode(wrong)
    with pytest.raises(ShapeError, match=r"model actions are torch.float32 \(4, 5\), expected float \(\.\.\., 6\)"):
        codec.decode(torch.zeros(4, 5))
    box = codec_for([0.0], [1.0], ActionBounds("box", low=(0.0,), high=(1.0,)))
    with pytest.raises(ShapeError, match="model actions"):
        box.model_bounds.project(torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ActionBounds("box", low=(0.0,)), "a box has low and high"),
        (lambda: ActionBounds("box", low=(1.0,), high=(0.0,)), "expected low <= high"),
        (lambda: ActionBounds("ball", radius=0.0), "radius 0.0 given"),
        (lambda: ActionBounds("sphere", radius=1.0), "kind 'sphere'"),
        (lambda: codec_for([0.0], [0.0], ActionBounds("ball", radius=1.0)), "std > 0"),
        (lambda: codec_for([0.0], [1.0], ActionBounds("ball", radius=1.0), angles=(1,)), "angles \\(1,\\)"),
        (lambda: codec_for([0.0], [1.0], ActionBounds("ball", radius=1.0), source="pose"), "source 'pose'"),
        (lambda: codec_for([0.0], [1.0], ActionBounds("ball", radius=1.0), columns=(0, 1)), "columns \\(0, 1\\)"),
        (lambda: codec_for([0.0], [1.0], ActionBounds("box", low=(0.0,) * 2, high=(1.0,) * 2)), "bounds of 2 dim"),
    ],
)
def test_bad_codecs_are_refused(make, says):
    with pytest.raises(DataError, match=says):
        make()


def test_fit_refuses_what_the_data_set_lacks():
    data = Labels([episode(proprio=np.zeros((4, 3)))], actions=None)
    with pytest.raises(DataError, match="robot: holds no actions"):
        ActionCodec.fit(data, [Segment(0, 0, 4)], block=1)
    with pytest.raises(DataError, match=r"columns \(0, 3\) .*expected 0 to 2"):
        ActionCodec.fit(data, [Segment(0, 0, 4)], block=1, source="proprio_difference", columns=(0, 3))
    with pytest.raises(DataError, match="no labelled step in 1 training segments"):
        ActionCodec.fit(Labels(data.episodes), [Segment(0, 0, 4)], block=1)
    codec = codec_for([0.0, 0.0], [1.0, 1.0], ActionBounds("ball", radius=1.0))
    with pytest.raises(DataError, match="action of episode 0 has 3 dimensions, expected those of the codec, a0, a1"):
        codec.raw_actions(episode([[1.0, 2.0, 3.0]]))
