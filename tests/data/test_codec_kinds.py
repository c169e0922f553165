"""Discrete, mixed and quantile-scaled actions: round trips, bounds in model space, whose steps count."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from codec_labels import Labels, labelled, load_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_actions.data import ActionBounds, ActionCodec, Provenance, Segment
from jepa_actions.errors import DataError

NAMES = ("dx", "gripper", "dy", "button")


def recording(rows=200, seed=0, **more):
    """dx and dy are numbers (dy with rare outliers), gripper is one of 3 classes, button one of 2."""
    rng = np.random.default_rng(seed)
    actions = rng.normal(size=(rows, 4))
    actions[:, 1], actions[:, 3] = rng.integers(0, 3, rows), rng.integers(0, 2, rows)
    actions[:3, 2] = (50.0, -80.0, 60.0)
    return labelled(actions, **more)


def fitted(**settings):
    data = Labels(recording(), actions=NAMES)
    return ActionCodec.fit(data, [Segment(0, 0, 201)], **({"block": 2, "discrete": {1: 3, 3: 2}} | settings))


floats = st.floats(-1e6, 1e6, width=32)
spreads = st.floats(2.0**-10, 2.0**10, width=32)


@settings(deadline=None)
@given(st.lists(floats, min_size=1, max_size=20), floats, spreads)
def test_what_comes_back_is_within_one_epsilon_of_the_distance_from_the_mean(values, mean, std):
    codec = ActionCodec(
        ("a",), 1, np.array([mean], np.float32), np.array([std], np.float32), ActionBounds("ball", radius=1.0)
    )
    raw = torch.tensor(values, dtype=torch.float32)[:, None, None]
    model = codec.encode(raw)
    back = codec.decode(model)[:, 0, 0].numpy()
    exact = raw[:, 0, 0].numpy()
    distance = np.abs(exact.astype(np.float64) - mean)
    subnormal = std * 2.0**-149
    assert (np.abs(back.astype(np.float64) - exact) <= 2.0**-23 * distance + subnormal).all()


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=50),
    st.integers(-30, 10),
    st.floats(-1, 1),
    st.floats(0.01, 1),
)
def test_numbers_of_few_digits_come_back_to_the_bit(whole, power, mean, std):
    """Counts of any power of two, whatever they are normalised with: a million steps about a mean among them."""
    unit = 2.0**power
    statistics = [np.array([x * 2**20 * unit], np.float32) for x in (mean, std)]
    codec = ActionCodec(("a",), 1, *statistics, ActionBounds("ball", radius=1.0))
    raw = torch.tensor(whole, dtype=torch.float32)[:, None, None] * unit
    assert torch.equal(codec.decode(codec.encode(raw)), raw)


def test_changes_of_recorded_poses_come_back_to_the_bit(real_data):
    data = load_labels(real_data / "droid_franka")
    codec = ActionCodec.fit(data, data.segments, block=1, source="proprio_difference", columns=(0, 1, 2))
    raw = torch.cat([torch.from_numpy(codec.raw_actions(e)) for e in data.episodes])[:, None]
    same = codec.decode(codec.encode(raw)) == raw
    assert float(same.float().mean()) > 0.99


@pytest.mark.parametrize("discrete", [{1: 3, 3: 2}, (1, 3)], ids=["given", "counted"])
def test_classes_are_one_hot_in_the_model_and_come_back_exactly(discrete):
    codec = fitted(discrete=discrete)
    assert codec.classes == (0, 3, 0, 2)
    assert codec.action_dim == 2 * (1 + 3 + 1 + 2)
    assert codec.discrete == ((1, 3), (5, 2), (8, 3), (12, 2))
    raw = torch.from_numpy(codec.raw_actions(recording(seed=1))).view(-1, 2, 4)
    model = codec.encode(raw)
    for start, count in codec.discrete:
        hot = model[:, start : start + count]
        assert ((hot == 0) | (hot == 1)).all()
        assert (hot.sum(-1) == 1).all()
    back = codec.decode(model)
    assert torch.equal(back[..., [1, 3]], raw[..., [1, 3]])
    torch.testing.assert_close(back, raw)
    assert (codec.mean[1], codec.std[1], codec.normalise[1]) == (0.0, 1.0, "discrete")


def test_of_probabilities_the_most_probable_class_is_decoded():
    codec = fitted(block=1)
    model = torch.tensor([[0.0, 0.2, 0.5, 0.3, 0.0, 0.9, 0.1]])
    assert codec.decode(model)[0, 0, [1, 3]].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("ball", [False, True])
def test_projection_gives_valid_one_hots_inside_the_bounds(ball):
    codec = fitted(ball=ball)
    limits = codec.model_bounds
    wild = torch.randn(50, 3, codec.action_dim, generator=torch.Generator().manual_seed(0)) * 30
    inside = limits.project(wild)
    raw = codec.decode(inside)
    assert torch.equal(codec.encode(raw), codec.encode(codec.decode(codec.encode(raw))))
    for start, count in codec.discrete:
        hot = inside[..., start : start + count]
        assert torch.equal(hot.sort(-1).values[..., -1], torch.ones(50, 3))
        assert (hot.sum(-1) == 1).all()
        assert torch.equal(hot.argmax(-1), wild[..., start : start + count].argmax(-1)), "the nearest one-hot"
        assert limits.low[start : start + count].tolist() == [0.0] * count
        assert limits.high[start : start + count].tolist() == [1.0] * count
    numbers = raw[..., [0, 2]]
    if ball:
        assert (numbers.norm(dim=-1) <= codec.bounds.radius * 1.000001).all()
    else:
        low, high = torch.tensor(codec.bounds.low)[[0, 2]], torch.tensor(codec.bounds.high)[[0, 2]]
        assert ((numbers >= low - 1e-5) & (numbers <= high + 1e-5)).all()
    assert torch.equal(limits.project(inside), inside) or torch.allclose(limits.project(inside), inside, atol=1e-5)


def test_bounds_leave_classes_out():
    codec = fitted(block=1)
    tight = replace(codec, bounds=ActionBounds("box", low=(-1.0, 1.0, -1.0, 1.0), high=(1.0, 2.0, 1.0, 1.0)))
    limits = tight.model_bounds
    assert limits.high[1:4].tolist() == [0.0, 1.0, 1.0]
    assert (limits.low[5:].tolist(), limits.high[5:].tolist()) == ([0.0, 1.0], [0.0, 1.0]), "one class is left"
    projected = tight.decode(limits.project(torch.tensor([[0.0, 9.0, 0.1, 0.2, 0.0, 5.0, 0.0]])))
    assert projected[0, 0, [1, 3]].tolist() == [2.0, 1.0]
    with pytest.raises(DataError, match=r"bounds of gripper, 2.2 to 2.8, hold no class of 0 to 2"):
        replace(codec, bounds=ActionBounds("box", low=(-1.0, 2.2, -1.0, 0.0), high=(1.0, 2.8, 1.0, 1.0)))


@pytest.mark.parametrize("value", [2.5, -1.0, 3.0])
def test_a_number_that_is_no_class_is_named(value):
    bad = recording(index=7)
    bad.actions[11, 1] = value
    codec = fitted()
    says = rf"robot: action of episode 7, row 11, dimension 1 \(gripper\): found {value:g}, expected a class, a whole"
    with pytest.raises(DataError, match=says + " number from 0 to 2"):
        codec.raw_actions(bad)
    with pytest.raises(DataError, match=rf"gripper: found {value:g}, expected a class"):
        codec.encode(torch.tensor([[[0.0, value, 0.0, 0.0]] * 2]))
    if value != 3.0:
        with pytest.raises(DataError, match=rf"row 11, dimension 1 \(gripper\): found {value:g}"):
            ActionCodec.fit(Labels(bad, actions=NAMES), [Segment(0, 0, 201)], block=1, discrete=(1, 3))
    bad.action_mask = np.arange(200) != 11
    assert codec.raw_actions(bad)[11].tolist() == [0.0] * 4, "an unknown step may hold anything"


def test_quantiles_become_minus_one_and_one_where_asked():
    codec = fitted(normalise={2: "quantile"}, quantiles=(0.05, 0.95))
    steps = recording().actions.astype(np.float64)
    low, high = np.quantile(steps[:, 2], (0.05, 0.95))
    ends = torch.tensor([[[0.0, 0.0, low, 0.0], [0.0, 0.0, high, 0.0]]], dtype=torch.float32)
    model = codec.encode(ends)[0]
    torch.testing.assert_close(model[[4, 11]], torch.tensor([-1.0, 1.0]))
    assert codec.normalise == ("zscore", "discrete", "quantile", "discrete")
    assert codec.mean[0] == np.float32(steps[:, 0].mean())
    far = torch.tensor([[[0.0, 0.0, 60.0, 0.0]] * 2])
    torch.testing.assert_close(codec.decode(codec.encode(far)), far)
    everywhere = fitted(normalise="quantile", quantiles=(0.05, 0.95), bounds="quantiles")
    box = everywhere.model_bounds
    torch.testing.assert_close(box.low[[0, 4]], torch.tensor([-1.0, -1.0]))
    torch.testing.assert_close(box.high[[0, 4]], torch.tensor([1.0, 1.0]))
    assert (everywhere.bounds.low[1], everywhere.bounds.high[1]) == (0.0, 2.0), "classes keep their range"


def test_quantiles_that_meet_fall_back_to_the_range():
    actions = np.zeros((100, 2))
    actions[0], actions[1, 0] = (4.0, 0.0), -2.0
    data = Labels(labelled(actions), actions=("valve", "fixed"))
    codec = ActionCodec.fit(data, [Segment(0, 0, 101)], block=1, normalise="quantile", quantiles=(0.1, 0.9))
    assert codec.mean.tolist() == [1.0, 0.0]
    assert codec.std.tolist() == [3.0, 1.0]


def test_a_ball_of_quantiles_holds_most_steps():
    data = Labels(recording(), actions=NAMES)
    codec = ActionCodec.fit(
        data, [Segment(0, 0, 201)], block=1, columns=(0, 2), ball=True, bounds="quantiles", quantiles=(0.0, 0.9)
    )
    norms = np.linalg.norm(data.episode(0).actions[:, [0, 2]], axis=1)
    assert abs((norms <= codec.bounds.radius).mean() - 0.9) < 0.01


def test_only_true_labels_count_unless_said():
    origins = np.array([0, 0, 1, 1], dtype=np.int64)
    mixed = labelled([[1.0], [3.0], [100.0], [300.0]], provenance=origins, labeller="model")
    data = Labels(mixed, actions=("a",))
    whole = [Segment(0, 0, 5)]
    assert ActionCodec.fit(data, whole, block=1).mean.tolist() == [2.0]
    both = (Provenance.TRUE, Provenance.PSEUDO)
    assert ActionCodec.fit(data, whole, block=1, provenance=both).mean.tolist() == [101.0]
    assert ActionCodec.fit(data, whole, block=1, provenance=(Provenance.PSEUDO,)).mean.tolist() == [200.0]
    latent = Labels(labelled([[1.0]] * 3, provenance=Provenance.LATENT, labeller="model"), actions=("a",))
    with pytest.raises(DataError, match=r"no labelled step in 1 training segments that is true \(found 3 of another"):
        ActionCodec.fit(latent, [Segment(0, 0, 4)], block=1)
    with pytest.raises(DataError, match="statistics of latent actions together with others"):
        ActionCodec.fit(latent, [Segment(0, 0, 4)], block=1, provenance=tuple(Provenance))
    assert ActionCodec.fit(latent, [Segment(0, 0, 4)], block=1, provenance=(Provenance.LATENT,)).mean.tolist() == [1.0]


def test_a_mixed_codec_is_saved_with_every_field():
    codec = fitted(normalise={2: "quantile"}, lag=3)
    back = ActionCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert back.to_dict() == codec.to_dict()
    assert (back.classes, back.normalise, back.lag) == (codec.classes, codec.normalise, 3)
    raw = torch.from_numpy(codec.raw_actions(recording())).view(-1, 2, 4)
    assert torch.equal(back.encode(raw), codec.encode(raw))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"discrete": {4: 2}}, r"discrete of columns \[4\], expected picked ones, 0 to 3"),
        ({"discrete": {1: -1}}, r"classes \(0, -1, 0, 0\)"),
        ({"normalise": "minmax"}, "normalise 'minmax', expected 'zscore' or 'quantile'"),
        ({"normalise": {2: "minmax"}}, "normalise 'minmax'"),
        ({"quantiles": (0.9, 0.1)}, r"quantiles \(0.9, 0.1\), expected 0 <= lower < upper <= 1"),
        ({"columns": (1, 3), "discrete": (0, 1), "ball": True}, "a ball of discrete actions"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(DataError, match=says):
        fitted(**settings)
