import json

import numpy as np
import pytest
from known_worlds import Cart, KnownWorld, cart_positions, opened, room, wander

from jepa_actions.data import Segment
from jepa_actions.errors import DataError
from jepa_actions.evaluation.rollout import evaluate_rollout


@pytest.fixture(scope="module")
def cart():
    return opened(
        Cart(wander()), [Segment(i, 0, 41) for i in range(4)], [Segment(4, 0, 41), Segment(5, 0, 41)], block=2
    )


@pytest.mark.parametrize("history", [1, 3])
def test_a_perfect_model_has_no_error_and_the_floors_do(cart, history):
    report = evaluate_rollout(KnownWorld(cart.codec, cart_positions, history), cart, horizon=5)
    assert list(report["metrics"]["latent_error"]) == ["1", "2", "3", "4", "5"]
    assert max(report["metrics"]["latent_error"].values()) < 1e-4
    assert set(report["floors"]) == {"copy_last", "shuffled_actions"}
    for floor in report["floors"].values():
        assert list(floor["latent_error"]) == ["1", "2", "3", "4", "5"]
        assert min(floor["latent_error"].values()) > 0.05
        assert floor["latent_error"]["5"] > floor["latent_error"]["1"]
    assert "px_error" not in report["metrics"]
    assert report["episodes"] == 2 * (41 - 2 * (5 + history - 1))
    assert json.loads(json.dumps(report))["horizon"] == 5


def test_copy_last_by_hand(cart):
    report = evaluate_rollout(KnownWorld(cart.codec, cart_positions), cart, horizon=3)
    errors = []
    for episode in (4, 5):
        position = cart.dataset.positions[episode] / 16
        errors += [position[start + 6] - position[start] for start in range(41 - 6)]
    assert report["floors"]["copy_last"]["latent_error"]["3"] == pytest.approx(
        np.sqrt(np.square(errors).mean()), rel=1e-4
    )


def test_a_model_that_ignores_its_actions_is_no_better_with_the_right_ones(cart):
    model = KnownWorld(cart.codec, cart_positions)
    model.dynamics.rollout = lambda z, actions, cache: z[:, None].expand(-1, actions.shape[1], -1, -1)
    report = evaluate_rollout(model, cart, horizon=3)
    assert report["metrics"] == report["floors"]["shuffled_actions"] == report["floors"]["copy_last"]


def test_two_room_also_in_px():
    data = room()
    report = evaluate_rollout(KnownWorld(data.codec), data, horizon=8, limit=150)
    error, floors = report["metrics"]["px_error"], report["floors"]
    assert list(error) == [str(step) for step in range(1, 9)]
    assert error["1"] < 1.5  # blind to walls, else exact
    assert error["8"] < floors["copy_last"]["px_error"]["8"] / 2
    assert error["8"] < floors["shuffled_actions"]["px_error"]["8"] / 2


def test_steps_without_a_label_are_left_out(cart):
    some = Cart(wander())
    real = some.episode

    def partly(i):
        found = real(i)
        found.action_mask = np.arange(40) != 20
        return found

    some.episode = partly
    data = opened(some, cart.train, cart.heldout, block=2)
    report = evaluate_rollout(KnownWorld(data.codec, cart_positions), data, horizon=4)
    assert report["episodes"] == 2 * (33 - 8)
    assert max(report["metrics"]["latent_error"].values()) < 1e-4


def test_what_cannot_be_evaluated_is_refused(cart):
    model = KnownWorld(cart.codec, cart_positions)
    with pytest.raises(DataError, match="held-out stretches"):
        evaluate_rollout(model, opened(cart.dataset, cart.train, []))
    model.dynamics = None
    with pytest.raises(DataError, match="needs a model with dynamics"):
        evaluate_rollout(model, cart)
