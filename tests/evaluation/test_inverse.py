import json

import numpy as np
import pytest
from known_worlds import Cart, KnownWorld, cart_positions, nowhere, opened, room, wander

from jepa_actions.data import Segment
from jepa_actions.errors import DataError
from jepa_actions.evaluation import inverse
from jepa_actions.evaluation.heads import FitBudget
from jepa_actions.evaluation.inverse import evaluate_inverse, r2
from jepa_actions.training import SplitConfig
from jepa_actions.training.sources import make_split

SHORT = FitBudget(10, 64, 1e-3, 0.01)
QUICK = {"train_limit": 600, "limit": 300, "budget": FitBudget(120, 256, 1e-3, 0.01)}


@pytest.fixture(scope="module")
def data():
    return room()


@pytest.fixture(scope="module")
def exact(data):
    return evaluate_inverse(KnownWorld(data.codec), data, **QUICK)


@pytest.fixture(scope="module")
def blind(data):
    return evaluate_inverse(KnownWorld(data.codec, nowhere), data, **QUICK)


def test_r2_by_hand():
    actual = np.array([[0.0, 1.0], [2.0, 1.5], [4.0, 2.0]])
    guess = actual + np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(r2(actual, guess), [1 - 2 / 8, 1.0])
    np.testing.assert_allclose(r2(actual, np.repeat(actual.mean(0, keepdims=True), 3, 0)), 0.0)


def test_true_positions_and_an_exact_head_score_and_shuffled_pairs_do_not(exact):
    assert exact["metrics"]["r2_mean"] > 0.9
    assert exact["metrics"]["r2_mean"] == pytest.approx(np.mean(list(exact["metrics"]["r2"].values())))
    assert set(exact["metrics"]["r2"]) == {"dx", "dy"}
    assert exact["floors"]["shuffled_pairs"]["r2_mean"] < 0.0
    assert set(exact["floors"]) == {"mean", "episode_mean", "shuffled_pairs", "z_now", "z_next", "past"}
    for name in ("mean", "z_now", "z_next"):
        assert exact["floors"][name]["r2_mean"] < 0.4, name
    assert exact["references"]["true_state"]["r2_mean"] > 0.6
    assert exact["references"]["pair_refit"]["r2_mean"] > exact["floors"]["z_next"]["r2_mean"] + 0.3


def test_a_constant_encoder_beats_no_mean(blind):
    for name in ("z_now", "z_next", "past", "shuffled_pairs"):
        assert blind["floors"][name]["r2_mean"] < 0.03, name
    assert blind["metrics"]["r2_mean"] < 0.03
    assert blind["references"]["pair_refit"]["r2_mean"] < 0.03
    assert blind["references"]["true_state"]["r2_mean"] > 0.6, "the ceiling does not look through the encoder"


def test_intervals_contain_their_estimates(exact):
    low, high = exact["ci95"]["r2_mean"]
    assert low < exact["metrics"]["r2_mean"] < high
    assert high - low < 0.2
    for name, (low, high) in exact["ci95"]["r2"].items():
        assert low < exact["metrics"]["r2"][name] < high
    for floor, (low, high) in exact["ci95"]["margin_over"].items():
        assert low < exact["metrics"]["r2_mean"] - exact["floors"][floor]["r2_mean"] < high
    assert set(exact["ci95"]["margin_over"]) == set(exact["floors"])
    for name, (low, high) in exact["ci95"]["refit_margin_over_past"].items():
        assert low < exact["references"]["pair_refit"]["r2"][name] - exact["floors"]["past"]["r2"][name] < high


def test_the_report_is_json_and_says_what_it_saw(exact):
    assert json.loads(json.dumps(exact))["metrics"]["rows"] == 300
    assert exact["episodes"] <= 20
    assert exact["data"] == "env:two_room"
    assert exact["commit"]
    assert "cpu" in exact["hardware"]


def test_held_out_layouts_have_no_training_part_of_their_episode(exact):
    assert exact["floors"]["episode_mean"] == exact["floors"]["mean"]


def test_the_gripper_is_reported_and_not_averaged():
    cart = Cart(wander(), switch=True)
    data = opened(cart, [Segment(i, 0, 41) for i in range(4)], [Segment(4, 0, 41), Segment(5, 0, 41)])
    report = evaluate_inverse(KnownWorld(data.codec, cart_positions), data, budget=SHORT)
    assert report["metrics"]["r2_mean"] == pytest.approx(1.0, abs=1e-6)
    assert report["metrics"]["r2"]["gripper"] < 0.1
    assert "true_state" not in report["references"]


def test_the_episode_mean_knows_the_training_part_alone():
    rng = np.random.default_rng(0)
    moves = [np.concatenate([rng.integers(0, 3, (30, 2)) * sign, np.full((10, 2), -3 * sign)]) for sign in (1, -1)]
    cart = Cart(moves)
    data = opened(cart, [Segment(0, 0, 31), Segment(1, 0, 31)], [Segment(0, 30, 41), Segment(1, 30, 41)])
    report = evaluate_inverse(KnownWorld(data.codec, cart_positions), data, budget=SHORT)
    actual = np.concatenate([m[31:] for m in moves]).astype(float)
    guess = np.concatenate([np.repeat(m[1:30].mean(0, keepdims=True), 9, 0) for m in moves])
    assert list(report["floors"]["episode_mean"]["r2"].values()) == pytest.approx(r2(actual, guess), rel=1e-4)
    assert report["floors"]["episode_mean"]["r2_mean"] < report["floors"]["mean"]["r2_mean"] < 0.01


@pytest.mark.parametrize(
    "split",
    [
        SplitConfig("episode", fraction=0.4),
        SplitConfig("tail", fraction=0.3),
        SplitConfig("blocks", blocks=2, fraction=0.4, gap=1),
        SplitConfig("folds", folds=3, fold=1),
    ],
    ids=lambda split: split.kind,
)
def test_held_out_rows_share_no_frame_with_training_rows(split, monkeypatch):
    cart, seen = Cart(wander()), []
    found = make_split(cart, split)
    data = opened(cart, found.train, found.heldout, block=2)
    real = inverse.encode_clips

    def recorded(*args, **options):
        seen.append(real(*args, **options))
        return seen[-1]

    monkeypatch.setattr(inverse, "encode_clips", recorded)
    report = evaluate_inverse(KnownWorld(data.codec, cart_positions), data, budget=SHORT)
    train, test = (
        {(e, f) for e, row in zip(s.episode, s.frame, strict=True) for f in range(row[0], row[-1] + 1)} for s in seen
    )
    assert train
    assert test
    assert not train & test
    assert report["metrics"]["rows"] == len(seen[1])


def test_what_cannot_be_evaluated_is_refused(data):
    video_only = KnownWorld(data.codec)
    video_only.inverse = None
    with pytest.raises(DataError, match="no inverse head: it was trained without actions"):
        evaluate_inverse(video_only, data)
    cart = Cart(wander(2))
    nothing = opened(cart, [Segment(0, 0, 41)], [])
    with pytest.raises(DataError, match="nothing is held out"):
        evaluate_inverse(KnownWorld(nothing.codec, cart_positions), nothing)
