import numpy as np
import pytest
import torch
from known_worlds import Cart, KnownWorld, cart_positions, dot_positions, nowhere, opened, room, wander

from jepa_actions.data import Segment
from jepa_actions.errors import DataError
from jepa_actions.evaluation.probe import LinearProbe, evaluate_probe, fit_probe


@pytest.fixture(scope="module")
def data():
    return room()


def test_exact_where_latents_are_a_linear_function_of_positions():
    generator = torch.Generator().manual_seed(0)
    positions = 10 + 40 * torch.rand(80, 2, generator=generator)
    mixing = torch.randn(2, 6, generator=generator)
    z = (positions @ mixing + 3.0).unflatten(1, (3, 2))
    probe = LinearProbe(z[:50], positions[:50], ridge=1e-12)
    torch.testing.assert_close(probe(z[50:]), positions[50:].double(), atol=1e-3, rtol=0)
    assert probe(z.unflatten(0, (8, 10))).shape == (8, 10, 2)


def test_a_quadratic_of_the_position_is_not_enough():
    generator = torch.Generator().manual_seed(0)
    centred = 2 * torch.rand(400, 2, generator=generator) - 1
    probe = LinearProbe(centred.square()[:, None], centred)
    assert (probe(centred.square()[:, None]) - centred).square().mean().sqrt() > 0.5


def test_a_good_encoder_is_found_good_and_a_blind_one_as_good_as_the_mean(data):
    report = evaluate_probe(KnownWorld(data.codec), data, untrained=KnownWorld(data.codec, nowhere), limit=500)
    assert report["metrics"]["rmse_px_mean"] < 0.05
    floors = report["floors"]
    assert floors["mean"]["rmse_px_mean"] > 8
    assert floors["untrained"]["rmse_px_mean"] == pytest.approx(floors["mean"]["rmse_px_mean"], rel=0.2)
    x, y = report["floors"]["mean"]["rmse_px"].values()
    assert floors["mean"]["rmse_px_mean"] == pytest.approx(np.sqrt((x**2 + y**2) / 2))
    assert set(evaluate_probe(KnownWorld(data.codec), data, limit=50)["floors"]) == {"mean"}


def test_the_probe_is_fitted_on_training_episodes_alone(data):
    def shifted(images):
        return dot_positions(images) + shift

    shift = 0.0
    probe = fit_probe(KnownWorld(data.codec, shifted), data, limit=300)
    z = torch.tensor([[[1.0, 2.0]]])
    torch.testing.assert_close(probe(z), torch.tensor([[16.0, 32.0]], dtype=torch.float64), atol=0.1, rtol=0)
    shift = 8.0  # a probe fitted again would hide the shift
    errors = evaluate_probe(KnownWorld(data.codec, shifted), data, limit=100)["metrics"]["rmse_px_mean"]
    assert errors < 0.05


def test_recordings_without_true_positions_are_refused():
    data = opened(Cart(wander(2)), [Segment(0, 0, 41)], [Segment(1, 0, 41)])
    with pytest.raises(DataError, match=r"^cart: a position probe needs a simulator's true positions"):
        evaluate_probe(KnownWorld(data.codec, cart_positions), data)


def test_more_numbers_than_frames_have_the_same_solution():
    generator = torch.Generator().manual_seed(0)
    z, positions = torch.randn(12, 5, 6, generator=generator), torch.randn(12, 2, generator=generator)
    x = z.flatten(1).double()
    x, y = x - x.mean(0), positions.double() - positions.double().mean(0)
    ridge = 0.1 * len(x) * z.flatten(1).double().sub(z.flatten(1).double().mean(0)).var()
    weight = torch.linalg.inv(x.T @ x + ridge * torch.eye(30, dtype=x.dtype)) @ x.T @ y
    torch.testing.assert_close(LinearProbe(z, positions, ridge=0.1).weight, weight)
