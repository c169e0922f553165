"""Temporal distance: in how few model steps can one state be reached from another?"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.nn import metric_residual, whole_rows


@dataclass(frozen=True)
class DistanceConfig:
    """Form and size of `TemporalDistance`."""

    width: int = 256
    depth: int = 2  # hidden layers
    directed: int = 64  # channels of the part that may differ by direction
    symmetric: int = 32  # channels of the Euclidean part
    # Random Fourier features of z beside z itself: both sides of a wall look nearly alike and are far apart, and an MLP
    # on smooth latents takes very long to learn so sharp an edge (arXiv 2006.10739; of values, 2206.04672). 0: none.
    fourier: int = 0
    frequency: float = 0.15  # standard deviation of their frequencies, per channel of z, in turns per unit

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.directed, self.symmetric) < 1:
            raise ConfigError(
                f"distance: found width {self.width}, depth {self.depth}, directed {self.directed}, "
                f"symmetric {self.symmetric}, expected at least 1 each"
            )
        if self.fourier < 0 or self.frequency <= 0:
            raise ConfigError(
                f"distance: found fourier {self.fourier} and frequency {self.frequency}, expected a number of features "
                "and a frequency above 0"
            )


class TemporalDistance(nn.Module):
    """d(z, z_goal) in model steps, a quasimetric on a learned embedding of latent states.

    `reach` is how far one real model step leads at most, in the unit of d: the 99th percentile over training, which a
    planner holds imagined steps against. `multiplier` belongs to the objective that trains it.

    Args:
        config: form and size.
        latents, dim: N and D of a state.
    """

    reach: Tensor
    frequencies: Tensor
    phases: Tensor

    def __init__(self, config: DistanceConfig, latents: int, dim: int) -> None:
        super().__init__()
        self.config = config
        sizes = [latents * dim + config.fourier, *[config.width] * config.depth]
        self.hidden = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.norms = nn.ModuleList([nn.LayerNorm(config.width) for _ in range(config.depth)])
        self.out = nn.Linear(config.width, config.directed + config.symmetric)
        self.multiplier = nn.Parameter(torch.zeros(()))
        self.register_buffer("reach", torch.ones(()))
        if config.fourier:
            turns = config.frequency * torch.randn(latents * dim, config.fourier)
            self.register_buffer("frequencies", 2 * math.pi * turns)
            self.register_buffer("phases", 2 * math.pi * torch.rand(config.fourier))

    def embed(self, z: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b e"]:
        """What distances are taken between."""
        shape = z.shape[:-2]
        x = z.reshape(-1, z.shape[-2] * z.shape[-1])
        if not self.training:  # one pair rounds as it does among many
            x = whole_rows(x)
        if self.config.fourier:
            x = torch.cat([x, math.sqrt(2) * torch.sin(x @ self.frequencies + self.phases)], dim=-1)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = norm(F.gelu(layer(x)))
        out: Tensor = self.out(x)
        return out[: shape.numel()].view(*shape, -1)

    def between(self, x: Float[Tensor, "*b e"], y: Float[Tensor, "*b e"]) -> Float[Tensor, "*b"]:
        """Distance from one embedding to another, at least 0."""
        return metric_residual(x, y, self.config.directed)

    def forward(self, z: Float[Tensor, "*b n d"], z_goal: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b"]:
        """Model steps from z to z_goal."""
        return self.between(self.embed(z), self.embed(z_goal))
