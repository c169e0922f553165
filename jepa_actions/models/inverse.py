"""Inverse dynamics: which action a_t leads from z_t to z_{t+k}?"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.data import ActionCodec
from jepa_actions.errors import ConfigError
from jepa_actions.models.motion import MotionConfig, MotionTrunk
from jepa_actions.nn import Categorical, Distribution, Gaussian, Mixed, OneHots, whole_rows


@dataclass(frozen=True)
class InverseConfig:
    """Form and size of `InverseHead`."""

    kind: Literal["mlp", "motion"] = "mlp"  # motion: for patch latents, matches patches between the two frames
    width: int = 256  # mlp
    max_gap: int = 1  # largest k between the two states; the mlp is told k, motion knows k = 1 alone
    distribution: Literal["gaussian", "categorical"] = "gaussian"
    bins: int = 21  # categorical only: bins per action dimension between the codec's bounds
    motion: MotionConfig = field(default_factory=MotionConfig)
    history: int = 1  # mlp: 2 also shows the state one model step before z, which tells its velocity

    def __post_init__(self) -> None:
        if self.history not in (1, 2) or (self.history == 2 and self.kind != "mlp"):
            raise ConfigError(
                f"inverse.history: found {self.history} with kind {self.kind}, expected 1, or 2 with kind mlp"
            )
        if self.kind == "motion" and (self.distribution != "gaussian" or self.max_gap != 1):
            raise ConfigError(
                "inverse: kind motion needs distribution gaussian and max_gap 1, "
                f"found {self.distribution} and {self.max_gap}"
            )


class InverseHead(nn.Module):
    """q(a_t | z_t, z_{t+k}, k): the first action of a way from one state to another.

    Discrete dimensions of the codec are choices among their classes (`nn.OneHots`), whatever the distribution of the
    others; both together are an `nn.Mixed`.

    Args:
        config: form and size.
        latents, dim: N and D of a state.
        codec: gives the width of a model action, its one-hots, its bounds (categorical) and what "no motion" is
            (motion).
        grid, cameras: how patch latents lie in the picture; motion only.

    Raises:
        ConfigError: if motion is asked for latents that are not the patches of the grid, or for discrete actions.
    """

    centres: Tensor
    rest: Tensor
    rest_at: Tensor
    hot_at: Tensor

    def __init__(
        self,
        config: InverseConfig,
        latents: int,
        dim: int,
        codec: ActionCodec,
        *,
        grid: tuple[int, int] = (1, 1),
        cameras: int = 1,
    ) -> None:
        super().__init__()
        self.config, self.action_dim = config, codec.action_dim
        self.classes = tuple(count for _, count in codec.discrete)
        hot = [place for start, count in codec.discrete for place in range(start, start + count)]
        rest = [place for place in range(codec.action_dim) if place not in set(hot)]
        self.register_buffer("hot_at", torch.tensor(hot, dtype=torch.int64), persistent=False)
        self.register_buffer("rest_at", torch.tensor(rest, dtype=torch.int64), persistent=False)
        if config.kind == "motion":
            if self.classes:
                names = ", ".join(name for name, k in zip(codec.names, codec.scaling.classes, strict=True) if k)
                raise ConfigError(
                    f"inverse.kind motion: found discrete actions ({names}), expected numbers: exchanging the frames "
                    "negates its answer, and a class has no negative (kind mlp takes both)"
                )
            if latents != grid[0] * grid[1] * cameras:
                raise ConfigError(
                    f"inverse.kind motion needs all patches as latents (pooler.kind patches): expected "
                    f"{grid[0] * grid[1] * cameras}, found {latents}"
                )
            self.trunk: nn.Module = MotionTrunk(config.motion, dim, self.action_dim, grid, cameras)
            self.log_std = nn.Parameter(torch.zeros(self.action_dim))
            still = codec.encode(codec.still())
            self.register_buffer("rest", still if config.motion.antisymmetric else torch.zeros_like(still))
            return
        width = len(rest) * (config.bins if config.distribution == "categorical" else 2)
        if config.distribution == "categorical":
            bounds = codec.model_bounds
            unit = torch.linspace(0, 1, config.bins)
            low, high = bounds.low[rest], bounds.high[rest]
            self.register_buffer("centres", low[:, None] + (high - low)[:, None] * unit)
        self.trunk = PairMlp(config, latents * dim, width + len(hot))

    def forward(
        self,
        z: Float[Tensor, "b n d"],
        z_later: Float[Tensor, "b n d"],
        gap: Int[Tensor, "b"],
        before: Float[Tensor, "b n d"] | None = None,
    ) -> Distribution:
        """Distribution over the model action taken at z.

        Args:
            z, z_later: latent states `gap` model steps apart.
            gap: k of every row, 1 to `max_gap`.
            before: with history 2, the state one model step before z; None, or z itself, where it is not known.
        """
        if self.config.kind == "motion":
            mean = self.rest + self.trunk(z, z_later)
            return Gaussian(torch.cat([mean, self.log_std.expand_as(mean)], dim=-1))
        out = self.trunk(z, z_later, gap, before)
        if not self.classes:
            return self._numbers(out)
        numbers, logits = out.split([out.shape[-1] - len(self.hot_at), len(self.hot_at)], dim=-1)
        hot = OneHots(logits, self.classes)
        return Mixed(self._numbers(numbers), hot, self.rest_at, self.hot_at) if len(self.rest_at) else hot

    def _numbers(self, out: Float[Tensor, "b o"]) -> Distribution:
        if self.config.distribution == "categorical":
            return Categorical(out.unflatten(-1, (len(self.rest_at), self.config.bins)), self.centres)
        return Gaussian(out)


class PairMlp(nn.Module):
    """Two states and their distance in steps -> numbers."""

    def __init__(self, config: InverseConfig, state: int, out_dim: int) -> None:
        super().__init__()
        self.gap = nn.Embedding(config.max_gap, config.width)
        self.fc_in = nn.Linear(3 * state, config.width)
        self.before_in = nn.Linear(state, config.width, bias=False) if config.history == 2 else None
        self.fc_hidden = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, out_dim)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        z: Float[Tensor, "b n d"],
        z_later: Float[Tensor, "b n d"],
        gap: Int[Tensor, "b"],
        before: Float[Tensor, "b n d"] | None = None,
    ) -> Float[Tensor, "b o"]:
        rows = len(z)
        if not self.training:  # one decision rounds as it does among many
            z, z_later, gap = whole_rows(z), whole_rows(z_later), whole_rows(gap)
            before = None if before is None else whole_rows(before)
        change = (z_later - z).flatten(1)
        # What moves is at first a thousandth of what stands still; without its direction at full size the head learns
        # nothing for thousands of steps, and the encoder keeps the scene and forgets the agent.
        direction = F.layer_norm(change, change.shape[-1:], eps=1e-8)
        pair = torch.cat([z.flatten(1), change, direction], dim=-1)
        x = self.fc_in(pair) + self.gap(gap - 1)
        if self.before_in is not None and before is not None:
            x = x + self.before_in((z - before).flatten(1))
        x = F.gelu(x)
        x = self.norm(x + F.gelu(self.fc_hidden(x)))
        out: Tensor = self.out(x)[:rows]
        return out
