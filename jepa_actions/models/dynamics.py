"""Action-conditioned prediction of the next latent: z_<=t, a_<=t -> z_{t+1}."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.nn import Block, Rotary, init_transformer, rotary_table
from jepa_actions.nn.transformer import KeyValue


@dataclass(frozen=True)
class DynamicsConfig:
    """Form and size of `LatentDynamics`."""

    kind: Literal["mlp", "transformer"] = "mlp"
    width: int = 256
    depth: int = 2
    heads: int = 4  # transformer only
    history: int = 1  # latent states a prediction may look at; the MLP needs 1


class Cache(NamedTuple):
    """What a rollout remembers: per layer the keys and values of past frames, and how many frames have passed."""

    layers: tuple[KeyValue, ...]
    frames: int

    def expand(self, copies: int) -> "Cache":
        """The same past for `copies` candidates of every problem: batch p becomes p * copies."""
        layers = tuple(
            KeyValue(kv.key.repeat_interleave(copies, 0), kv.value.repeat_interleave(copies, 0)) for kv in self.layers
        )
        return Cache(layers, self.frames)


class LatentDynamics(nn.Module):
    """Predicts the next latent state; every prediction is the present state plus a learned change.

    `forward` is teacher forcing over a sequence; `step` advances one frame with a cache; a rollout of `step` equals
    repeated single steps by construction, and `forward` on the same latents (tested).
    """

    def __init__(self, config: DynamicsConfig, latents: int, dim: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.latents, self.dim, self.action_dim = config, latents, dim, action_dim
        if config.kind == "mlp":
            if config.history != 1:
                raise ConfigError(
                    f"dynamics.kind mlp sees one state: expected dynamics.history 1, found {config.history}"
                )
            state = latents * dim
            self.state_in = nn.Linear(state, config.width)
            self.action_in = nn.Linear(action_dim, config.width)
            self.hidden = nn.ModuleList([nn.Linear(config.width, config.width) for _ in range(config.depth - 1)])
            self.norm = nn.LayerNorm(config.width)
            self.out = nn.Linear(config.width, state)
        else:
            self.latent_in = nn.Linear(dim, config.width)
            self.action_in = nn.Linear(action_dim, config.width)
            self.slots = nn.Parameter(torch.randn(latents + 1, config.width) * 0.02)
            self.blocks = nn.ModuleList([Block(config.width, config.heads) for _ in range(config.depth)])
            self.norm = nn.LayerNorm(config.width, eps=1e-6)
            self.out = nn.Linear(config.width, dim)
            init_transformer(self.blocks)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Float[Tensor, "b t n d"], actions: Float[Tensor, "b t a"]) -> Float[Tensor, "b t n d"]:
        """Teacher forcing: out[:, i] predicts the state after actions[:, i] from what is known up to then."""
        if self.config.kind == "mlp":
            return self._mlp(z, actions)
        if self.config.history == 1 and z.shape[1] > 1:  # no frame looks at another: frames are a batch
            one = self.forward(z.flatten(0, 1)[:, None], actions.flatten(0, 1)[:, None])
            unfolded: Tensor = one[:, 0].unflatten(0, z.shape[:2])
            return unfolded
        x, rotary = self._tokens(z, actions, first=0)
        x = x.flatten(1, 2)
        mask = self._causal_mask(z.shape[1], z.device) if z.shape[1] > 1 else None
        for block in self.blocks:
            x = block(x, rotary, mask)
        return self._read(x, z)

    def start(self, z: Float[Tensor, "b t n d"], actions: Float[Tensor, "b t a"]) -> Cache:
        """Take in past states and the actions that followed them (t may be 0); the present state is not among them."""
        cache = Cache((), 0)
        for i in range(z.shape[1] if self.config.kind == "transformer" else 0):
            _, cache = self.step(z[:, i], actions[:, i], cache)
        return cache

    def step(
        self, z: Float[Tensor, "b n d"], action: Float[Tensor, "b a"], cache: Cache
    ) -> tuple[Float[Tensor, "b n d"], Cache]:
        """One frame onward: the state after `action`, and the cache with the present frame added."""
        if self.config.kind == "mlp":
            return self._mlp(z, action), cache
        tokens, rotary = self._tokens(z[:, None], action[:, None], first=cache.frames)
        x = tokens.flatten(1, 2)
        keep = (self.config.history - 1) * (self.latents + 1)
        layers = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, present = block.cached(x, rotary, None, cache.layers[i] if cache.layers else None)
            layers.append(KeyValue(present.key[:, :, -keep:], present.value[:, :, -keep:]) if keep else None)
        kept = tuple(layer for layer in layers if layer is not None)
        return self._read(x, z[:, None])[:, 0], Cache(kept, cache.frames + 1)

    def rollout(
        self, z: Float[Tensor, "b n d"], actions: Float[Tensor, "b h a"], cache: Cache | None = None
    ) -> Float[Tensor, "b h n d"]:
        """Imagine h steps from the present state; out[:, i] is the state after actions[:, i]."""
        cache = Cache((), 0) if cache is None else cache
        states = []
        for i in range(actions.shape[1]):
            z, cache = self.step(z, actions[:, i], cache)
            states.append(z)
        return torch.stack(states, dim=1)

    def _mlp(self, z: Tensor, action: Tensor) -> Tensor:
        x = F.gelu(self.state_in(z.flatten(-2)) + self.action_in(action))
        for layer in self.hidden:
            x = F.gelu(layer(x))
        out: Tensor = z + self.out(self.norm(x)).unflatten(-1, (self.latents, self.dim))
        return out

    def _tokens(self, z: Tensor, actions: Tensor, first: int) -> tuple[Tensor, Rotary]:
        """Tokens [action, latents] of every step `(b, t, 1 + n, width)` and their rotary angles over time alone."""
        steps = z.shape[1]
        x = torch.cat([self.action_in(actions)[:, :, None], self.latent_in(z)], dim=2) + self.slots
        time = torch.arange(first, first + steps, device=z.device).repeat_interleave(self.latents + 1)[:, None]
        return x, rotary_table(time, self.config.width // self.config.heads, tiled=False)

    def _causal_mask(self, steps: int, device: torch.device) -> Tensor:
        """A token sees the tokens of its own frame and of the `history - 1` frames before."""
        frame = torch.arange(steps, device=device).repeat_interleave(self.latents + 1)
        age = frame[:, None] - frame[None, :]
        return (age >= 0) & (age < self.config.history)

    def _read(self, x: Tensor, z: Tensor) -> Tensor:
        tokens = x.unflatten(1, (z.shape[1], self.latents + 1))[:, :, 1:]
        out: Tensor = z + self.out(self.norm(tokens))
        return out
