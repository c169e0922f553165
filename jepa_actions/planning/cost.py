"""How far an imagined rollout ends, or stays, from a goal in latent space."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.planning.problem import Latents, Target

METRICS = ("l2", "l1", "cosine")
REDUCTIONS = ("last", "sum")


@dataclass(frozen=True)
class LatentCost:
    """Distance of imagined latents to the goal's latent.

    `l2` is the mean squared and `l1` the mean absolute difference over tokens and channels; `cosine` is one minus the
    cosine over channels, averaged over tokens. `last` looks at the last step only (DINO-WM, LeWM); `sum` adds all steps
    (PLDM), so that arriving early is cheaper than arriving just in time.

    Raises: ConfigError for another metric or reduction.
    """

    metric: str = "l2"
    reduce: str = "last"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"LatentCost.metric: found {self.metric!r}, expected one of {', '.join(METRICS)}")
        if self.reduce not in REDUCTIONS:
            raise ConfigError(f"LatentCost.reduce: found {self.reduce!r}, expected one of {', '.join(REDUCTIONS)}")

    def __call__(self, rollout: Latents, goal: Target) -> Float[Tensor, "p s"]:
        """Cost of every candidate, (P, S). Raises ShapeError when rollout and goal do not fit each other."""
        z, target = rollout.z, goal.z
        if z.ndim != 5 or target.ndim != 3 or (z.shape[0], *z.shape[3:]) != tuple(target.shape):
            raise ShapeError(
                f"LatentCost: found rollout z {tuple(z.shape)} and goal z {tuple(target.shape)}, "
                "expected (p, s, h, n, d) and (p, n, d)"
            )
        if self.reduce == "last":
            z = z[:, :, -1:]
        return self._distance(z, target[:, None, None]).sum(dim=2)

    def _distance(self, z: Float[Tensor, "p s h n d"], target: Float[Tensor, "p 1 1 n d"]) -> Float[Tensor, "p s h"]:
        if self.metric == "cosine":
            return 1 - torch.nn.functional.cosine_similarity(z, target, dim=-1).mean(dim=-1)
        difference = z - target
        return (difference.square() if self.metric == "l2" else difference.abs()).mean(dim=(-2, -1))
