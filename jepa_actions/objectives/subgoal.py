r"""Sub-goals from video alone: what comes next where the way leads to z_goal?

    L = w | f(z_t, z_goal) - z_{t+1} |^2

over observed steps and goals from anywhere in the scene, with the weights of `weighted_steps`: of all that was seen,
what came nearer to the goal is imitated. No action is needed; the inverse head reads it off (z_t, f(z_t, z_goal)).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.objectives.advantage import AdvantageConfig, weighted_steps
from jepa_actions.objectives.views import Views, masked_mean


@dataclass(frozen=True)
class SubgoalLossConfig(AdvantageConfig):
    """Weight, schedule and pairs of the sub-goal term."""


class SubgoalObjective:
    """Advantage-weighted prediction of the next latent, on detached latents."""

    def __init__(self, config: SubgoalLossConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; logs it and the mean weight."""
        if model.subgoal is None:
            raise ConfigError("objectives.subgoal needs model.subgoal, found null")
        config, z = self.config, views.z.detach()
        steps = weighted_steps(model, views, config, config.pairs, generator)
        rows = z.flatten(0, 1)
        error = (model.subgoal(rows[steps.first], rows[steps.goal]) - rows[steps.first + 1]).square().mean((-2, -1))
        loss = masked_mean(error, steps.weight)
        return loss, {"loss": loss.detach(), "weight": views.share.mean(steps.weight, steps.total)}
