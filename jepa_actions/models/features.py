"""What every patch of a frame looks like, told from its latent state: a readout that forgets nothing of the scene."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.nn import sum_over_processes

MOMENTUM = 0.01  # of the running statistics, once as many batches have been seen as that takes


@dataclass(frozen=True)
class FeaturesConfig:
    """Form and size of `FeatureHead`."""

    width: int = 256
    rank: int = 16  # channels in which a patch's features are told

    def __post_init__(self) -> None:
        if min(self.width, self.rank) < 1:
            raise ConfigError(f"features: found width {self.width} and rank {self.rank}, expected at least 1 each")


class FeatureHead(nn.Module):
    """Predicts the encoder's patch features from the latent state. Used in training only; no pixel is predicted.

    The features are standardised: from each place its own mean is taken, over all places each channel is divided by its
    standard deviation. What is always there (a frame around the picture) then weighs nothing.

    Args:
        config: form and size.
        latents, dim: N and D of a state.
        places: patches of all cameras.
        channels: of a patch token.
    """

    mean: Tensor
    var: Tensor
    seen: Tensor

    def __init__(self, config: FeaturesConfig, latents: int, dim: int, places: int, channels: int) -> None:
        super().__init__()
        self.places, self.rank = places, config.rank
        self.fc_in = nn.Linear(latents * dim, config.width)
        self.fc = nn.Linear(config.width, config.width)
        self.norms = nn.ModuleList([nn.LayerNorm(config.width) for _ in range(2)])
        self.patches = nn.Linear(config.width, places * config.rank)
        self.out = nn.Linear(config.rank, channels)
        self.register_buffer("mean", torch.zeros(places, channels))
        self.register_buffer("var", torch.ones(channels))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, z: Float[Tensor, "b n d"]) -> Float[Tensor, "b p c"]:
        """Standardised features of every patch."""
        x = self.norms[0](F.gelu(self.fc_in(z.flatten(1))))
        x = self.norms[1](F.gelu(self.fc(x)))
        out: Tensor = self.out(self.patches(x).unflatten(-1, (self.places, self.rank)))
        return out

    @torch.no_grad()
    def standardised(self, tokens: Float[Tensor, "b p c"], total: int | None = None) -> Float[Tensor, "b p c"]:
        """Targets, by running statistics of all processes; in training these follow the batch first.

        Processes may hold different numbers of frames: together `total`; None: these are all.
        """
        tokens = tokens.to(self.mean.dtype)
        if self.training:
            total = len(tokens) if total is None else total
            mean = sum_over_processes(tokens.sum(0)) / total
            self.seen += 1
            weight = (1.0 / self.seen).clamp(min=MOMENTUM)
            self.mean.lerp_(mean, weight)
            var = sum_over_processes((tokens - self.mean).square().sum((0, 1))) / (total * self.places)
            self.var.lerp_(var, weight)
        return (tokens - self.mean) / (self.var + 1e-6).sqrt()
