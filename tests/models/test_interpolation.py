"""Interpolation of visible features: its limits, worked by hand."""

import pytest
import torch
from torch.nn import functional as F

from jepa_actions.models.interpolation import SPEED, Interpolation
from jepa_actions.models.masks import MASK_KINDS

GRID = (1, 3)  # three places in a row


def interpolation(**scalars: float) -> Interpolation:
    """With the given scalars for every kind; a softplus of -40 is nothing, of 400 everything."""
    built = Interpolation(4)
    for name, value in scalars.items():
        torch.nn.init.constant_(built.get_parameter(name), value / SPEED)
    torch.nn.init.constant_(built.mean, 7.0)
    return built


TOKENS = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
NORMED = F.layer_norm(TOKENS, (4,))


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_narrow_kernel_gives_the_nearest_visible_feature(kind):
    built = interpolation(space=400.0, age=400.0, trust=40.0, decay=-40.0)
    answer = built(
        TOKENS, torch.tensor([[0, 2]]), torch.tensor([[3, 5]]), kind, GRID
    )  # the same places, one time later
    torch.testing.assert_close(answer, NORMED)


def test_a_wide_kernel_gives_the_mean_of_what_is_visible():
    built = interpolation(space=-40.0, age=-40.0, trust=40.0, decay=-40.0)
    answer = built(TOKENS, torch.tensor([[0, 2]]), torch.tensor([[1]]), "short", GRID)
    torch.testing.assert_close(answer, NORMED.mean(1, keepdim=True))


def test_weights_fall_with_squared_distance_and_with_age():
    built = interpolation(space=0.0, age=0.0, trust=40.0, decay=-40.0)  # softplus(0) = log 2: weights are powers of 1/2
    answer = built(TOKENS, torch.tensor([[0, 2]]), torch.tensor([[4]]), "short", GRID)
    torch.testing.assert_close(answer, NORMED.mean(1, keepdim=True))  # one place away on either side, equally old
    answer = built(TOKENS, torch.tensor([[0, 5]]), torch.tensor([[3]]), "short", GRID)  # 1/2 for age, 1/16 for distance
    torch.testing.assert_close(answer, (NORMED[:, :1] / 2 + NORMED[:, 1:] / 16) / (1 / 2 + 1 / 16))


def test_what_is_far_from_all_that_is_visible_is_drawn_to_the_mean_feature():
    built = interpolation(space=400.0, age=400.0, trust=0.0, decay=400.0)
    near, far = built(TOKENS[:, :1], torch.tensor([[0]]), torch.tensor([[0, 2]]), "long", GRID)[0]
    torch.testing.assert_close(near, NORMED[0, 0] / 2 + 3.5)
    torch.testing.assert_close(far, torch.full((4,), 7.0))


def test_kinds_learn_scalars_of_their_own():
    built = Interpolation(4)
    built(TOKENS, torch.tensor([[0, 2]]), torch.tensor([[1, 4]]), "future", GRID).square().sum().backward()
    touched = built.get_parameter("space").grad.ne(0).tolist()
    assert touched == [kind == "future" for kind in MASK_KINDS]
