"""Inverse dynamics: which action a_t leads from z_t to z_{t+k}?"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.nn import Categorical, Distribution, Gaussian


@dataclass(frozen=True)
class InverseConfig:
    """Form and size of `InverseHead`."""

    kind: Literal["mlp"] = "mlp"
    width: int = 256
    max_gap: int = 1  # largest k between the two states; the head is told k
    distribution: Literal["gaussian", "categorical"] = "gaussian"
    bins: int = 21  # categorical only: bins per action dimension between the codec's bounds


class InverseHead(nn.Module):
    """q(a_t | z_t, z_{t+k}, k): the first action of a way from one state to another."""

    centres: Tensor

    def __init__(
        self,
        config: InverseConfig,
        latents: int,
        dim: int,
        action_dim: int,
        bounds: tuple[Float[Tensor, "a"], Float[Tensor, "a"]] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.action_dim = config, action_dim
        state = latents * dim
        self.gap = nn.Embedding(config.max_gap, config.width)
        self.fc_in = nn.Linear(2 * state, config.width)
        self.fc_hidden = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        if config.distribution == "categorical":
            if bounds is None:
                raise ConfigError("inverse.distribution categorical needs the codec's action bounds, found none")
            unit = torch.linspace(0, 1, config.bins)
            centres = bounds[0][:, None] + (bounds[1] - bounds[0])[:, None] * unit
            self.register_buffer("centres", centres)
            self.out = nn.Linear(config.width, action_dim * config.bins)
        else:
            self.out = nn.Linear(config.width, 2 * action_dim)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "b n d"], z_later: Float[Tensor, "b n d"], gap: Int[Tensor, "b"]
    ) -> Distribution:
        """Distribution over the model action taken at z.

        Args:
            z, z_later: latent states `gap` model steps apart.
            gap: k of every row, 1 to `max_gap`.
        """
        pair = torch.cat([z.flatten(1), (z_later - z).flatten(1)], dim=-1)
        x = F.gelu(self.fc_in(pair) + self.gap(gap - 1))
        x = self.norm(x + F.gelu(self.fc_hidden(x)))
        out = self.out(x)
        if self.config.distribution == "categorical":
            return Categorical(out.unflatten(-1, (self.action_dim, self.config.bins)), self.centres)
        return Gaussian(out)
