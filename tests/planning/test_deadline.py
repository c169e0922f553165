"""Real time: a planner stops after the iteration in which its time ran out, and says so."""

import time
from dataclasses import replace

import pytest
import torch
from linear_model import Box, Latent, LinearModel
from planner_names import NAMES

from jepa_actions.errors import PlanningError
from jepa_actions.planning import CEM, MPC, CEMConfig, LatentCost, Problem, make_planner


class Slow(LinearModel):
    def rollout(self, context, actions):
        time.sleep(0.02)
        return super().rollout(context, actions)


def problem(**fields):
    model = Slow(Box(torch.full((2,), -1.0), torch.full((2,), 1.0)))
    return Problem(model, torch.zeros(3, 2), Latent(torch.ones(3, 1, 2)), LatentCost(), 4, [0, 1, 2], **fields)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_so_far_is_returned_after_the_deadline(name):
    planner = make_planner(name, evaluations=20_000)  # at least 0.6 s of sleep
    planner(problem(deadline=time.perf_counter() + 0.001))  # imports and first allocations are not timed
    plan = planner(problem(deadline=time.perf_counter() + 0.2))
    assert plan.timed_out
    assert 0 < plan.evaluations < 20_000
    assert plan.cost.isfinite().all()
    assert torch.equal(plan.cost, torch.stack(plan.history["best"]).amin(dim=0))


@pytest.mark.parametrize("name", NAMES)
def test_no_time_for_one_iteration_is_the_warm_start(name):
    initial = 0.3 * torch.ones(3, 4, 2)
    late = problem(initial=initial, deadline=time.perf_counter() - 1)
    plan = make_planner(name)(late)
    assert plan.timed_out
    assert torch.equal(plan.actions, initial)
    assert plan.cost.isinf().all()
    assert plan.evaluations == 0
    assert not late.model.seen


@pytest.mark.parametrize("name", NAMES)
def test_a_deadline_that_is_far_changes_nothing(name):
    planner, base = make_planner(name, evaluations=60), problem()
    base = replace(base, model=LinearModel(base.model.action_bounds))
    there, never = planner(replace(base, deadline=time.perf_counter() + 60)), planner(base)
    assert torch.equal(there.actions, never.actions)
    assert not there.timed_out


def test_mpc_in_real_time():
    base = problem()
    planner = CEM(CEMConfig(samples=16, elites=4, iterations=50, returns="mean"))
    mpc = MPC(planner, base.model, base.cost, horizon=4, seeds=[0, 1, 2])
    first = mpc.plan(base.context, base.goal, timeout_ms=200)
    assert first.timed_out
    assert 0 < first.evaluations < 50 * 16
    none = mpc.plan(base.context, base.goal, timeout_ms=0)
    assert none.timed_out
    assert none.evaluations == 0
    assert torch.equal(none.actions[:, :-1], first.actions[:, 1:]), "the warm start, which is the last plan's rest"
    with pytest.raises(PlanningError, match="timeout_ms: found -1, expected at least 0"):
        mpc.plan(base.context, base.goal, timeout_ms=-1)
    with pytest.raises(PlanningError, match="timeout_ms: found nan"):
        mpc.plan(base.context, base.goal, timeout_ms=float("nan"))
