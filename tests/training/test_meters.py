import math

import pytest
import torch

from jepa_actions.training import effective_rank, spread
from jepa_actions.training.meters import between_clips


def orthogonal_cloud(*scales: float) -> torch.Tensor:
    """Centred samples whose singular values are in the proportion of `scales`."""
    rows = [sign * scale * torch.eye(len(scales))[i] for i, scale in enumerate(scales) for sign in (1, -1)]
    return torch.stack(rows)


def test_equal_directions_count_fully_and_dead_ones_not_at_all():
    assert effective_rank(orthogonal_cloud(1.0, 1.0, 1.0)) == pytest.approx(3.0)
    assert effective_rank(orthogonal_cloud(5.0, 5.0, 0.0)) == pytest.approx(2.0)
    assert effective_rank(orthogonal_cloud(2.0, 0.0, 0.0)) == pytest.approx(1.0)


def test_unequal_directions_count_by_the_entropy_of_their_shares():
    shares = (0.75, 0.25)
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(orthogonal_cloud(3.0, 1.0)) == pytest.approx(expected)


def test_scale_and_offset_do_not_count():
    x = orthogonal_cloud(3.0, 1.0)
    assert effective_rank(1000 * x + 7.0) == pytest.approx(effective_rank(x), rel=1e-4)


def test_a_collapsed_cloud_has_the_smallest_rank_and_no_spread():
    assert effective_rank(torch.ones(10, 4)) == pytest.approx(1.0)
    assert spread(torch.ones(10, 4))["std_mean"] == 0.0


def test_spread_names_the_weakest_dimension():
    x = torch.tensor([[1.0, 10.0], [-1.0, -10.0]])
    found = spread(x)
    assert found["std_min"] == pytest.approx(math.sqrt(2))
    assert found["std_mean"] == pytest.approx(5.5 * math.sqrt(2))
    assert found["rank"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("shape", [(300, 12), (12, 300)])
def test_the_rank_is_that_of_the_singular_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -5, shape[1])
    values = torch.linalg.svdvals((x - x.mean(0)).double())
    share = values / values.sum()
    assert effective_rank(x) == pytest.approx(float(torch.exp(-torch.xlogy(share, share).sum())), rel=1e-5)


def test_an_encoder_of_positions_alone_has_spread_but_none_between_clips():
    places = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0)).expand(8, 5, 16)
    found = spread(places)
    assert found["std_mean"] > 0.5
    assert found["rank"] > 3.0
    assert found["clips"] == pytest.approx(0.0, abs=1e-6)
    content = places + torch.randn(8, 1, 16, generator=torch.Generator().manual_seed(1))
    assert spread(content)["clips"] > 0.5
    assert between_clips(100.0 * content) == pytest.approx(between_clips(content))
