r"""Forward dynamics: predict the next latent, one step by teacher forcing and several by rollout.

    L = mean_t | F(z_t, a_t) - z_{t+1} |^2  +  mean_k | F^k(z_0, a_0 .. a_{k-1}) - z_k |^2

Teacher forcing plus rollout as V-JEPA 2-AC (arXiv 2506.09985, equations 2-4); squared error and, for `online`
targets, gradients through both sides as PLDM (arXiv 2502.14819) and LeWM (arXiv 2603.19312).

V-JEPA 2-AC's own loss is `metric: l1`, `rollout_steps: 2`, `rollout_first: true`, with a frozen encoder's layer-normed
features on both sides (`detach: true`, `model.pooler.normalise` and `model.dynamics.normalise`). Its second imagined
state is predicted from z_1 and the imagined z_2 and compared with z_3, as its pull request 25 corrected; proprio is the
recorded one throughout.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jepa_actions.errors import ConfigError, DataError
from jepa_actions.models import LatentDynamics, WorldModel
from jepa_actions.objectives.views import Views


@dataclass(frozen=True)
class ForwardConfig:
    """Weight, schedule and form of the forward term."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    target: Literal["online", "stopgrad", "ema"] = "online"
    metric: Literal["l2", "l1"] = "l2"
    rollout: float = 1.0  # weight of the rollout beside teacher forcing; 0 switches it off
    rollout_steps: int = 0  # states imagined one from another, from the first frame on; 0: until the clip ends
    rollout_first: bool = False  # True counts the first of them again, which teacher forcing has (V-JEPA 2-AC)
    detach: bool = False  # True trains the dynamics alone and leaves the encoder

    def __post_init__(self) -> None:
        if self.rollout_steps < 0 or (self.rollout_steps == 1 and not self.rollout_first):
            raise ConfigError(
                f"objectives.forward.rollout_steps: found {self.rollout_steps}, expected 0 or at least 2 (one state is "
                "what teacher forcing has; objectives.forward.rollout 0 switches the rollout off)"
            )


class Forward:
    """Teacher forcing plus multi-step rollout on the batch's labelled steps."""

    def __init__(self, config: ForwardConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; logs the one-step error, the rollout's last error, and the error of copying the last latent."""
        config, dynamics = self.config, model.dynamics
        actions, mask = views.batch.actions, views.known_steps()  # the mask of all clips of the global batch
        assert dynamics is not None
        assert actions is not None
        z = views.z.detach() if config.detach else views.z
        target = views.z_target if config.target == "ema" else z
        if config.target == "stopgrad":
            target = target.detach()
        proprio = self._proprio(dynamics, views)
        if proprio is not None and views.whole.proprio_mask is not None:
            mask = mask * views.whole.proprio_mask[:, :-1].to(mask)
        one_step = self._error(dynamics(z[:, :-1], actions, proprio), target[:, 1:])  # (b, t-1)
        loss = views.mean(one_step, mask)
        copy = self._error(target[:, :-1], target[:, 1:])
        logs = {"one_step": loss.detach(), "copy_last": views.mean(copy, mask).detach()}
        start = (dynamics.config.history or 1) - 1  # the rollout starts once the history is full
        stop = z.shape[1] - 1 if config.rollout_steps == 0 else min(start + config.rollout_steps, z.shape[1] - 1)
        new = 0 if config.rollout_first else 1  # the first imagined state that counts
        if config.rollout > 0 and stop - start > new:
            past, ahead = slice(start), slice(start, stop)
            known = mask[:, ahead].cumprod(1)
            before, after = (None, None) if proprio is None else (proprio[:, past], proprio[:, ahead])
            cache = dynamics.start(z[:, past], actions[:, past], before)
            imagined = dynamics.rollout(z[:, start], actions[:, ahead], cache, after)
            error = self._error(imagined[:, new:], target[:, start + 1 + new : stop + 1])
            rollout = views.mean(error, known[:, new:])
            loss = loss + config.rollout * rollout
            logs["rollout_last"] = views.mean(error[:, -1], known[:, -1]).detach()
        return loss, logs

    def _proprio(self, dynamics: LatentDynamics, views: Views) -> Tensor | None:
        """Proprio at every frame but the last, where the dynamics reads it."""
        if not dynamics.config.proprio:
            return None
        proprio = views.batch.proprio
        if proprio is None or proprio.shape[-1] != dynamics.config.proprio:
            found = "none" if proprio is None else proprio.shape[-1]
            raise DataError(f"model.dynamics.proprio: expected {dynamics.config.proprio}, found {found} in the data")
        return proprio[:, :-1].to(views.z)

    def _error(self, a: Tensor, b: Tensor) -> Tensor:
        difference = a - b
        return (difference**2 if self.config.metric == "l2" else difference.abs()).mean((-2, -1))
