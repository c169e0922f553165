from dataclasses import dataclass
from itertools import combinations_with_replacement
from types import SimpleNamespace

import pytest
import torch
from linear_model import Latent
from torch import Tensor

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.planning import ActionCost, InOrder, InverseAgreement, LatentCost, TemporalCost, WeightedSum

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
    discounted = LatentCost(metric, "discounted", 0.5)(rollout, goal).item()
    assert discounted == pytest.approx(first + 0.5 * second, abs=1e-6)


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
    with pytest.raises(ConfigError, match="discount: found 0"):
        LatentCost("l2", "discounted", 0.0)
    with pytest.raises(ConfigError, match=r"TemporalCost\.reduce: found 'mean'"):
        TemporalCost(euclid, "mean")
    with pytest.raises(ConfigError, match=r"TemporalCost\.discount: found 1\.5"):
        TemporalCost(euclid, "sum", 1.5)
    with pytest.raises(ConfigError, match=r"found reach -1\.0"):
        TemporalCost(euclid, reach=-1.0)
    with pytest.raises(ShapeError, match="TemporalCost: found rollout z"):
        TemporalCost(euclid)(Latent(Z), Latent(GOAL[:, :1]))


# -- steps that are left -----------------------------------------------------------------------------------------------


@dataclass
class Path:
    """An imagined rollout that says where it began and by which actions."""

    z: Tensor
    start: Tensor | None = None
    actions: Tensor | None = None


def euclid(z: Tensor, z_goal: Tensor) -> Tensor:
    return (z - z_goal).flatten(-2).norm(dim=-1)


def walled(z: Tensor, z_goal: Tensor) -> Tensor:
    """Steps on a line whose middle is a wall, 10 steps round."""
    x, y = z[..., 0, 0], z_goal[..., 0, 0]
    return (x - y).abs() + 10.0 * ((x < 0) != (y < 0))


def line(*x: float) -> Tensor:
    """One problem, one candidate, a token of one channel per step."""
    return torch.tensor(x)[None, None, :, None, None]


def test_steps_left_by_hand():
    rollout, goal = Path(line(-3.0, -2.0, 1.0)), Latent(torch.full((1, 1, 1), 2.0))
    assert TemporalCost(walled)(rollout, goal).item() == 1.0
    assert TemporalCost(walled, "sum")(rollout, goal).item() == 15.0 + 14.0 + 1.0
    discounted = TemporalCost(walled, "discounted", 0.5)(rollout, goal).item()
    assert discounted == pytest.approx(15.0 + 7.0 + 0.25)


def test_a_jump_through_the_wall_is_charged_and_real_steps_are_not():
    """The model imagines that pushing leads through; the way round costs more steps and is real."""
    goal, start = Latent(torch.full((1, 1, 1), 1.0)), torch.full((1, 1, 1), -2.0)
    through, honest = line(-1.0, 1.0), line(-1.2, -0.4)
    both = Path(torch.cat([through, honest], dim=1), start)
    blind = TemporalCost(walled)(both, goal)[0]
    assert blind.tolist() == pytest.approx([0.0, 11.4])
    charged = TemporalCost(walled, reach=1.0, reach_weight=3.0)(both, goal)[0]
    assert charged.tolist() == pytest.approx([3.0 * 11.0, 11.4])
    summed = TemporalCost(walled, "sum", reach=1.0, reach_weight=1.0)(both, goal)[0]
    assert summed.tolist() == pytest.approx([(12.0 + 0.0) + (0.0 + 11.0), 12.2 + 11.4])
    assert charged[1] < charged[0]
    first = Path(line(1.0, 1.0), start)  # through the wall with the first step
    assert TemporalCost(walled, reach=1.0)(first, goal).item() == pytest.approx(2.0 * 12.0)
    assert TemporalCost(walled, reach=1.0, reach_weight=0.0)(first, goal).item() == 0.0


def test_where_a_rollout_begins_must_be_known_to_charge_its_steps():
    with pytest.raises(ShapeError, match="TemporalCost with reach: the model's rollouts have no 'start'"):
        TemporalCost(walled, reach=1.0)(Latent(line(1.0)), Latent(torch.zeros(1, 1, 1)))


def test_problems_and_candidates_are_apart():
    torch.manual_seed(0)
    rollout, goal = Path(torch.randn(3, 5, 4, 2, 6), torch.randn(3, 2, 6)), Latent(torch.randn(3, 2, 6))
    cost = TemporalCost(euclid, "sum", reach=1.0)
    both = cost(rollout, goal)
    assert both.shape == (3, 5)
    alone = cost(Path(rollout.z[1:2, 3:4], rollout.start[1:2]), Latent(goal.z[1:2]))
    torch.testing.assert_close(alone[0, 0], both[1, 3])


# -- several goals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goals", [1, 2, 3, 4])
def test_goals_in_order_by_brute_force(goals):
    torch.manual_seed(goals)
    rollout, target = Latent(torch.randn(2, 3, 5, 1, 2)), Latent(torch.randn(2, goals, 1, 2))
    step = LatentCost()
    found = InOrder(step)(rollout, target)
    costs = torch.stack([step.steps(rollout.z, target.z[:, g]) for g in range(goals)])  # (goals, p, s, h)
    ways = [
        sum(costs[g, :, :, t] for g, t in enumerate(times)) + costs[-1, :, :, -1]
        for times in combinations_with_replacement(range(5), goals - 1)
    ]
    torch.testing.assert_close(found, torch.stack(ways).amin(0))


def test_passing_goals_in_the_wrong_order_costs():
    goals = Latent(torch.tensor([1.0, 2.0, 3.0])[None, :, None, None])
    right, wrong = (InOrder(LatentCost())(Latent(line(*x)), goals).item() for x in ((1, 2, 3), (2, 1, 3)))
    assert right == 0.0
    assert wrong == 1.0


def test_one_goal_where_several_are_asked_for():
    with pytest.raises(ShapeError, match=r"InOrder: found goal z \(1, 2, 2\), expected \(p, goals, n, d\)"):
        InOrder(LatentCost())(Latent(Z), Latent(GOAL))


# -- actions, and sums -------------------------------------------------------------------------------------------------


def test_steps_that_the_inverse_head_reads_otherwise_are_made_up():
    """The head reads the change; the second candidate's imagination moves without its action."""
    start = torch.zeros(1, 1, 1)
    z = torch.cat([line(1.0, 3.0), line(1.0, 3.0)], dim=1)
    actions = torch.tensor([[[[1.0], [2.0]], [[1.0], [0.0]]]])
    asked = []

    def infer(before, after, k):
        asked.append(k)
        return SimpleNamespace(mean=(after - before)[:, 0])

    cost = InverseAgreement(infer)(Path(z, start, actions), None)
    assert cost.tolist() == [[0.0, 2.0]]
    assert asked == [1]
    for missing in (Path(z, None, actions), Path(z, start, None)):
        with pytest.raises(ShapeError, match="InverseAgreement: the model's rollouts have no"):
            InverseAgreement(infer)(missing, None)


def test_effort_and_unrest_by_hand():
    actions = torch.tensor([[[[1.0, 1.0], [3.0, 1.0]]]])
    assert ActionCost(effort=2.0)(Path(Z, None, actions), None).item() == pytest.approx(2.0 * 12 / 4)
    assert ActionCost(change=3.0)(Path(Z, None, actions), None).item() == pytest.approx(3.0 * 4 / 2)
    assert ActionCost(effort=1.0, change=5.0)(Path(Z, None, actions[:, :, :1]), None).item() == pytest.approx(1.0)
    with pytest.raises(ShapeError, match="ActionCost: the model's rollouts have no 'actions'"):
        ActionCost(effort=1.0)(Latent(Z), None)


def test_costs_add_up_with_weights():
    rollout, goal = Path(Z, None, torch.ones(1, 1, 2, 2)), Latent(GOAL)
    total = WeightedSum([LatentCost(), ActionCost(effort=1.0)], [2.0, 0.5])(rollout, goal)
    assert total.item() == pytest.approx(2.0 * 5.0 + 0.5)
    for costs, weights in (([], []), ([LatentCost()], [1.0, 2.0])):
        with pytest.raises(ConfigError, match=f"found {len(costs)} costs and {len(weights)} weights"):
            WeightedSum(costs, weights)
