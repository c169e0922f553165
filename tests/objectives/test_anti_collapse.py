import math

import pytest
import torch
from tiny_world import tiny_batch, tiny_world

from jepa_actions.objectives import (
    SigReg,
    SigRegConfig,
    TemporalSimilarity,
    TemporalSimilarityConfig,
    VicReg,
    VicRegConfig,
    Views,
)
from jepa_actions.objectives.anti_collapse import sigreg, vicreg


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int = 4000, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=generator())


def score(x: torch.Tensor, **changes) -> float:
    return float(sigreg(x, SigRegConfig(**changes), generator(1)))


def test_sigreg_is_near_zero_for_a_standard_normal_and_for_nothing_else():
    x = normal()
    base = score(x)
    assert base < 2e-3
    shrunk, shifted, collapsed = 0.5 * x, x + 0.5, torch.zeros_like(x)
    one_direction = x[:, :1].expand(-1, 8)
    skewed = -normal().exp().sub(math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)  # log-normal, standardised
    for other in (shrunk, shifted, collapsed, one_direction, skewed):
        assert score(other) > 5 * base
    assert score(collapsed) > score(shrunk)


def test_sigreg_of_a_collapsed_sample_by_the_integral_itself():
    t = torch.linspace(-3, 3, 6001)
    expected = torch.trapezoid((1 - torch.exp(-(t**2) / 2)) ** 2 * torch.exp(-(t**2) / 2), t)
    assert score(torch.zeros(10, 4), knots=401) == pytest.approx(float(expected), rel=1e-3)


def test_sigreg_does_not_grow_with_the_number_of_samples():
    x = 0.5 * normal(500)
    assert score(x.repeat(4, 1)) == pytest.approx(score(x), rel=1e-5)


def test_following_sigregs_gradient_makes_a_collapsed_cloud_normal():
    x = (0.1 * normal(400, 4)).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    for step in range(120):
        optimizer.zero_grad()
        sigreg(x, SigRegConfig(directions=64), generator(step)).backward()
        optimizer.step()
    cov = torch.cov(x.detach().T)
    torch.testing.assert_close(cov, torch.eye(4), atol=0.15, rtol=0)


def test_the_generator_draws_sigregs_directions():
    x = 0.5 * normal(200)
    config = SigRegConfig(directions=4)
    one, two, other = (float(sigreg(x, config, generator(seed))) for seed in (0, 0, 1))
    assert one == two != other


def test_vicreg_by_hand():
    x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])  # variances 2 and 8, covariance 4
    hinge, cov = vicreg(x, target_std=3.0)
    assert float(hinge) == pytest.approx(((3 - math.sqrt(2)) + (3 - math.sqrt(8))) / 2, abs=1e-4)
    assert float(cov) == pytest.approx(16.0)
    assert float(vicreg(x, target_std=1.0)[0]) == 0.0
    assert float(vicreg(torch.zeros(5, 1), target_std=1.0)[1]) == 0.0  # one dimension has no pair


def test_vicregs_weights_and_logs():
    views = Views(tiny_world(), tiny_batch())
    hinge, cov = vicreg(views.z.detach().flatten(0, 2), 2.0)
    loss, logs = VicReg(VicRegConfig(std=3.0, cov=5.0, target_std=2.0))(views.model, views, generator())
    torch.testing.assert_close(loss.detach(), 3 * hinge + 5 * cov)
    assert (float(logs["std"]), float(logs["cov"])) == (float(hinge), float(cov))


def test_vicregs_gradient_spreads_a_dead_dimension():
    x = normal(64, 3)
    x[:, 0] *= 1e-3
    x.requires_grad_()
    hinge, _ = vicreg(x, target_std=1.0)
    hinge.backward()
    moved = x - 10.0 * x.grad
    assert moved[:, 0].std() > 1.5 * x[:, 0].std()


def test_temporal_similarity_is_the_mean_squared_step():
    views = Views(tiny_world(), tiny_batch(b=2, t=3))
    views.__dict__["z"] = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 1, 4)
    loss, _ = TemporalSimilarity(TemporalSimilarityConfig())(views.model, views, generator())
    assert float(loss) == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize(
    "objective", [SigReg(SigRegConfig()), VicReg(VicRegConfig()), TemporalSimilarity(TemporalSimilarityConfig())]
)
def test_the_gradient_reaches_the_encoder(objective):
    model = tiny_world().train()
    loss, _ = objective(model, Views(model, tiny_batch(b=2, t=3)), generator())
    loss.backward()
    assert float(model.encoder.patch_embed.proj.weight.grad.norm()) > 1e-8
