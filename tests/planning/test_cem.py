from dataclasses import replace

import pytest
import torch
from linear_model import Ball, Box, Latent, LinearModel, optimum

from jepa_actions.errors import ConfigError, PlanningError, ShapeError
from jepa_actions.planning import CEM, CEMConfig, LatentCost, Problem

HORIZON = 5
SMALL = CEMConfig(samples=64, elites=8, iterations=4, returns="mean")


def box(limit=1.0):
    return Box(torch.full((2,), -limit), torch.full((2,), limit))


def problems(count, *, bounds=None, cost=None, seed=0, initial=None):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(count, 2, generator=generator)
    goal = Latent(2.5 * torch.randn(count, 1, 2, generator=generator))
    return Problem(
        LinearModel(bounds or box()), start, goal, cost or LatentCost(), HORIZON, list(range(100, 100 + count)), initial
    )


def alone(problem, index):
    return replace(
        problem,
        context=problem.context[index : index + 1],
        goal=Latent(problem.goal.z[index : index + 1]),
        seeds=[problem.seeds[index]],
    )


@pytest.mark.parametrize("reduce", ["last", "sum"])
@pytest.mark.parametrize("returns", ["mean", "best"])
@pytest.mark.parametrize("bounds", [box(0.6), Ball(0.6)], ids=["box", "ball"])
def test_reaches_the_optimum_of_bounded_linear_quadratic_problems(reduce, returns, bounds):
    problem = problems(20, bounds=bounds, cost=LatentCost("l2", reduce))
    best, actions = optimum(problem.model, problem.context, problem.goal, problem.cost, HORIZON)
    on_edge = (actions - bounds.project(actions * 1.01)).abs().amax(-1) < 1e-6
    assert on_edge.any(dim=1).sum() >= 10, "the bounds must matter in this test"
    plan = CEM(CEMConfig(samples=256, elites=24, iterations=40, min_std=0.01, returns=returns))(problem)
    untouched = problem.cost(problem.model.rollout(problem.context, torch.zeros(20, 1, HORIZON, 2)), problem.goal)[:, 0]
    assert (plan.cost >= best - 1e-4).all()
    assert (plan.cost - best <= 0.01 * (untouched - best) + 1e-3).all()


def test_a_plan_alone_equals_the_plan_in_a_batch_of_fifty():
    problem = problems(50)
    together = CEM(SMALL)(problem)
    for index in (0, 17, 49):
        single = CEM(SMALL)(alone(problem, index))
        assert torch.equal(single.actions[0], together.actions[index])
        assert torch.equal(single.cost[0], together.cost[index])


def test_seeds_alone_decide_the_noise():
    problem = problems(2)
    first, again = CEM(SMALL)(problem), CEM(SMALL)(problem)
    other = CEM(SMALL)(replace(problem, seeds=[100, 999]))
    assert torch.equal(first.actions, again.actions)
    assert torch.equal(first.actions[0], other.actions[0])
    assert not torch.equal(first.actions[1], other.actions[1])


@pytest.mark.parametrize("bounds", [box(0.3), Ball(0.3)], ids=["box", "ball"])
@pytest.mark.parametrize("returns", ["mean", "best"])
def test_nothing_outside_the_bounds_is_imagined_or_returned(bounds, returns):
    start = torch.full((4, HORIZON, 2), 5.0)  # a warm start from outside
    problem = problems(4, bounds=bounds, initial=start)
    plan = CEM(replace(SMALL, returns=returns))(problem)
    for actions in [*problem.model.seen, plan.actions]:
        assert torch.allclose(bounds.project(actions), actions, atol=1e-6)
    assert len(problem.model.seen) == SMALL.iterations + (returns == "mean")


def test_the_current_mean_is_candidate_zero():
    initial = 0.1 * torch.randn(3, HORIZON, 2)
    problem = problems(3, initial=initial)
    CEM(SMALL)(problem)
    assert torch.equal(problem.model.seen[0][:, 0], initial)
    assert not torch.equal(problem.model.seen[1][:, 0], initial)


def test_best_never_gets_worse_than_the_start_and_history_counts_evaluations():
    initial = 0.1 * torch.randn(3, HORIZON, 2)
    problem = problems(3, initial=initial)
    start = problem.cost(problem.model.rollout(problem.context, initial[:, None]), problem.goal)[:, 0]
    best = CEM(replace(SMALL, returns="best"))(problem)
    assert (best.cost <= start).all()
    assert best.history["evaluations"] == [64] * 4
    assert best.evaluations == 256
    assert torch.equal(best.cost, torch.stack(best.history["best"]).amin(dim=0))
    mean = CEM(SMALL)(problem)
    assert mean.evaluations == 257
    again = problem.cost(problem.model.rollout(problem.context, mean.actions[:, None]), problem.goal)[:, 0]
    assert torch.equal(mean.cost, again)


@pytest.mark.parametrize("chunk", [1, 30, 100, 10_000])
def test_chunks_change_memory_but_not_the_result(chunk):
    problem = problems(5)
    whole = CEM(SMALL)(problem)
    problem.model.seen.clear()
    pieces = CEM(replace(SMALL, chunk=chunk))(problem)
    assert torch.equal(whole.actions, pieces.actions)
    assert torch.equal(whole.cost, pieces.cost)
    assert max(a.shape[0] * a.shape[1] for a in problem.model.seen) <= max(chunk, 8 * 5)


def test_works_in_double_precision():
    limits = Box(torch.full((2,), -1.0, dtype=torch.float64), torch.full((2,), 1.0, dtype=torch.float64))
    problem = problems(3)
    model = LinearModel(limits, torch.float64)
    plan = CEM(SMALL)(
        replace(problem, model=model, context=problem.context.double(), goal=Latent(problem.goal.z.double()))
    )
    assert plan.actions.dtype == plan.cost.dtype == torch.float64


def test_nan_names_problem_candidate_and_iteration():
    calls = []

    def cost(rollout, goal):
        value = LatentCost()(rollout, goal)
        calls.append(value)
        if len(calls) == 3:
            value[2, 7] = torch.nan
        return value

    with pytest.raises(PlanningError, match="problem 2, candidate 7, iteration 2: found NaN"):
        CEM(SMALL)(problems(4, cost=cost))


def test_a_forbidden_candidate_may_cost_infinity():
    def cost(rollout, goal):
        value = LatentCost()(rollout, goal)
        value[:, 1::2] = torch.inf
        return value

    assert CEM(SMALL)(problems(2, cost=cost)).cost.isfinite().all()


def test_a_cost_of_the_wrong_shape_is_refused():
    with pytest.raises(ShapeError, match=r"cost: found shape \(4,\), expected \(4, 64\)"):
        CEM(SMALL)(problems(4, cost=lambda rollout, goal: LatentCost()(rollout, goal)[:, 0]))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.5, -1.0], [0.1, 1.0], "dimension 0: found .* which is empty"),
        ([-1.0, -1.0], [1.0, torch.inf], "dimension 1: found .* expected finite"),
        ([-1.0, torch.nan], [1.0, 1.0], "dimension 1: found .* expected finite"),
        ([-1.0], [1.0], r"expected \(2,\) twice"),
    ],
)
def test_bounds_that_cannot_hold_an_action_are_refused(low, high, message):
    with pytest.raises(PlanningError, match=message):
        problems(1, bounds=Box(torch.tensor(low), torch.tensor(high)))


def test_bad_problems_are_refused():
    good = problems(2)
    with pytest.raises(PlanningError, match="horizon: found 0"):
        replace(good, horizon=0)
    with pytest.raises(PlanningError, match="seeds: found none"):
        replace(good, seeds=[])
    with pytest.raises(ShapeError, match=r"initial: found shape \(2, 3, 2\), expected \(2, 5, 2\)"):
        replace(good, initial=torch.zeros(2, 3, 2))


@pytest.mark.parametrize(
    "change", [{"elites": 65}, {"elites": 0}, {"iterations": 0}, {"init_std": 0.0}, {"momentum": 1.0}, {"returns": "x"}]
)
def test_bad_settings_are_refused(change):
    with pytest.raises(ConfigError, match="CEMConfig"):
        replace(SMALL, **change)
