"""What holds for every planner: optimum, bounds, counting, seeds, memory, and costs that are not numbers."""

import sys
from dataclasses import replace

import pytest
import torch
from linear_model import Ball, Box, Latent, LinearModel, optimum
from planner_names import NAMES, REFITTING, SAMPLING

from jepa_actions.errors import ConfigError, PlanningError
from jepa_actions.planning import (
    ICEM,
    MPPI,
    Gradient,
    GradientConfig,
    ICEMConfig,
    LatentCost,
    MPPIConfig,
    Problem,
    make_planner,
    planner_config,
)
from jepa_actions.planning.rollouts import ROWS
from jepa_actions.planning.search import Scored, colouring

HORIZON = 5


def box(limit=1.0):
    return Box(torch.full((2,), -limit), torch.full((2,), limit))


def problems(count, *, bounds=None, cost=None, **fields):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(count, 2, generator=generator)
    goal = Latent(2.5 * torch.randn(count, 1, 2, generator=generator))
    model = LinearModel(bounds or box())
    return Problem(model, start, goal, cost or LatentCost(), HORIZON, list(range(count)), **fields)


@pytest.mark.parametrize("bounds", [box(0.6), Ball(0.6)], ids=["box", "ball"])
@pytest.mark.parametrize("name", NAMES)
def test_reaches_the_optimum_of_bounded_problems(name, bounds):
    problem = problems(10, bounds=bounds, cost=LatentCost("l2", "sum"))
    best, actions = optimum(problem.model, problem.context, problem.goal, problem.cost, HORIZON, steps=400)
    assert ((actions - bounds.project(actions * 1.01)).abs().amax(-1) < 1e-6).any(dim=1).sum() >= 5
    plan = make_planner(name, evaluations=2000)(problem)
    untouched = problem.cost(problem.model.rollout(problem.context, torch.zeros(10, 1, HORIZON, 2)), problem.goal)[:, 0]
    assert (plan.cost >= best - 1e-4).all()
    loss = (plan.cost - best).mean() / (untouched - best).mean()
    assert loss < (0.15 if name == "random" else 0.01)


@pytest.mark.parametrize("bounds", [box(0.3), Ball(0.3)], ids=["box", "ball"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_outside_the_bounds_is_imagined_or_returned(name, bounds):
    far = 5 * torch.ones(4, HORIZON, 2)
    problem = problems(4, bounds=bounds, initial=far, proposals=-far[:, None].expand(-1, 3, -1, -1))
    plan = make_planner(name, evaluations=120)(problem)
    assert problem.model.seen
    for actions in [*problem.model.seen, plan.actions, plan.elites]:
        assert torch.allclose(bounds.project(actions), actions, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_evaluations_are_what_was_imagined_and_fit_the_budget(name):
    problem = problems(3)
    config = planner_config(name, evaluations=320)
    plan = make_planner(name, evaluations=320)(problem)
    assert plan.evaluations == config.evaluations <= 320
    assert config.evaluations > 320 * 0.9
    imagined = sum(actions.shape[1] for actions in problem.model.seen)
    repeated = sum(-count % ROWS for count in plan.history["evaluations"])
    assert imagined == plan.evaluations + repeated
    assert len(plan.history["best"]) == len(plan.history["mean"]) == len(plan.history["evaluations"])
    again = problem.cost(problem.model.rollout(problem.context, plan.actions[:, None]), problem.goal)[:, 0]
    torch.testing.assert_close(plan.cost, again)
    assert torch.equal(plan.cost, torch.stack(plan.history["best"]).amin(dim=0))
    assert plan.elites is not None
    assert plan.elites.shape[2:] == plan.actions.shape[1:]
    assert not plan.timed_out


@pytest.mark.parametrize("name", NAMES)
def test_seeds_alone_decide_the_noise(name):
    problem, planner = problems(2), make_planner(name, evaluations=120)
    first, again, other = planner(problem), planner(problem), planner(replace(problem, seeds=[0, 999]))
    assert torch.equal(first.actions, again.actions)
    assert torch.equal(first.actions[0], other.actions[0])
    assert not torch.equal(first.actions[1], other.actions[1])


@pytest.mark.parametrize("name", NAMES)
def test_chunks_change_memory_but_not_the_result(name):
    problem = problems(3)
    settings = {"sampling": {"chunk": 24}, "gradient": {"chunk": 24}} if name == "hybrid" else {"chunk": 24}
    whole = make_planner(name, evaluations=200)(problem)
    problem.model.seen.clear()
    pieces = make_planner(name, evaluations=200, **settings)(problem)
    assert torch.equal(whole.actions, pieces.actions)
    assert max(a.shape[0] * a.shape[1] for a in problem.model.seen) <= 24


@pytest.mark.parametrize("name", NAMES)
def test_never_worse_than_the_start(name):
    initial = 0.1 * torch.randn(3, HORIZON, 2)
    problem = problems(3, initial=initial)
    start = problem.cost(problem.model.rollout(problem.context, initial[:, None]), problem.goal)[:, 0]
    if name != "cmaes":  # whose library draws around the start only
        assert (make_planner(name, evaluations=60)(problem).cost <= start).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_names_problem_candidate_iteration_and_step(name):
    class Breaking(LinearModel):
        def rollout(self, context, actions):
            found = super().rollout(context, actions)
            if len(self.seen) == 2:
                found.z = found.z.clone()
                found.z[1, 2, 3:] = torch.nan
            return found

    problem = replace(problems(3), model=Breaking(box()))
    with pytest.raises(
        PlanningError,
        match=r"problem 1, candidate 2, iteration 1: found NaN, expected a number; its imagined latent is NaN from "
        "step 3 on",
    ):
        make_planner(name, evaluations=320)(problem)


@pytest.mark.parametrize("reduce", ["sum", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_nan_of_a_cost_alone_names_the_step_too(name, reduce):
    """Latents stay finite; the cost is not defined two steps from the start of problem 1."""

    def cost(rollout, goal):
        steps = LatentCost().steps(rollout.z, goal.z)
        steps[1, :, 2:] = torch.nan
        return steps.sum(dim=2) if reduce == "sum" else steps[:, :, -1]

    with pytest.raises(PlanningError, match=r"problem 1, candidate 0, iteration 0: .* its cost is NaN from step 2 on"):
        make_planner(name, evaluations=320)(problems(3, cost=cost))


@pytest.mark.parametrize("name", NAMES)
def test_a_forbidden_candidate_may_cost_infinity(name):
    def cost(rollout, goal):
        value = LatentCost()(rollout, goal)
        return value.masked_fill((torch.arange(value.shape[1]) % 3 == 1), torch.inf)

    plan = make_planner(name, evaluations=120)(problems(2, cost=cost))
    assert plan.cost.isfinite().all()
    assert plan.actions.isfinite().all()
    nothing = make_planner(name, evaluations=120)(
        problems(2, cost=lambda rollout, goal: torch.full_like(LatentCost()(rollout, goal), torch.inf).add(
            0 * LatentCost()(rollout, goal)
        ))
    )  # fmt: skip
    assert nothing.cost.isinf().all()
    assert nothing.actions.isfinite().all()


def test_coloured_noise_has_unit_variance_lasts_and_does_not_return():
    for exponent in (0.5, 1.0, 3.0):
        covariance = colouring(12, exponent).T @ colouring(12, exponent)
        torch.testing.assert_close(covariance.diag(), torch.ones(12))
        first = covariance[0]
        assert (first[1:] < first[:-1]).all(), "the further away, the less alike"
    assert (
        colouring(12, 3.0)[:, 0] @ colouring(12, 3.0)[:, 1] > 0.8 > colouring(12, 0.5)[:, 0] @ colouring(12, 0.5)[:, 1]
    )
    assert colouring(12, 0) is None


def test_icem_draws_less_each_time_and_keeps_elites_for_nothing():
    config = ICEMConfig(samples=64, elites=8, iterations=6, decay=2.0, keep=0.5)
    problem = problems(3)
    plan = ICEM(config)(problem)
    assert plan.history["evaluations"] == [64, 32, 16, 16, 16, 16]
    assert plan.evaluations == config.evaluations == 160
    # An elite of the first iteration that stays the best is still handed on at the end, though never imagined again.
    assert all(any(torch.equal(e, p) for e in plan.elites[i]) for i, p in enumerate(plan.actions))
    torch.testing.assert_close(
        problem.cost(problem.model.rollout(problem.context, plan.elites[:, :1]), problem.goal)[:, 0], plan.cost
    )


def test_mppi_weights():
    cost = torch.tensor([[1.0, 2.0, 4.0], [3.0, torch.inf, 3.0], [torch.inf, torch.inf, torch.inf]])
    plain = MPPIConfig(temperature=0.5, units="cost").weights(cost)
    torch.testing.assert_close(plain[0], torch.softmax(-cost[0] / 0.5, 0))
    torch.testing.assert_close(plain[1], torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(plain[2], torch.full((3,), 1 / 3))
    spread = MPPIConfig(temperature=0.5)
    assert torch.allclose(spread.weights(cost), spread.weights(1000 * cost))
    torch.testing.assert_close(spread.weights(cost)[0], torch.softmax(-cost[0] / (0.5 * cost[0].std(correction=0)), 0))
    torch.testing.assert_close(spread.weights(torch.full((1, 4), 2.0)), torch.full((1, 4), 0.25))


def test_classical_mppi_keeps_its_spread():
    problem = problems(2)
    make_planner("mppi_classical", samples=64, elites=64, iterations=12)(problem)
    widths = [seen[:, 1:].std(dim=1).mean().item() for seen in problem.model.seen]
    assert min(widths) > 0.6 * widths[0]
    adaptive = problems(2)
    MPPI(MPPIConfig(samples=64, elites=8, iterations=12))(adaptive)
    assert adaptive.model.seen[-1][:, 1:].std(dim=1).mean() < 0.3 * adaptive.model.seen[0][:, 1:].std(dim=1).mean()


def test_gradient_is_adam_and_not_plain_descent():
    """Adam's first step moves every number by lr whatever the gradient's size; descent's would be a thousandth."""
    problem = problems(3, cost=lambda rollout, goal: 1e-3 * LatentCost()(rollout, goal))
    Gradient(GradientConfig(restarts=1, steps=2, lr=0.05, noise=0.0))(problem)
    moved = (problem.model.seen[1] - problem.model.seen[0]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.05), atol=2e-3, rtol=0)


def test_gradient_needs_a_gradient():
    class Frozen(LinearModel):
        @torch.no_grad()
        def rollout(self, context, actions):
            return super().rollout(context, actions)

    with pytest.raises(PlanningError, match="found none that depends on the actions differentiably"):
        make_planner("gradient")(replace(problems(2), model=Frozen(box())))


def test_gradient_counts_one_per_restart_and_step():
    plan = Gradient(GradientConfig(restarts=3, steps=7))(problems(2))
    assert plan.history["evaluations"] == [3] * 8


def test_restarts_find_the_better_of_two_valleys():
    def cost(rollout, goal):
        x = rollout.z[:, :, -1, 0, 0]
        return (x.square() - 1).square() + 0.3 * x + 1

    def solve(restarts):
        problem = replace(problems(1, cost=cost), context=torch.tensor([[0.9, 0.0]]))
        return make_planner("gradient", restarts=restarts, steps=60, lr=0.02)(problem).cost.item()

    assert solve(8) < 0.75 < 1.2 < solve(1)


def test_hybrid_refines_what_sampling_found():
    problem = problems(6, cost=LatentCost("l2", "sum"))
    config = planner_config("hybrid")
    sampled = make_planner("cem", samples=96, elites=12, iterations=4)(problem)
    plan = make_planner("hybrid")(problem)
    assert (plan.cost <= sampled.cost).all()
    assert plan.cost.mean() < sampled.cost.mean()
    assert plan.evaluations == config.evaluations == 768


@pytest.mark.parametrize("name", SAMPLING)
def test_a_dimension_whose_bounds_meet_stays_there(name):
    bounds = Box(torch.tensor([-1.0, 0.25]), torch.tensor([1.0, 0.25]))
    plan = make_planner(name, evaluations=64, init="bounds")(problems(2, bounds=bounds))
    assert (plan.actions[..., 1] == 0.25).all()


@pytest.mark.parametrize("name", REFITTING)
def test_the_mean_costs_one_more_evaluation(name):
    best, mean = (planner_config(name, returns=returns).evaluations for returns in ("best", "mean"))
    assert mean == best + 1
    assert make_planner(name, returns="mean")(problems(2)).evaluations == mean


def test_equal_candidates_keep_their_order():
    cost = torch.tensor([[2.0, 1.0, 1.0, 3.0]])
    assert Scored.of(torch.zeros(1, 4, 1, 1), cost).order.tolist() == [[1, 2, 0, 3]]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("icem", {"decay": 0.9}),
        ("icem", {"keep": 1.5}),
        ("icem", {"colour": -1.0}),
        ("mppi", {"temperature": 0.0}),
        ("mppi", {"units": "x"}),
        ("mppi", {"fuse_std": 0.0}),
        ("gradient", {"lr": 0.0}),
        ("gradient", {"steps": 0}),
        ("gradient", {"init": "wide"}),
        ("hybrid", {"sampling": {"elites": 2}}),
        ("cmaes", {"population": 2}),
        ("cmaes", {"init_std": 0.0}),
        ("random", {"chunk": -1}),
    ],
)
def test_bad_settings_are_refused(name, settings):
    with pytest.raises(ConfigError, match="Config"):
        planner_config(name, **settings)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)  # an import of it fails from here on
    with pytest.raises(ConfigError, match=r"pip install 'jepa-actions\[plan\]'"):
        make_planner("cmaes")(problems(1))
