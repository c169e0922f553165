"""The distance that every temporal distance is made of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_actions.nn import metric_residual


def points(count: int) -> st.SearchStrategy[torch.Tensor]:
    numbers = st.floats(-1e3, 1e3, allow_nan=False, width=32)
    return st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=count, max_size=count).map(
        lambda rows: torch.tensor(rows, dtype=torch.float64)
    )


@settings(max_examples=200, deadline=None)
@given(points(3), st.integers(1, 5))
def test_a_detour_is_never_shorter(xyz: torch.Tensor, directed: int) -> None:
    x, y, z = xyz
    straight = metric_residual(x, z, directed)
    detour = metric_residual(x, y, directed) + metric_residual(y, z, directed)
    assert float(straight) <= float(detour) + 2e-6 + 1e-9 * float(detour)


@settings(max_examples=100, deadline=None)
@given(points(2), st.integers(1, 5))
def test_it_is_a_distance_from_a_point_to_itself_zero(xy: torch.Tensor, directed: int) -> None:
    x, y = xy
    assert float(metric_residual(x, x, directed)) == pytest.approx(0.0, abs=1e-9)
    assert float(metric_residual(x, y, directed)) >= -1e-9


def test_by_hand_there_and_back_differ() -> None:
    x, y = torch.zeros(4), torch.tensor([2.0, -5.0, 3.0, 4.0])
    assert float(metric_residual(x, y, 2)) == pytest.approx(2.0 + 5.0, abs=1e-5)
    assert float(metric_residual(y, x, 2)) == pytest.approx(5.0 + 5.0, abs=1e-5)
    down = torch.tensor([-1.0, -1.0, 0.0, 0.0])
    assert float(metric_residual(x, down, 2)) == pytest.approx(0.0, abs=1e-5), "downhill costs nothing"


def test_leading_dimensions_broadcast() -> None:
    x, y = torch.randn(3, 1, 6), torch.randn(1, 5, 6)
    found = metric_residual(x, y, 2)
    assert found.shape == (3, 5)
    torch.testing.assert_close(found[2, 4], metric_residual(x[2, 0], y[0, 4], 2))


def test_the_gradient_at_a_point_itself_is_finite() -> None:
    x = torch.randn(6, requires_grad=True)
    metric_residual(x, x.detach().clone(), 2).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
