"""What a planner is given and what it gives back. Planners see a world model only through these structural types."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import PlanningError, ShapeError


class Bounds(Protocol):
    """The set that actions may lie in, in model units; `project` maps any action to the nearest allowed one.

    `low` and `high` are the smallest box around the set; the set itself may be smaller (a ball per raw action).
    """

    @property
    def low(self) -> Float[Tensor, "a"]: ...

    @property
    def high(self) -> Float[Tensor, "a"]: ...

    def project(self, actions: Float[Tensor, "... a"], /) -> Float[Tensor, "... a"]: ...


class Latents(Protocol):
    """An imagined rollout: `z[:, :, i]` is the latent after action i."""

    @property
    def z(self) -> Float[Tensor, "p s h n d"]: ...


class Target(Protocol):
    """A goal: the latent to reach, one per problem."""

    @property
    def z(self) -> Float[Tensor, "p n d"]: ...


class PlanningModel(Protocol):
    """The part of a world model that planners use. `context` is opaque to them."""

    @property
    def action_dim(self) -> int: ...

    @property
    def action_bounds(self) -> Bounds: ...

    def rollout(self, context: Any, actions: Float[Tensor, "p s h a"], /) -> Any: ...


Cost = Callable[[Any, Any], Float[Tensor, "p s"]]


@dataclass(frozen=True)
class Problem:
    """P planning problems, solved together and independently of each other.

    Arguments:
        model: imagines rollouts; its bounds give the dtype of the plan.
        context: what the model knows of the present, for P problems; never looked into.
        goal: what the cost compares with; never looked into.
        cost: `cost(rollout, goal)` gives (P, candidates), lower is better.
        horizon: model steps imagined.
        seeds: one per problem. Random numbers of a problem come from its seed alone, never from the batch.
        initial: (P, horizon, A) mean to start from, in model units; the mean action (zero) when None.
        device: where candidates are made; the device of the bounds when None.

    Raises: PlanningError for a horizon below 1, no problem, or bounds that are empty, infinite or of the wrong size;
        ShapeError for an `initial` of the wrong shape.
    """

    model: PlanningModel
    context: Any
    goal: Any
    cost: Cost
    horizon: int
    seeds: Sequence[int]
    initial: Float[Tensor, "p h a"] | None = None
    device: torch.device | None = None

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise PlanningError(f"Problem.horizon: found {self.horizon}, expected at least 1 model step")
        if len(self.seeds) == 0:
            raise PlanningError("Problem.seeds: found none, expected one seed per problem")
        check_bounds(self.model.action_bounds, self.model.action_dim)
        if self.initial is not None and tuple(self.initial.shape) != self.shape:
            raise ShapeError(f"Problem.initial: found shape {tuple(self.initial.shape)}, expected {self.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(P, horizon, A) of a plan."""
        return len(self.seeds), self.horizon, self.model.action_dim

    def start(self) -> Float[Tensor, "p h a"]:
        """The mean that planning starts from, inside the bounds."""
        bounds = self.model.action_bounds
        device = bounds.low.device if self.device is None else self.device
        mean = bounds.low.new_zeros(self.shape) if self.initial is None else self.initial.to(bounds.low.dtype)
        return bounds.project(mean.to(device))

    def generators(self) -> list[torch.Generator]:
        """One host generator per problem, so that the same seed draws the same numbers on every device."""
        return [torch.Generator().manual_seed(int(seed) & (2**63 - 1)) for seed in self.seeds]


@dataclass
class Plan:
    """Actions for every problem, in model units and inside the bounds.

    `cost` is the model's own estimate for `actions`. `history` has one entry per iteration: `best` and `mean` cost (P,)
    and `evaluations`, the number of rollouts imagined for each problem; its sum is the budget the plan has used.
    """

    actions: Float[Tensor, "p h a"]
    cost: Float[Tensor, "p"]
    history: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def evaluations(self) -> int:
        """Rollouts imagined for each problem."""
        return int(sum(self.history.get("evaluations", [])))


def check_bounds(bounds: Bounds, action_dim: int) -> None:
    """Raise PlanningError unless `low <= high`, both finite and of `action_dim` entries."""
    low, high = bounds.low, bounds.high
    if tuple(low.shape) != (action_dim,) or tuple(high.shape) != (action_dim,):
        raise PlanningError(
            f"action bounds: found shapes {tuple(low.shape)} and {tuple(high.shape)}, expected ({action_dim},) twice"
        )
    for index, (lowest, highest) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise PlanningError(
                f"action bounds, dimension {index}: found [{lowest}, {highest}], expected finite bounds"
            )
        if lowest > highest:
            raise PlanningError(f"action bounds, dimension {index}: found [{lowest}, {highest}], which is empty")


def imagine(
    problem: Problem, candidates: Float[Tensor, "p s h a"], *, chunk: int = 0, iteration: int = 0
) -> Float[Tensor, "p s"]:
    """Cost of candidates under the model.

    Arguments:
        chunk: most (problem, candidate) pairs per rollout, to bound memory; 0 imagines all at once. Only candidates
            are split, because a context is opaque: one candidate of every problem is the smallest piece.
        iteration: only names the place in an error.

    Raises: ShapeError when the cost is not (P, S); PlanningError naming problem, candidate and iteration of a NaN.
    """
    problems, samples = candidates.shape[:2]
    step = samples if chunk <= 0 else max(1, min(samples, chunk // problems))
    pieces = []
    for part in torch.split(candidates, step, dim=1):
        piece = problem.cost(problem.model.rollout(problem.context, part), problem.goal)
        if tuple(piece.shape) != (problems, part.shape[1]):
            raise ShapeError(f"cost: found shape {tuple(piece.shape)}, expected {(problems, part.shape[1])}")
        pieces.append(piece)
    cost = torch.cat(pieces, dim=1)
    if bool(cost.isnan().any()):
        row, column = (int(i) for i in cost.isnan().nonzero()[0])
        raise PlanningError(
            f"cost at problem {row}, candidate {column}, iteration {iteration}: found NaN, expected a number"
        )
    return cost
