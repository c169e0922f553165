import math

import pytest
import torch
from torch import distributions as td

from jepa_actions.nn import Categorical, Gaussian, Mixed, OneHots


def gaussian(seed: int = 0, rows: int = 5) -> Gaussian:
    return Gaussian(torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)))


def test_gaussian_log_prob_is_torchs():
    q, value = gaussian(), torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(q.log_prob(value), td.Normal(q.mean, q.std).log_prob(value).sum(-1))


def test_gaussian_std_starts_at_one_and_stays_in_range():
    assert torch.allclose(Gaussian(torch.zeros(1, 2)).std, torch.ones(1, 1), atol=1e-6)
    low, high = (Gaussian(torch.tensor([[0.0, raw]])).std for raw in (-1e4, 1e4))
    assert float(low) == pytest.approx(math.exp(-5.0))
    assert float(high) == pytest.approx(math.exp(2.0))


def test_the_gradient_of_the_mean_is_that_of_a_squared_error_whatever_the_std():
    value = torch.tensor([[1.0, -2.0]])
    for raw in (-3.0, 0.0, 3.0):
        parameters = torch.tensor([[0.5, 0.0, raw, raw]], requires_grad=True)
        Gaussian(parameters).loss(value).sum().backward()
        torch.testing.assert_close(parameters.grad[:, :2], (parameters.detach()[:, :2] - value) / 2)


def test_the_gaussian_loss_fits_the_std_to_the_error():
    parameters = torch.zeros(1, 2, requires_grad=True)
    value = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.7
    optimizer = torch.optim.Adam([parameters], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        Gaussian(parameters.expand(2000, 2)).loss(value).mean().backward()
        optimizer.step()
    fitted = Gaussian(parameters.detach())
    assert float(fitted.mean) == pytest.approx(0.7, abs=0.03)
    assert float(fitted.std) == pytest.approx(0.3, abs=0.03)


def test_gaussian_samples_have_its_moments():
    q = Gaussian(torch.tensor([[2.0, -1.0]]).expand(20000, 2))
    sample = q.sample(torch.Generator().manual_seed(0))
    assert float(sample.mean()) == pytest.approx(2.0, abs=0.03)
    assert float(sample.std()) == pytest.approx(float(q.std[0]), rel=0.05)


def categorical(rows: int = 5) -> Categorical:
    logits = torch.randn(rows, 2, 4, generator=torch.Generator().manual_seed(0))
    return Categorical(logits, torch.tensor([[-3.0, -1.0, 1.0, 3.0], [0.0, 10.0, 20.0, 30.0]]))


def test_a_value_falls_in_the_nearest_bin_and_beyond_the_ends_in_the_last():
    value = torch.tensor([[-0.4, 14.0], [9.0, -9.0]])
    assert categorical(2).bin(value).tolist() == [[1, 1], [3, 0]]


def test_categorical_log_prob_is_torchs():
    q, value = categorical(), torch.tensor([-2.9, 21.0]).expand(5, 2)
    ids = torch.tensor([0, 2]).expand(5, 2)
    expected = td.Categorical(logits=q.logits).log_prob(ids)
    torch.testing.assert_close(q.log_prob(value), expected.sum(-1))
    torch.testing.assert_close(q.loss(value), -expected.mean(-1))


def test_categorical_moments_by_hand():
    centres = torch.tensor([[-2.0, 0.0, 4.0]])
    q = Categorical(torch.tensor([[[0.5, 0.25, 0.25]]]).log(), centres)
    assert float(q.mean) == pytest.approx(0.0, abs=1e-6)
    assert float(q.std) == pytest.approx(math.sqrt(0.5 * 4 + 0.25 * 16))


def test_categorical_samples_are_centres_in_proportion():
    q = Categorical(torch.tensor([[[0.7, 0.2, 0.1]]]).log().expand(20000, 1, 3), torch.tensor([[-1.0, 0.0, 5.0]]))
    sample = q.sample(torch.Generator().manual_seed(0))
    for centre, share in ((-1.0, 0.7), (0.0, 0.2), (5.0, 0.1)):
        assert float((sample == centre).float().mean()) == pytest.approx(share, abs=0.02)


def one_hots(rows: int = 5) -> OneHots:
    return OneHots(torch.randn(rows, 7, generator=torch.Generator().manual_seed(2)), (4, 3))


def mixed(rows: int = 5) -> Mixed:
    return Mixed(gaussian(rows=rows), one_hots(rows), torch.tensor([0, 5, 9]), torch.tensor([1, 2, 3, 4, 6, 7, 8]))


@pytest.mark.parametrize("make", [gaussian, categorical, one_hots, mixed])
def test_the_generator_decides_the_sample(make):
    q = make(rows=50)
    one, two, other = (q.sample(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_classes_are_scored_as_torchs_and_their_mean_is_their_probability():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    q, ids = one_hots(), torch.tensor([[0, 2], [3, 1], [1, 1], [2, 0], [3, 2]])
    value = torch.cat([torch.eye(4)[ids[:, 0]], torch.eye(3)[ids[:, 1]]], dim=-1)
    parts = [td.Categorical(logits=logits[:, :4]), td.Categorical(logits=logits[:, 4:])]
    expected = sum(part.log_prob(ids[:, k]) for k, part in enumerate(parts))
    torch.testing.assert_close(q.log_prob(value), expected)
    torch.testing.assert_close(q.loss(value), -expected / 2)
    torch.testing.assert_close(q.mean, torch.cat([part.probs for part in parts], dim=-1))
    torch.testing.assert_close(q.std**2, q.mean * (1 - q.mean))
    best = torch.stack([part.probs.argmax(-1) for part in parts], dim=-1)
    assert torch.equal(q.correct(value), best == ids)


def test_sampled_classes_are_one_hots_in_proportion():
    logits = torch.tensor([[0.6, 0.4, 0.1, 0.9]]).log().expand(20000, 4)
    sample = OneHots(logits, (2, 2)).sample(torch.Generator().manual_seed(0))
    assert torch.equal(sample[:, 0] + sample[:, 1], torch.ones(20000))
    assert torch.equal(sample[:, 2] + sample[:, 3], torch.ones(20000))
    torch.testing.assert_close(sample.mean(0), torch.tensor([0.6, 0.4, 0.1, 0.9]), atol=0.02, rtol=0)
    assert abs(float(torch.corrcoef(sample[:, [0, 2]].T)[0, 1])) < 0.03, "choices are independent"


def test_numbers_and_classes_in_one_value():
    q, numbers, hot = mixed(), gaussian(), one_hots()
    value = torch.randn(5, 10, generator=torch.Generator().manual_seed(4))
    value[:, q.hot_at] = hot.sample(torch.Generator().manual_seed(5))
    torch.testing.assert_close(q.mean[:, [0, 5, 9]], numbers.mean)
    torch.testing.assert_close(q.mean[:, q.hot_at], hot.mean)
    torch.testing.assert_close(q.std[:, q.hot_at], hot.std)
    one, other = value[:, [0, 5, 9]], value[:, q.hot_at]
    torch.testing.assert_close(q.log_prob(value), numbers.log_prob(one) + hot.log_prob(other))
    torch.testing.assert_close(q.loss(value), (3 * numbers.loss(one) + 2 * hot.loss(other)) / 5)
    assert torch.equal(q.correct(value), hot.correct(other))
    sample = q.sample(torch.Generator().manual_seed(0))[:, q.hot_at]
    assert ((sample == 0) | (sample == 1)).all()
