r"""Nothing small is forgotten: the latent state must tell what the encoder saw in every patch.

    L = mean | f(z_t) - standardised(tokens_t) |^2

The readout that makes z out of patch tokens keeps what its losses ask for. Inverse and forward losses ask for what
moves; a door that stands in its place in a whole episode explains no step of it, and an attentive pooler loses it, yet
the way to a goal leads through it. The features are the encoder's own, without gradient: nothing is decoded to pixels.
Meant for a frozen encoder; one that trains beside it moves the target, and this term does not hold it from collapse.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.nn import sum_over_processes
from jepa_actions.objectives.views import Views


@dataclass(frozen=True)
class FeaturesLossConfig:
    """Weight, schedule and number of frames of the term."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    frames: int = 512  # drawn per step of training, from the clips of all processes


class Features:
    """Prediction of every patch's features from the latent state of the same frame."""

    def __init__(self, config: FeaturesLossConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; logs it and the share of the features' variance that is explained.

        Raises:
            ConfigError: without `model.features`, or where the pooler is frozen and z itself is cached.
        """
        head = model.features
        if head is None:
            raise ConfigError("objectives.features needs model.features, found null")
        if views.batch.z is not None:
            raise ConfigError("objectives.features trains the pooler, found it frozen (train.freeze) and z cached")
        known, share = views.whole.real_on_host.flatten(), views.share
        drawn = known.nonzero()[:, 0]
        drawn = drawn[torch.randperm(len(drawn), generator=generator)[: self.config.frames]]
        low, high = share.bounds(len(known))
        z = views.z.flatten(0, 1)
        rows = (drawn[(drawn >= low) & (drawn < high)] - low).to(z.device)
        frames = [views.tokens[camera].flatten(0, 1)[rows] for camera in model.config.cameras]
        target = head.standardised(torch.cat(frames, dim=1).detach(), len(drawn))
        loss = share.mean((head(z[rows]) - target).square(), len(drawn))
        size = sum_over_processes(share.mean(target.square(), len(drawn))) / share.of
        explained = 1.0 - loss.detach() / size.clamp(min=1e-8)
        return loss, {"loss": loss.detach(), "explained": explained}
