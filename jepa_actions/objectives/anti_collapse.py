r"""Terms that keep latents from collapsing, behind one interface; each looks at the latents of all processes.

- SIGReg (LeJEPA, arXiv 2511.08544): random one-dimensional projections of z should be standard normal. The
  Epps-Pulley statistic compares their empirical characteristic function with exp(-t^2 / 2):
      L = n * mean_u  int | mean_j exp(i t u.z_j) - exp(-t^2/2) |^2 exp(-t^2/2) dt,   over n
- VICReg (arXiv 2105.04906, equations 1-4): hinge on each dimension's std, squared off-diagonal covariances.
- Temporal similarity (PLDM, arXiv 2502.14819): consecutive latents should be close.
A stop-gradient EMA target is the fourth choice: `forward.target: ema`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.models import WorldModel
from jepa_actions.nn import gather_rows
from jepa_actions.objectives.views import Views


@dataclass(frozen=True)
class SigRegConfig:
    """Weight, schedule and resolution of SIGReg."""

    weight: float = 0.1
    start: float = 0.0
    stop: float = 1.0
    directions: int = 256  # random projections drawn at each step
    knots: int = 17  # points of the integral over t in [0, t_max]
    t_max: float = 3.0


@dataclass(frozen=True)
class VicRegConfig:
    """Weights of VICReg's variance and covariance terms."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    std: float = 16.0
    cov: float = 8.0
    target_std: float = 1.0


@dataclass(frozen=True)
class TemporalSimilarityConfig:
    """Weight and schedule of the temporal similarity term."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0


class SigReg:
    """Sketched isotropic Gaussian regularisation of the latents."""

    def __init__(self, config: SigRegConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean statistic over random directions; every latent token of every frame is a sample."""
        loss = sigreg(_samples(views), self.config, generator)
        return loss, {"loss": loss.detach()}


def sigreg(x: Float[Tensor, "n d"], config: SigRegConfig, generator: torch.Generator) -> Float[Tensor, ""]:
    """Epps-Pulley distance of random projections of x from a standard normal, divided by n (scale-free in n)."""
    directions = torch.randn(x.shape[1], config.directions, generator=generator).to(x)
    directions = directions / directions.norm(dim=0)
    t = torch.linspace(0, config.t_max, config.knots, device=x.device, dtype=x.dtype)
    target = torch.exp(-0.5 * t**2)
    angles = (x @ directions)[..., None] * t  # (n, directions, knots)
    real, imaginary = angles.cos().mean(0), angles.sin().mean(0)
    error = (real - target) ** 2 + imaginary**2
    return 2.0 * torch.trapezoid(error * target, t, dim=-1).mean()  # even in t: twice the positive half


class VicReg:
    """Variance and covariance terms on the latents."""

    def __init__(self, config: VicRegConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """std * hinge + cov * mean squared off-diagonal covariance."""
        hinge, cov = vicreg(_samples(views), self.config.target_std)
        return self.config.std * hinge + self.config.cov * cov, {"std": hinge.detach(), "cov": cov.detach()}


def vicreg(x: Float[Tensor, "n d"], target_std: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean hinge(target_std - std) over dimensions, and the mean squared covariance over pairs of dimensions."""
    n, d = x.shape
    centred = x - x.mean(0)
    std = (centred.var(0) + 1e-4).sqrt()
    cov = centred.T @ centred / (n - 1)
    off_diagonal = cov.square().sum() - cov.diagonal().square().sum()
    return (target_std - std).clamp(min=0).mean(), off_diagonal / max(d * (d - 1), 1)


class TemporalSimilarity:
    """Mean squared distance of consecutive latents."""

    def __init__(self, config: TemporalSimilarityConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        steps = (views.z[:, 1:] - views.z[:, :-1]).square().mean((-2, -1))
        loss = views.mean(steps, views.whole.real[:, 1:])
        return loss, {"loss": loss.detach()}


def _samples(views: Views) -> Float[Tensor, "n d"]:
    """Every latent token of all processes; a frame that pads a short clip counts again."""
    return gather_rows(views.z).flatten(0, 2)
