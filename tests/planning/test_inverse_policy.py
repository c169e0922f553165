"""The inverse head decides: inside the bounds, and its proposals are its own imagination."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from linear_model import Ball, Box, Latent, LinearModel
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning import CEM, MPC, CEMConfig, InversePolicy, InverseProposals, LatentCost, SubgoalPolicy


@dataclass
class Context:
    z: Tensor
    before: Tensor | None = None


class Knowing(LinearModel):
    """x' = x + u, and a head that knows the way: a third of it, leaning by what it is told of the state before."""

    def __init__(self, bounds, spread=0.3):
        super().__init__(bounds, transition=torch.eye(2), control=torch.eye(2))
        self.spread, self.told, self.steps = spread, [], 0

    def rollout(self, context, actions, generator=None):
        return super().rollout(context.z[:, 0], actions)

    def branch(self, context, count):
        before = None if context.before is None else context.before.repeat_interleave(count, dim=0)
        return Context(context.z.repeat_interleave(count, dim=0), before)

    def advance(self, context, action):
        self.steps += len(action)
        return Context(context.z + action[:, None], context.z)

    def goal_actions(self, z, z_goal, *, before=None):
        self.told.append(before)
        mean = (z_goal - z)[:, 0] / 3
        if before is not None:
            mean = mean - 0.1 * (z - before)[:, 0]
        return SimpleNamespace(mean=mean, std=torch.full_like(mean, self.spread))


BOX = Box(torch.tensor([-0.5, -0.25]), torch.tensor([0.5, 0.25]))
HERE, GOAL = torch.tensor([[[0.0, 0.0]], [[1.0, -1.0]]]), Latent(torch.tensor([[[3.0, 0.3]], [[1.3, -1.0]]]))


@pytest.mark.parametrize("bounds", [BOX, Ball(0.5)], ids=["box", "ball"])
def test_without_seeds_the_policy_takes_the_mean_inside_the_bounds(bounds):
    found = InversePolicy(Knowing(bounds))(Context(HERE), GOAL)
    assert torch.equal(InversePolicy(Knowing(bounds), noise=0.0)(Context(HERE), GOAL, [3, 4]), found)
    torch.testing.assert_close(found, bounds.project(torch.tensor([[1.0, 0.1], [0.1, 0.0]])))
    assert found[0].norm() < 0.6
    torch.testing.assert_close(found[1], torch.tensor([0.1, 0.0]))


def test_the_policy_tells_the_state_before():
    model, before = Knowing(Ball(5.0)), HERE - 1.0
    found = InversePolicy(model)(Context(HERE, before), GOAL)
    assert torch.equal(model.told[0], before)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.0], [0.0, -0.1]]))


def test_the_policy_draws_from_the_head_and_each_problem_from_its_own_seed():
    policy = InversePolicy(Knowing(Ball(50.0), spread=0.3), noise=0.5)
    many = Context(HERE[:1].expand(400, -1, -1)), Latent(GOAL.z[:1].expand(400, -1, -1))
    found = policy(*many, list(range(400)))
    off = found - policy(*many)
    assert off.std(0).tolist() == pytest.approx([0.15, 0.15], rel=0.12)
    assert off.mean(0).abs().max() < 0.03
    assert torch.equal(policy(Context(HERE[:1]), Latent(GOAL.z[:1]), [17]), found[17:18])


@pytest.mark.parametrize("start", [None, HERE - 0.3], ids=["begins", "moves"])
def test_the_first_proposal_is_what_the_policy_does_in_imagination(start):
    model = Knowing(BOX)
    context = Context(HERE, start)
    found = InverseProposals(model, count=4)(context, GOAL, 6, [0, 1])
    assert found.shape == (2, 4, 6, 2)
    taken = []
    for _ in range(6):
        taken.append(InversePolicy(model)(context, GOAL))
        context = Context(model.rollout(context, taken[-1][:, None, None]).z[:, 0, 0], context.z)
    if start is None:  # the head is told nothing of the first step only
        assert len([x for x in model.told if x is None]) == 2
    torch.testing.assert_close(found[:, 0], torch.stack(taken, dim=1))


def test_the_others_are_drawn_around_it_from_each_problems_seed():
    model = Knowing(Ball(50.0))
    goal, proposals = Latent(HERE + 1.0), InverseProposals(model, count=200, noise=0.5)
    found = proposals(Context(HERE), goal, 2, [5, 6])
    first = found[:, :, 0] - found[:, :1, 0]
    assert not torch.isclose(first[0, 1:], first[1, 1:]).all()
    for row in first:
        assert row[1:].std(0).tolist() == pytest.approx([0.15, 0.15], rel=0.15)
    assert torch.equal(proposals(Context(HERE), goal, 2, [5, 6]), found)
    alone = proposals(Context(HERE[1:]), Latent(goal.z[1:]), 2, [6])
    torch.testing.assert_close(alone[0], found[1])


def test_proposals_stay_inside_the_bounds():
    found = InverseProposals(Knowing(BOX, spread=5.0), count=16)(Context(HERE), GOAL, 3, [0, 1])
    assert (found >= BOX.low).all()
    assert (found <= BOX.high).all()


@pytest.mark.parametrize(("count", "horizon"), [(8, 5), (4, 1), (3, 4), (8, 40)])
def test_what_proposing_costs(count, horizon):
    """Every step but the last is imagined, once, in rows that are padded and count nothing."""
    model = Knowing(BOX)
    proposals = InverseProposals(model, count=count)
    assert proposals(Context(HERE), GOAL, horizon, [0, 1]).shape == (2, count, horizon, 2)
    assert (model.steps, len(model.seen)) == (2 * 8 * (horizon - 1), 0)
    assert proposals.evaluations(horizon) == -(-count * (horizon - 1) // horizon)


def test_a_planner_that_starts_from_proposals_needs_fewer_candidates():
    model, goal = Knowing(BOX), Latent(HERE + torch.tensor([2.0, -1.0]))
    tiny = CEMConfig(samples=8, elites=2, iterations=1, returns="best")

    def cost(proposals):
        mpc = MPC(CEM(tiny), model, LatentCost(), horizon=4, seeds=[0, 1], proposals=proposals)
        return mpc.plan(Context(HERE), goal).cost

    assert (cost(InverseProposals(model, count=4)) < cost(None)).all()


def test_the_rollouts_that_proposals_took_are_counted():
    model, goal = Knowing(BOX), Latent(HERE + 1.0)
    config = CEMConfig(samples=8, elites=2, iterations=2)

    def plan(proposals):
        return MPC(CEM(config), model, LatentCost(), horizon=4, seeds=[0, 1]).plan(
            Context(HERE), goal, proposals=proposals
        )

    proposals = InverseProposals(model, count=4)
    assert plan(None).evaluations == 16
    assert plan(proposals).evaluations == 16 + proposals.evaluations(4)
    assert plan(lambda *problem: proposals(*problem)).evaluations == 16, "it does not say"


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match=r"InverseProposals\.count: found 0"):
        InverseProposals(Knowing(BOX), count=0)
    for kind in (InversePolicy, InverseProposals, SubgoalPolicy):
        with pytest.raises(ConfigError, match=rf"{kind.__name__}\.noise: found -1\.0"):
            kind(Knowing(BOX), noise=-1.0)


class Imagining(Knowing):
    """Imagines the next state half way to the goal, and reads the action off the pair exactly."""

    def next_on_the_way(self, z, z_goal):
        return z + (z_goal - z) / 2

    def infer_actions(self, z, z_next, k):
        assert k == 1
        return SimpleNamespace(mean=(z_next - z)[:, 0], std=torch.ones(len(z), 2))


def test_a_subgoal_policy_takes_the_action_that_leads_to_what_it_imagined_next():
    found = SubgoalPolicy(Imagining(Box(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]))))(Context(HERE), GOAL)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.15], [0.15, 0.0]]))  # half of 3 is cut to the bounds
