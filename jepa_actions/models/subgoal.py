"""Where to be next on the way to a goal: imagined from video alone, for the inverse head to read an action off."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.nn import whole_rows


@dataclass(frozen=True)
class SubgoalConfig:
    """Form and size of `SubgoalHead`."""

    width: int = 256
    depth: int = 2  # hidden layers


class SubgoalHead(nn.Module):
    """f(z, z_goal): the latent one model step ahead on a way to z_goal.

    Args:
        config: form and size.
        latents, dim: N and D of a state.
    """

    def __init__(self, config: SubgoalConfig, latents: int, dim: int) -> None:
        super().__init__()
        state, width = latents * dim, config.width
        self.fc_in = nn.Linear(2 * state, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(config.depth - 1)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(config.depth)])
        self.out = nn.Linear(width, state)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Float[Tensor, "b n d"], z_goal: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """The next latent."""
        pair = torch.cat([z.flatten(-2), (z_goal - z).flatten(-2)], dim=-1)
        if not self.training:  # one decision rounds as it does among many
            pair = whole_rows(pair)
        x = self.norms[0](F.gelu(self.fc_in(pair)))
        for layer, norm in zip(self.hidden, list(self.norms)[1:], strict=True):
            x = norm(x + F.gelu(layer(x)))
        out: Tensor = z + self.out(x)[: len(z)].view_as(z)
        return out
