r"""Temporal distance from video alone: the largest distance under which no observed step is longer than one.

    max  E_{z, g of one scene} phi(d(z, g))     subject to     E relu(d(z_t, z_{t+1}) - 1)^2  <=  tolerance^2

With a quasimetric d the constraint bounds every pair by its shortest chain of observed steps, whichever episodes these
come from, and the maximum is that bound: the optimal time, not the behaviour's (Quasimetric RL, arXiv 2304.01203,
equations 9 to 12). phi saturates at `horizon` steps, so that pairs no chain connects do not grow for ever. The
constraint has a Lagrange multiplier, which follows it by gradient ascent.

The pairs must come from one scene (`data.scene_clips`), seen in several episodes: across scenes a distance only learns
to tell them apart.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.models import TemporalDistance, WorldModel
from jepa_actions.nn import gather_rows
from jepa_actions.objectives.scenes import scene_pairs
from jepa_actions.objectives.views import Views

SOFTNESS = 10.0  # phi's bend at the horizon is that many steps wide
REACH_QUANTILE, REACH_MOMENTUM = 0.99, 0.99


@dataclass(frozen=True)
class TemporalDistanceConfig:
    """Weight, schedule and form of the temporal distance."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    horizon: float = 25.0  # model steps at which longer stops paying
    tolerance: float = 0.1  # root mean square of what observed steps may be too long, in steps
    multiplier_speed: float = 10.0  # the multiplier's learning rate, as a multiple of the recipe's
    pairs: int = 4096  # drawn per step of training
    detach: bool = True  # True trains the distance alone and leaves the encoder

    def __post_init__(self) -> None:
        if self.horizon <= 0 or min(self.tolerance, self.multiplier_speed) <= 0 or self.pairs < 1:
            raise ConfigError(
                f"objectives.distance: found horizon {self.horizon}, tolerance {self.tolerance}, multiplier_speed "
                f"{self.multiplier_speed}, pairs {self.pairs}, "
                "expected numbers above 0"
            )


class TemporalDistanceObjective:
    """Quasimetric RL's objective on the latents of scenes; needs no action."""

    def __init__(self, config: TemporalDistanceConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; logs the mean distance of pairs and of observed steps, the violation and the multiplier."""
        config, distance = self.config, model.distance
        if distance is None:
            raise ConfigError("objectives.distance needs model.distance, found null")
        z = views.z.detach() if config.detach else views.z
        x = distance.embed(z)
        steps = distance.between(x[:, :-1], x[:, 1:])
        known, share = views.whole.real[:, 1:], views.share
        violation = views.mean(F.relu(steps - 1.0).square(), known)
        pairs = scene_pairs(views.whole, config.pairs, generator, share)
        first, second, _ = pairs.mine(share, views.whole.real.numel())
        rows = x.flatten(0, 1)
        far = distance.between(rows[first.to(x.device)], rows[second.to(x.device)])
        spread = SOFTNESS * share.mean(F.softplus((config.horizon - far) / SOFTNESS), config.pairs)
        excess = violation - config.tolerance**2
        weight = F.softplus(config.multiplier_speed * distance.multiplier + 0.5)
        loss = spread + weight.detach() * excess - weight * excess.detach()
        _follow_reach(distance, gather_rows(steps.detach())[known])
        logs = {"pairs": share.mean(far, config.pairs), "steps": views.mean(steps, known)}
        logs |= {"violation": violation, "multiplier": weight}
        return loss, {name: value.detach() for name, value in logs.items()}


@torch.no_grad()
def _follow_reach(distance: TemporalDistance, steps: Float[Tensor, "s"]) -> None:
    if distance.training and len(steps):
        exact = steps if steps.dtype == torch.float64 else steps.float()
        now = torch.quantile(exact[: 2**16], REACH_QUANTILE)
        distance.reach.lerp_(now.to(distance.reach), 1.0 - REACH_MOMENTUM)
