"""A problem's plan alone is, bit for bit, its plan in a batch of 100, though matrix products round by their rows."""

from dataclasses import replace

import pytest
import torch
from linear_model import Box, Latent
from planner_names import NAMES, REFITTING

from jepa_actions.models import DynamicsConfig, make_dynamics
from jepa_actions.planning import LatentCost, Problem, imagine, imagine_with_gradient, make_planner
from jepa_actions.planning.rollouts import ROWS

BATCH = 100


class LearnedModel:
    """The MLP dynamics of the package as a world model; the context is z (p, n, d)."""

    def __init__(self, action_dim, latents=1, dim=16, width=48):
        torch.manual_seed(0)
        self.dynamics = make_dynamics(DynamicsConfig(kind="mlp", width=width), latents, dim, action_dim).eval()
        with torch.no_grad():
            self.dynamics.out.weight.mul_(20)  # as much of a move per action as a trained one has
        self.action_dim = action_dim
        self.action_bounds = Box(torch.full((action_dim,), -1.0), torch.full((action_dim,), 1.0))

    def rollout(self, context, actions):
        return Latent(self.dynamics.imagine(context, actions))


def problems(action_dim, horizon, **kwargs):
    generator = torch.Generator().manual_seed(1)
    model = LearnedModel(action_dim, **kwargs)
    shape = (BATCH, model.dynamics.latents, model.dynamics.dim)
    context = torch.randn(shape, generator=generator)
    goal = Latent(context + torch.randn(shape, generator=generator))
    return Problem(model, context, goal, LatentCost("l2", "sum"), horizon, list(range(BATCH)))


def some(problem, index):
    return replace(
        problem,
        context=problem.context[index],
        goal=Latent(problem.goal.z[index]),
        seeds=problem.seeds[index],
        proposals=None if problem.proposals is None else problem.proposals[index],
    )


def assert_same(planner, problem):
    together = planner(problem)
    for index in (slice(0, 1), slice(37, 38), slice(99, 100), slice(40, 43)):
        apart = planner(some(problem, index))
        assert torch.equal(apart.actions, together.actions[index])
        assert torch.equal(apart.cost, together.cost[index])


@pytest.mark.parametrize(("action_dim", "horizon"), [(2, 5), (3, 1), (1, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_alone_equals_together(name, action_dim, horizon):
    assert_same(make_planner(name, evaluations=90), problems(action_dim, horizon))


@pytest.mark.parametrize("name", REFITTING)
def test_the_mean_that_is_returned_is_one_candidate(name):
    assert_same(make_planner(name, evaluations=90, returns="mean"), problems(2, 4))


@pytest.mark.parametrize("restarts", [1, 3])
def test_few_restarts(restarts):
    assert_same(make_planner("gradient", restarts=restarts, steps=20), problems(2, 4))


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_with_proposals_and_chunks(name):
    problem = problems(2, 4, latents=3, dim=10)
    proposals = torch.randn(BATCH, 5, 4, 2, generator=torch.Generator().manual_seed(5))
    assert_same(make_planner(name, evaluations=90, fuse=True, chunk=700), replace(problem, proposals=proposals))


def test_one_row_is_where_products_differ_and_padding_is_what_helps():
    """Without padding this machine rounds one row otherwise, or the tests above show nothing."""
    problem = problems(2, 5)
    actions = torch.randn(BATCH, 1, 5, 2, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)

    def unpadded(one, candidates):
        return one.cost(one.model.rollout(one.context, candidates), one.goal)

    with torch.no_grad():
        whole = imagine(problem, actions)
        single = [imagine(some(problem, slice(i, i + 1)), actions[i : i + 1]) for i in range(BATCH)]
        raw = unpadded(problem, actions)
        alone = torch.cat([unpadded(some(problem, slice(i, i + 1)), actions[i : i + 1]) for i in range(BATCH)])
    assert torch.equal(torch.cat(single), whole)
    if torch.equal(raw, alone):
        pytest.skip("this machine's products do not depend on their rows")


def test_padding_changes_neither_cost_nor_gradient_nor_shape():
    problem = problems(2, 3)
    actions = 0.5 * torch.randn(BATCH, 5, 3, 2, generator=torch.Generator().manual_seed(3))
    cost, gradient = imagine_with_gradient(problem, actions)
    leaf = actions.clone().requires_grad_(True)
    direct = problem.cost(problem.model.rollout(problem.context, leaf), problem.goal)
    (expected,) = torch.autograd.grad(direct.sum(), leaf)
    assert cost.shape == (BATCH, 5)
    assert 5 % ROWS
    torch.testing.assert_close(cost, direct.detach())
    torch.testing.assert_close(gradient, expected)
    assert all(p.grad is None for p in problem.model.dynamics.parameters())
