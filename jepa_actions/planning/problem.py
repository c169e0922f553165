"""What a planner is given and what it gives back. Planners see a world model only through these structural types."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
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
class Carried:
    """The best candidates of an episode's last decision, shifted to the present one; of another episode: not valid."""

    actions: Float[Tensor, "p k h a"]
    valid: Bool[Tensor, "p"]


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
        proposals: (P, q, horizon, A) action sequences of an inverse head or a policy, in model units. They replace
            random candidates of the first iteration, projected into the bounds, and count as evaluations.
        carried: what the last decision of the same episodes found; planners that keep their elites start from it too.
        deadline: on the clock of `time.perf_counter`; a planner begins no iteration after it and returns the best so
            far. None: no limit.

    Raises: PlanningError for a horizon below 1, no problem, bounds that are empty, infinite or of the wrong size, or
        proposals that are not finite; ShapeError for `initial`, `proposals` or `carried` of the wrong shape.
    """

    model: PlanningModel
    context: Any
    goal: Any
    cost: Cost
    horizon: int
    seeds: Sequence[int]
    initial: Float[Tensor, "p h a"] | None = None
    device: torch.device | None = None
    proposals: Float[Tensor, "p q h a"] | None = None
    carried: Carried | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise PlanningError(f"Problem.horizon: found {self.horizon}, expected at least 1 model step (a block)")
        if len(self.seeds) == 0:
            raise PlanningError("Problem.seeds: found none, expected one seed per problem")
        check_bounds(self.model.action_bounds, self.model.action_dim)
        if self.initial is not None and tuple(self.initial.shape) != self.shape:
            raise ShapeError(f"Problem.initial: found shape {tuple(self.initial.shape)}, expected {self.shape}")
        if self.proposals is not None:
            self._check_several("proposals", self.proposals)
            if not bool(self.proposals.isfinite().all()):
                raise PlanningError("Problem.proposals: found NaN or infinity, expected finite actions")
        if self.carried is not None:
            self._check_several("carried", self.carried.actions)

    def _check_several(self, name: str, actions: Tensor) -> None:
        problems, horizon, dim = self.shape
        if actions.ndim != 4 or (actions.shape[0], *actions.shape[2:]) != self.shape:
            raise ShapeError(
                f"Problem.{name}: found shape {tuple(actions.shape)}, expected ({problems}, any, {horizon}, {dim})"
            )

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

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.perf_counter() >= self.deadline


@dataclass
class Plan:
    """Actions for every problem, in model units and inside the bounds.

    `cost` is the model's own estimate for `actions`. `history` has one entry per iteration: `best` and `mean` cost (P,)
    and `evaluations`, the number of rollouts imagined for each problem; its sum is the budget the plan has used. A
    gradient step counts one per restart; candidates repeated to pad a matrix product (`rollouts.ROWS`) count nothing.

    `timed_out` says that the deadline ended the search early. Where it left no time for one iteration, `actions` is
    the warm start, `cost` infinite and nothing in `history`, because nobody asked the model. `elites` are the best
    candidates of the last iteration, best first. `proposing` are the rollouts that its proposals took to make.
    """

    actions: Float[Tensor, "p h a"]
    cost: Float[Tensor, "p"]
    history: dict[str, list[Any]] = field(default_factory=dict)
    timed_out: bool = False
    elites: Float[Tensor, "p k h a"] | None = None
    proposing: int = 0

    @property
    def evaluations(self) -> int:
        """Rollouts imagined for each problem, those of the proposals included."""
        return self.proposing + int(sum(self.history.get("evaluations", [])))

    @property
    def unsearched(self) -> bool:
        """Whether the deadline left no time for one iteration, so that `actions` is the warm start."""
        return self.timed_out and not self.history.get("evaluations")


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
