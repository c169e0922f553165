"""How far an imagined rollout ends, or stays, from a goal, and what else makes one candidate worse than another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.planning.problem import Cost, Latents, Target

METRICS = ("l2", "l1", "cosine")
REDUCTIONS = ("last", "sum", "discounted")

Distance = Callable[[Float[Tensor, "*b n d"], Float[Tensor, "*b n d"]], Float[Tensor, "*b"]]


class StepCost(Protocol):
    """A cost of single imagined states: what `InOrder` puts together."""

    def steps(self, z: Float[Tensor, "p s h n d"], z_goal: Float[Tensor, "p n d"], /) -> Float[Tensor, "p s h"]: ...


def reduced(steps: Float[Tensor, "p s h"], reduce: str, discount: float) -> Float[Tensor, "p s"]:
    """The last step (DINO-WM, LeWM), the sum (PLDM), so that arriving early is cheaper than arriving just in time, or
    the sum weighted by `discount ** t`."""
    if reduce == "last":
        return steps[:, :, -1]
    if reduce == "sum":
        return steps.sum(dim=2)
    weights = discount ** torch.arange(steps.shape[2], device=steps.device, dtype=steps.dtype)
    return (steps * weights).sum(dim=2)


def _check_reduction(name: str, reduce: str, discount: float) -> None:
    if reduce not in REDUCTIONS:
        raise ConfigError(f"{name}.reduce: found {reduce!r}, expected one of {', '.join(REDUCTIONS)}")
    if not 0.0 < discount <= 1.0:
        raise ConfigError(f"{name}.discount: found {discount}, expected a number above 0, at most 1")


@dataclass(frozen=True)
class LatentCost:
    """Distance of imagined latents to the goal's latent.

    `l2` is the mean squared and `l1` the mean absolute difference over tokens and channels; `cosine` is one minus the
    cosine over channels, averaged over tokens. For `reduce` see `reduced`.

    Raises: ConfigError for another metric or reduction, or a discount outside (0, 1].
    """

    metric: str = "l2"
    reduce: str = "last"
    discount: float = 1.0

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"LatentCost.metric: found {self.metric!r}, expected one of {', '.join(METRICS)}")
        _check_reduction("LatentCost", self.reduce, self.discount)

    def __call__(self, rollout: Latents, goal: Target) -> Float[Tensor, "p s"]:
        """Cost of every candidate, (P, S). Raises ShapeError when rollout and goal do not fit each other."""
        z = rollout.z[:, :, -1:] if self.reduce == "last" else rollout.z
        return reduced(self.steps(z, goal.z), self.reduce, self.discount)

    def steps(self, z: Float[Tensor, "p s h n d"], z_goal: Float[Tensor, "p n d"]) -> Float[Tensor, "p s h"]:
        """Distance of every imagined state."""
        _check_fit("LatentCost", z, z_goal)
        target = z_goal[:, None, None]
        if self.metric == "cosine":
            return 1 - torch.nn.functional.cosine_similarity(z, target, dim=-1).mean(dim=-1)
        difference = z - target
        return (difference.square() if self.metric == "l2" else difference.abs()).mean(dim=(-2, -1))


@dataclass(frozen=True)
class TemporalCost:
    """Model steps that are left to the goal, by a learned temporal distance.

    With `reach`, the longest that one real step is by the same distance, an imagined step that is longer is charged
    `reach_weight` times the excess, and so is every state after it: what a model imagines through a wall is, by the
    distance, many steps at once. By the triangle inequality a step takes no more off the distance than it is long, so
    from weight 1 on no candidate gains more by such a step than by a real one, however its states are reduced. That
    needs rollouts which say where they start (`Rollout.start`).

    Arguments:
        distance: `(z, z_goal) -> steps`, over any leading dimensions.
        reduce, discount: see `reduced`.
        reach: in model steps; None charges nothing.

    Raises: ConfigError for another reduction, a discount outside (0, 1], or a reach or weight below 0.
    """

    distance: Distance
    reduce: str = "last"
    discount: float = 1.0
    reach: float | None = None
    reach_weight: float = 2.0

    def __post_init__(self) -> None:
        _check_reduction("TemporalCost", self.reduce, self.discount)
        if (self.reach is not None and self.reach < 0) or self.reach_weight < 0:
            raise ConfigError(
                f"TemporalCost: found reach {self.reach} and reach_weight {self.reach_weight}, expected none below 0"
            )

    def __call__(self, rollout: Latents, goal: Target) -> Float[Tensor, "p s"]:
        """Cost of every candidate, (P, S). Raises ShapeError when rollout and goal do not fit each other."""
        z = rollout.z[:, :, -1:] if self.reduce == "last" else rollout.z
        left = self.steps(z, goal.z)
        if self.reach is not None:
            left = left + self.reach_weight * self._excess(rollout, self.reach)[:, :, -left.shape[2] :]
        return reduced(left, self.reduce, self.discount)

    def steps(self, z: Float[Tensor, "p s h n d"], z_goal: Float[Tensor, "p n d"]) -> Float[Tensor, "p s h"]:
        """Model steps left from every imagined state."""
        _check_fit("TemporalCost", z, z_goal)
        return self.distance(z, z_goal[:, None, None].expand_as(z))

    def _excess(self, rollout: Latents, reach: float) -> Float[Tensor, "p s h"]:
        """By how much the steps up to every state are too long, together."""
        start = _of(rollout, "start", "TemporalCost with reach")[:, None, None]
        path = torch.cat([start.expand(-1, rollout.z.shape[1], -1, -1, -1), rollout.z], dim=2)
        return torch.relu(self.distance(path[:, :, :-1], path[:, :, 1:]) - reach).cumsum(dim=2)


@dataclass(frozen=True)
class InverseAgreement:
    """How unlikely the inverse head finds the candidate's actions, given the steps that the model imagines for them.

    Mean squared difference of the inferred from the candidate's action, in model units, over steps: where the forward
    model makes up a step, the inverse head of the same encoder reads another action off it.

    Arguments:
        infer: `(z, z_next, k) -> Distribution`, as `WorldModel.infer_actions`.
    """

    infer: Callable[[Tensor, Tensor, int], Any]

    def __call__(self, rollout: Latents, goal: Target) -> Float[Tensor, "p s"]:
        """Cost of every candidate. Raises ShapeError for rollouts without start or actions."""
        start = _of(rollout, "start", "InverseAgreement")[:, None, None]
        actions = _of(rollout, "actions", "InverseAgreement")
        z = rollout.z
        before = torch.cat([start.expand(-1, z.shape[1], -1, -1, -1), z[:, :, :-1]], dim=2)
        inferred = self.infer(before.flatten(0, 2), z.flatten(0, 2), 1).mean
        cost: Tensor = (inferred.view_as(actions) - actions).square().mean(dim=(-2, -1))
        return cost


@dataclass(frozen=True)
class ActionCost:
    """Effort and unrest of the actions themselves: mean square, and mean squared change from step to step, in model
    units (zero is the mean action of the data).
    """

    effort: float = 0.0
    change: float = 0.0

    def __call__(self, rollout: Latents, goal: Target) -> Float[Tensor, "p s"]:
        """Cost of every candidate. Raises ShapeError for rollouts without actions."""
        actions = _of(rollout, "actions", "ActionCost")
        cost = self.effort * actions.square().mean(dim=(-2, -1))
        if actions.shape[2] > 1:
            cost = cost + self.change * (actions[:, :, 1:] - actions[:, :, :-1]).square().mean(dim=(-2, -1))
        return cost


@dataclass(frozen=True)
class InOrder:
    """Several goals, to be passed one after another; the goal's z is (P, goals, N, D).

    The least sum of step costs over all times t_1 <= t_2 <= ... at which the goals may be passed, the last of them at
    the end of the rollout (exact, by dynamic programming over the steps).
    """

    cost: StepCost

    def __call__(self, rollout: Latents, goal: Any) -> Float[Tensor, "p s"]:
        """Cost of every candidate. Raises ShapeError for a goal that is not several."""
        if goal.z.ndim != 4:
            raise ShapeError(f"InOrder: found goal z {tuple(goal.z.shape)}, expected (p, goals, n, d)")
        goals = goal.z.unbind(1)
        best = torch.zeros_like(rollout.z[:, :, :, 0, 0])
        for target in goals[:-1]:
            best = (best + self.cost.steps(rollout.z, target)).cummin(dim=2).values
        return best[:, :, -1] + self.cost.steps(rollout.z, goals[-1])[:, :, -1]


@dataclass(frozen=True)
class WeightedSum:
    """Costs added with weights. Raises ConfigError for none, or for unequal numbers of both."""

    costs: Sequence[Cost]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not self.costs or len(self.costs) != len(self.weights):
            raise ConfigError(
                f"WeightedSum: found {len(self.costs)} costs and {len(self.weights)} weights, expected as many, "
                "at least 1"
            )

    def __call__(self, rollout: Any, goal: Any) -> Float[Tensor, "p s"]:
        """Cost of every candidate."""
        parts = [weight * cost(rollout, goal) for weight, cost in zip(self.weights, self.costs, strict=True)]
        return torch.stack(parts).sum(dim=0)


def _check_fit(name: str, z: Tensor, target: Tensor) -> None:
    if z.ndim != 5 or target.ndim != 3 or (z.shape[0], *z.shape[3:]) != tuple(target.shape):
        raise ShapeError(
            f"{name}: found rollout z {tuple(z.shape)} and goal z {tuple(target.shape)}, "
            "expected (p, s, h, n, d) and (p, n, d)"
        )


def _of(rollout: Any, field: str, name: str) -> Tensor:
    found: Any = getattr(rollout, field, None)
    if not isinstance(found, Tensor):
        raise ShapeError(f"{name}: the model's rollouts have no {field!r}, expected it beside z")
    return found
