"""The inverse head decides: by itself, or by proposing to a planner."""

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import PlanningModel


class GoalInverseModel(PlanningModel, Protocol):
    """A planning model whose inverse head knows the way to goals that are far; its contexts and goals have `z`."""

    def goal_actions(
        self, z: Float[Tensor, "p n d"], z_goal: Float[Tensor, "p n d"], *, before: Float[Tensor, "p n d"] | None = None
    ) -> Any: ...


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
        """Rollouts of the full horizon that `horizon` steps of all sequences amount to, as they are imagined here."""
        return -(-self.count * sum(range(1, horizon)) // horizon)

    @torch.no_grad()
    def __call__(self, context: Any, goal: Any, horizon: int) -> Float[Tensor, "p q h a"]:
        """Sequences in model units, inside the bounds."""
        project = self.model.action_bounds.project
        generator = torch.Generator().manual_seed(self.seed)
        z = context.z[:, None].expand(-1, self.count, *context.z.shape[1:])
        z_goal = goal.z[:, None].expand_as(z).flatten(0, 1)
        before = getattr(context, "before", None)  # a model of one frame need not say
        before = None if before is None else before[:, None].expand_as(z)
        actions: list[Tensor] = []
        for step in range(horizon):
            known = None if before is None else before.flatten(0, 1)
            believed = self.model.goal_actions(z.flatten(0, 1), z_goal, before=known)
            mean = believed.mean.unflatten(0, z.shape[:2])
            noise = torch.randn(self.count, mean.shape[-1], generator=generator)
            noise[0] = 0.0
            spread = believed.std.unflatten(0, z.shape[:2]) * self.noise
            actions.append(project(mean + spread * noise.to(mean)))
            if step + 1 < horizon:
                before, z = z, self.model.rollout(context, torch.stack(actions, dim=2)).z[:, :, -1]
        return torch.stack(actions, dim=2)
