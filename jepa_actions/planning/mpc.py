"""Receding-horizon control: plan, execute the first steps, plan again from what is left of the plan."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.errors import PlanningError, ShapeError
from jepa_actions.planning.make import Planner
from jepa_actions.planning.problem import Carried, Cost, Plan, PlanningModel, Problem

Proposals = Callable[[Any, Any, int, Sequence[int]], Float[Tensor, "p q h a"]]


def deadline_in(timeout_ms: float | None) -> float | None:
    """So many milliseconds from now, as `Problem.deadline`; raises PlanningError for a number below 0, or none."""
    if timeout_ms is None:
        return None
    if not timeout_ms >= 0:
        raise PlanningError(f"timeout_ms: found {timeout_ms}, expected at least 0")
    return time.perf_counter() + timeout_ms / 1000


def spent(proposals: Proposals | None, horizon: int) -> int:
    """Rollouts per problem that it took to make proposals: what they say themselves, none for a plain function."""
    count = getattr(proposals, "evaluations", None)
    return 0 if count is None else int(count(horizon))


class MPC:
    """Plans again and again for P episodes that run side by side.

    A plan's remaining steps, shifted by `execute`, are the next plan's starting point; so are its elites, for planners
    that keep them. Every episode keeps its own warm start, its own elites, its own seed and its own count of decisions;
    `reset` forgets them for the episodes that begin anew, so that an episode never starts from another one's plan.

    Arguments:
        planner: `planner(problem) -> Plan`.
        horizon: model steps imagined by each plan.
        execute: model steps that the caller executes before it plans again.
        seeds: one per episode; decision number d of an episode draws from (seed, d).
        warm_start: False starts every plan from the mean action (the comparison).
        device: where candidates are made; the device of the bounds when None.
        proposals: `proposals(context, goal, horizon, seeds)` gives (P, q, horizon, A) action sequences in model units,
            for every decision: an inverse head's, or a policy's. The plan counts its `evaluations(horizon)`, if it has
            any.

    Raises: PlanningError unless 1 <= execute <= horizon and there is at least one seed.
    """

    def __init__(
        self,
        planner: Planner,
        model: PlanningModel,
        cost: Cost,
        *,
        horizon: int,
        execute: int = 1,
        seeds: Sequence[int],
        warm_start: bool = True,
        device: torch.device | None = None,
        proposals: Proposals | None = None,
    ) -> None:
        if not 1 <= execute <= horizon:
            raise PlanningError(f"MPC.execute: found {execute}, expected 1 to the horizon, {horizon}")
        if len(seeds) == 0:
            raise PlanningError("MPC.seeds: found none, expected one seed per episode")
        self.planner, self.model, self.cost = planner, model, cost
        self.horizon, self.execute, self.seeds = horizon, execute, list(seeds)
        self.warm_start, self.device, self.proposals = warm_start, device, proposals
        self.reset()

    def reset(self, mask: Bool[Tensor, "p"] | None = None) -> None:
        """Begin anew: all episodes, or those where `mask` is True. Raises ShapeError for a mask that is not (P,)."""
        if mask is None:
            self._decisions = [0] * len(self.seeds)
            self._next: Float[Tensor, "p h a"] | None = None
            self._carried: Carried | None = None
            return
        if tuple(mask.shape) != (len(self.seeds),):
            raise ShapeError(f"MPC.reset mask: found shape {tuple(mask.shape)}, expected {(len(self.seeds),)}")
        self._decisions = [0 if gone else n for n, gone in zip(self._decisions, mask.tolist(), strict=True)]
        if self._next is not None:
            self._next = self._next.masked_fill(mask.to(self._next.device)[:, None, None], 0.0)
        if self._carried is not None:
            valid = self._carried.valid & ~mask.to(self._carried.valid.device)
            self._carried = Carried(self._carried.actions, valid)

    def plan(
        self,
        context: Any,
        goal: Any,
        *,
        episodes: Sequence[int] | None = None,
        left: int | None = None,
        timeout_ms: float | None = None,
        proposals: Proposals | None = None,
    ) -> Plan:
        """Plan for all episodes; the caller executes the first `execute` steps of `Plan.actions`.

        Args:
            episodes: plan for these alone, in this order, which `context` and `goal` are about; the others' warm starts
                and counts of decisions stay as they are. For episodes that do not begin together.
            left: model steps until the episode ends, where that is known. No plan looks further: a plan that may
                always arrive `horizon` steps from now need never arrive.
            timeout_ms: real time: no iteration begins later than this after the call, proposals included, and the plan
                is the best so far; the warm start, with `timed_out`, no evaluations and infinite cost, where there was
                no time for one iteration. What a plan finds then depends on the machine.
            proposals: instead of the constructor's, for this decision.

        Raises: PlanningError for a timeout that is negative or not a number, for episodes that are not different
            ones of these, and what the planner raises.
        """
        deadline = deadline_in(timeout_ms)
        proposals = proposals or self.proposals
        rows = list(range(len(self.seeds))) if episodes is None else list(episodes)
        if not rows or len(set(rows)) < len(rows) or not set(rows) <= set(range(len(self.seeds))):
            raise PlanningError(
                f"MPC.plan episodes: found {rows}, expected different ones of 0 to {len(self.seeds) - 1}"
            )
        horizon = self.horizon if left is None else max(1, min(self.horizon, left))
        initial = None if self._next is None else self._next[rows, :horizon]
        seeds = [decision_seed(self.seeds[row], self._decisions[row]) for row in rows]
        carried = None
        if self._carried is not None:
            carried = Carried(self._carried.actions[rows, :, :horizon], self._carried.valid[rows])
        problem = Problem(
            self.model,
            context,
            goal,
            self.cost,
            horizon,
            seeds,
            initial,
            self.device,
            proposals=None if proposals is None else proposals(context, goal, horizon, seeds),
            carried=carried,
            deadline=deadline,
        )
        plan = self.planner(problem)
        plan.proposing = spent(proposals, horizon)
        for row in rows:
            self._decisions[row] += 1
        if self.warm_start:
            self._remember(plan, rows)
        return plan

    def _remember(self, plan: Plan, rows: list[int]) -> None:
        """What these episodes' next decisions start from."""
        left = self._shifted(plan.actions)
        if self._next is None:
            self._next = left.new_zeros(len(self.seeds), *left.shape[1:])
        self._next[rows] = left
        if plan.elites is None:
            if self._carried is not None:
                self._carried.valid[rows] = False
            return
        elites = self._shifted(plan.elites)
        if self._carried is None or self._carried.actions.shape[1:] != elites.shape[1:]:
            none = torch.zeros(len(self.seeds), dtype=torch.bool, device=elites.device)
            self._carried = Carried(elites.new_zeros(len(self.seeds), *elites.shape[1:]), none)
        self._carried.actions[rows], self._carried.valid[rows] = elites, True

    def _shifted(self, actions: Float[Tensor, "*b h a"]) -> Float[Tensor, "*b h a"]:
        """What is left after the executed steps, then the mean action."""
        rest = actions[..., self.execute :, :]
        zeros = rest.new_zeros(*rest.shape[:-2], self.horizon - rest.shape[-2], rest.shape[-1])
        return torch.cat([rest, zeros], dim=-2)


def decision_seed(seed: int, decision: int) -> int:
    """The seed of one decision of one episode, well mixed, so that neighbouring seeds share no random numbers."""
    state = np.random.SeedSequence([int(seed) & (2**63 - 1), decision]).generate_state(1, np.uint64)
    return int(state[0]) & (2**63 - 1)
