"""The inverse head decides: by itself, or by proposing to a planner."""

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import PlanningModel
from jepa_actions.planning.rollouts import ROWS


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
    """The mean action of the goal-conditioned inverse head, inside the bounds: one forward pass per decision.

    Arguments:
        model: with `goal_actions`.
    """

    def __init__(self, model: GoalInverseModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any) -> Float[Tensor, "p a"]:
        """The next model action of every problem."""
        mean: Tensor = self.model.goal_actions(context.z, goal.z, before=getattr(context, "before", None)).mean
        return self.model.action_bounds.project(mean)


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
    """

    def __init__(self, model: SubgoalModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any) -> Float[Tensor, "p a"]:
        """The next model action of every problem."""
        ahead = self.model.next_on_the_way(context.z, goal.z)
        mean: Tensor = self.model.infer_actions(context.z, ahead, 1).mean
        return self.model.action_bounds.project(mean)


class InverseProposals:
    """Action sequences that the inverse policy takes in imagination, for a planner to start from.

    The first sequence follows the head's mean; the others add noise of its own std to every action, drawn once per
    place from a fixed seed, the same for every problem.

    Arguments:
        model: with `goal_actions`.
        count: sequences per problem.
        noise: multiple of the head's std.

    Raises: ConfigError for a count below 1 or negative noise.
    """

    def __init__(self, model: GoalInverseModel, count: int = 8, noise: float = 1.0, seed: int = 0) -> None:
        if count < 1 or noise < 0:
            raise ConfigError(f"InverseProposals: found count {count}, noise {noise}, expected count >= 1, noise >= 0")
        self.model, self.count, self.noise, self.seed = model, count, noise, seed

    def evaluations(self, horizon: int) -> int:
        """Rollouts of the full horizon that the steps of all sequences amount to; the last action is not imagined."""
        return -(-self.count * (horizon - 1) // horizon)

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any, horizon: int) -> Float[Tensor, "p q h a"]:
        """Sequences in model units, inside the bounds. Rows that pad a product (`rollouts.ROWS`) count nothing."""
        rows = -(-self.count // ROWS) * ROWS
        generator = torch.Generator().manual_seed(self.seed)
        present = self.model.branch(context, rows)
        z_goal = goal.z.repeat_interleave(rows, dim=0)
        actions: list[Tensor] = []
        for step in range(horizon):
            believed = self.model.goal_actions(present.z, z_goal, before=getattr(present, "before", None))
            mean = believed.mean
            noise = torch.zeros(rows, mean.shape[-1])
            noise[: self.count] = torch.randn(self.count, mean.shape[-1], generator=generator)
            noise[0] = 0.0
            spread = believed.std.unflatten(0, (-1, rows)) * self.noise
            action = self.model.action_bounds.project(mean.unflatten(0, (-1, rows)) + spread * noise.to(mean))
            actions.append(action[:, : self.count])
            if step + 1 < horizon:
                present = self.model.advance(present, action.flatten(0, 1))
        return torch.stack(actions, dim=2)
