r"""Forward dynamics: predict the next latent, one step by teacher forcing and several by rollout.

    L = mean_t | F(z_t, a_t) - z_{t+1} |^2  +  mean_k | F^k(z_0, a_0 .. a_{k-1}) - z_k |^2

Teacher forcing plus rollout as V-JEPA 2-AC (arXiv 2506.09985, equations 2-4); squared error and, for `online`
targets, gradients through both sides as PLDM (arXiv 2502.14819) and LeWM (arXiv 2603.19312).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jepa_actions.models import WorldModel
from jepa_actions.objectives.views import Views, masked_mean


@dataclass(frozen=True)
class ForwardConfig:
    """Weight, schedule and form of the forward term."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    target: Literal["online", "stopgrad", "ema"] = "online"
    metric: Literal["l2", "l1"] = "l2"
    rollout: float = 1.0  # weight of the rollout beside teacher forcing; 0 switches it off
    detach: bool = False  # True trains the dynamics alone and leaves the encoder


class Forward:
    """Teacher forcing plus multi-step rollout on the batch's labelled steps."""

    def __init__(self, config: ForwardConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; logs the one-step error, the rollout's last error, and the error of copying the last latent."""
        config, dynamics = self.config, model.dynamics
        actions, mask = views.batch.actions, views.step_mask()
        assert dynamics is not None
        assert actions is not None
        z = views.z.detach() if config.detach else views.z
        target = views.z_target if config.target == "ema" else z
        if config.target == "stopgrad":
            target = target.detach()
        one_step = self._error(dynamics(z[:, :-1], actions), target[:, 1:])  # (b, t-1)
        loss = masked_mean(one_step, mask)
        copy = self._error(target[:, :-1], target[:, 1:])
        logs = {"one_step": loss.detach(), "copy_last": masked_mean(copy, mask).detach()}
        first = (dynamics.config.history or 1) - 1  # the rollout starts once the history is full
        if config.rollout > 0 and z.shape[1] - first > 2:
            cache = dynamics.start(z[:, :first], actions[:, :first])
            imagined = dynamics.rollout(z[:, first], actions[:, first:], cache)
            known = mask[:, first:].cumprod(1)
            error = self._error(imagined[:, 1:], target[:, first + 2 :])
            rollout = masked_mean(error, known[:, 1:])
            loss = loss + config.rollout * rollout
            logs["rollout_last"] = masked_mean(error[:, -1], known[:, -1]).detach()
        return loss, logs

    def _error(self, a: Tensor, b: Tensor) -> Tensor:
        difference = a - b
        return (difference**2 if self.config.metric == "l2" else difference.abs()).mean((-2, -1))
