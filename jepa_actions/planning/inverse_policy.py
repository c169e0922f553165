"""The inverse head decides: by itself, or by proposing to a planner."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import PlanningModel
from jepa_actions.planning.rollouts import ROWS


class Policy(Protocol):
    """The next model action of every problem, drawn from its seed; the likeliest without seeds."""

    def __call__(self, context: Any, goal: Any, seeds: Sequence[int] | None = None) -> Float[Tensor, "p a"]: ...


class GoalInverseModel(PlanningModel, Protocol):
    """A planning model whose inverse head knows the way to goals that are far; its contexts and goals have `z`.

    `branch` gives so many contexts of every problem, side by side; `advance` one that is one imagined model step later.
    """

    def goal_actions(
        self, z: Float[Tensor, "p n d"], z_goal: Float[Tensor, "p n d"], *, before: Float[Tensor, "p n d"] | None = None
    ) -> Any: ...

    def branch(self, context: Any, count: int, /) -> Any: ...

    def advance(self, context: Any, action: Float[Tensor, "p a"], /) -> Any: ...


class InversePolicy:
    """An action drawn from the goal-conditioned inverse head, inside the bounds: one forward pass per decision.

    Drawn, because the mean of what behaviour has done may be what it never did. At a wall where half of it went left
    and half right, the mean pushes on, nothing changes, and the next mean is the same.

    Arguments:
        model: with `goal_actions`.
        noise: multiple of the head's std; 0 is the mean.

    Raises: ConfigError for negative noise.
    """

    def __init__(self, model: GoalInverseModel, *, noise: float = 1.0) -> None:
        self.model, self.noise = model, checked_noise("InversePolicy", noise)

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any, seeds: Sequence[int] | None = None) -> Float[Tensor, "p a"]:
        """The next model action of every problem, each drawn from its own seed; the mean where no seeds are given."""
        believed = self.model.goal_actions(context.z, goal.z, before=getattr(context, "before", None))
        return self.model.action_bounds.project(drawn(believed, seeds, self.noise))


class SubgoalModel(PlanningModel, Protocol):
    """A planning model that imagines the next latent on the way, and infers the action that leads to it."""

    def next_on_the_way(
        self, z: Float[Tensor, "p n d"], z_goal: Float[Tensor, "p n d"], /
    ) -> Float[Tensor, "p n d"]: ...

    def infer_actions(self, z: Float[Tensor, "p n d"], z_goal: Float[Tensor, "p n d"], k: int, /) -> Any: ...


class SubgoalPolicy:
    """Imagines the latent that comes next on the way to the goal, and takes the action that the inverse head reads off
    the pair (UniPi's order of things, arXiv 2302.00111, in latents).

    Arguments:
        model: with `next_on_the_way` and `infer_actions`.
        noise: multiple of the inverse head's std; 0 is the mean.

    Raises: ConfigError for negative noise.
    """

    def __init__(self, model: SubgoalModel, *, noise: float = 1.0) -> None:
        self.model, self.noise = model, checked_noise("SubgoalPolicy", noise)

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any, seeds: Sequence[int] | None = None) -> Float[Tensor, "p a"]:
        """The next model action of every problem, each drawn from its own seed; the mean where no seeds are given."""
        believed = self.model.infer_actions(context.z, self.model.next_on_the_way(context.z, goal.z), 1)
        return self.model.action_bounds.project(drawn(believed, seeds, self.noise))


def checked_noise(owner: str, noise: float) -> float:
    """The noise. Raises ConfigError for less than none, or no number."""
    if not 0 <= noise < float("inf"):
        raise ConfigError(f"{owner}.noise: found {noise}, expected 0 or more")
    return noise


def drawn(believed: Any, seeds: Sequence[int] | None, noise: float) -> Float[Tensor, "p a"]:
    """Mean plus `noise` stds of a distribution's rows; a row depends on its own seed alone. The mean without seeds."""
    mean: Tensor = believed.mean
    if seeds is None or noise == 0:
        return mean
    rows = [torch.randn(mean.shape[1], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    action: Tensor = mean + noise * believed.std * torch.stack(rows).to(mean)
    return action


class InverseProposals:
    """Action sequences that the inverse policy takes in imagination, for a planner to start from.

    The first sequence follows the head's mean; the others add noise of its own std to every action, drawn from the
    problem's seed.

    Arguments:
        model: with `goal_actions`.
        count: sequences per problem.
        noise: multiple of the head's std.

    Raises: ConfigError for a count below 1 or negative noise.
    """

    def __init__(self, model: GoalInverseModel, count: int = 8, noise: float = 1.0) -> None:
        if count < 1:
            raise ConfigError(f"InverseProposals.count: found {count}, expected at least 1")
        self.model, self.count, self.noise = model, count, checked_noise("InverseProposals", noise)

    def evaluations(self, horizon: int) -> int:
        """Rollouts of the full horizon that the steps of all sequences amount to; the last action is not imagined."""
        return -(-self.count * (horizon - 1) // horizon)

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any, horizon: int, seeds: Sequence[int]) -> Float[Tensor, "p q h a"]:
        """Sequences in model units, inside the bounds. Rows that pad a product (`rollouts.ROWS`) count nothing."""
        rows = -(-self.count // ROWS) * ROWS
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        present = self.model.branch(context, rows)
        z_goal = goal.z.repeat_interleave(rows, dim=0)
        actions: list[Tensor] = []
        for step in range(horizon):
            believed = self.model.goal_actions(present.z, z_goal, before=getattr(present, "before", None))
            mean = believed.mean
            noise = torch.zeros(len(seeds), rows, mean.shape[-1])
            for row, generator in zip(noise, generators, strict=True):
                row[1 : self.count].normal_(generator=generator)
            spread = believed.std.unflatten(0, (-1, rows)) * self.noise
            action = self.model.action_bounds.project(mean.unflatten(0, (-1, rows)) + spread * noise.to(mean))
            actions.append(action[:, : self.count])
            if step + 1 < horizon:
                present = self.model.advance(present, action.flatten(0, 1))
        return torch.stack(actions, dim=2)
