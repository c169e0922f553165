import pytest
import torch
from linear_model import Latent

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.planning import LatentCost

# one problem, one candidate, two steps, two tokens of two channels
Z = torch.tensor([[[[[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [0.0, 1.0]]]]])
GOAL = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])


@pytest.mark.parametrize(
    ("metric", "first", "second"),
    [
        ("l2", 1 / 4, (4 + 16) / 4),
        ("l1", 1 / 4, (2 + 4) / 4),
        ("cosine", 0.0, (1 - 3 / 5) / 2),
    ],
)
def test_values_by_hand(metric, first, second):
    rollout, goal = Latent(Z), Latent(GOAL)
    assert LatentCost(metric, "last")(rollout, goal).item() == pytest.approx(second, abs=1e-6)
    assert LatentCost(metric, "sum")(rollout, goal).item() == pytest.approx(first + second, abs=1e-6)


def test_each_problem_has_its_own_goal():
    z = torch.randn(3, 5, 4, 2, 6)
    goal = torch.randn(3, 2, 6)
    both = LatentCost()(Latent(z), Latent(goal))
    assert both.shape == (3, 5)
    assert torch.equal(both[1], LatentCost()(Latent(z[1:2]), Latent(goal[1:2]))[0])


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="metric: found 'l3'"):
        LatentCost("l3")
    with pytest.raises(ConfigError, match="reduce: found 'mean'"):
        LatentCost("l2", "mean")
    with pytest.raises(ShapeError, match="goal z"):
        LatentCost()(Latent(Z), Latent(GOAL[:, :1]))
