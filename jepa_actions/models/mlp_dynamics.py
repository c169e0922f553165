"""Dynamics without attention: the present state, what changed before it, and the action through a few layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.models.latent_dynamics import Conditions, DynamicsConfig, LatentDynamics, per_candidate
from jepa_actions.models.rollout_cache import Cache


class MlpDynamics(LatentDynamics):
    """Sees all tokens of the present state side by side and, with a history, how they differ from those before.

    Arguments as `LatentDynamics`.
    """

    def __init__(self, config: DynamicsConfig, latents: int, dim: int, action_dim: int) -> None:
        super().__init__(config, latents, dim, action_dim)
        state = latents * dim
        self.past = (config.reach or 1) - 1  # states before the present that are looked at
        self.state_in = nn.Linear(state, config.width)
        self.action_in = nn.Linear(action_dim, config.width)
        self.past_in = nn.Linear(self.past * state, config.width, bias=False) if self.past else None
        self.hidden = nn.ModuleList([nn.Linear(config.width, config.width) for _ in range(config.depth - 1)])
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, state)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        z: Float[Tensor, "b t n d"],
        actions: Float[Tensor, "b t a"],
        proprio: Float[Tensor, "b t p"] | None = None,
        extrinsics: Float[Tensor, "b t e"] | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """See `LatentDynamics.forward`."""
        self.checked(z, Conditions(actions, proprio, extrinsics))
        return self._next(z, actions, self._history(z))

    def start(
        self,
        z: Float[Tensor, "b t n d"],
        actions: Float[Tensor, "b t a"],
        proprio: Float[Tensor, "b t p"] | None = None,
        extrinsics: Float[Tensor, "b t e"] | None = None,
    ) -> Cache:
        """See `LatentDynamics.start`."""
        self.checked(z, Conditions(actions, proprio, extrinsics))
        return Cache((), z.shape[1], self._kept(z))

    def step(
        self,
        z: Float[Tensor, "b n d"],
        action: Float[Tensor, "b a"],
        cache: Cache,
        proprio: Float[Tensor, "b p"] | None = None,
        extrinsics: Float[Tensor, "b e"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Cache]:
        """See `LatentDynamics.step`."""
        self.checked(z[:, None], Conditions(action, proprio, extrinsics).each(lambda x: x[:, None]))
        past = self._past(z, cache)
        later = None if past is None else torch.cat([past[:, 1:], z[:, None]], dim=1)
        return self._next(z, action, past), Cache((), cache.frames + 1, later)

    def imagine(
        self,
        z: Float[Tensor, "p n d"],
        actions: Float[Tensor, "p s h a"],
        cache: Cache | None = None,
        proprio: Float[Tensor, "p s h r"] | None = None,
        extrinsics: Float[Tensor, "p s h e"] | None = None,
    ) -> Float[Tensor, "p s h n d"]:
        """See `LatentDynamics.imagine`."""
        candidates, horizon = actions.shape[1:3]
        paths = Conditions(actions, proprio, extrinsics).each(lambda x: x.flatten(0, 1))
        self.checked(z[:, None, None].expand(-1, candidates, horizon, -1, -1).flatten(0, 1), paths)
        past = self._past(z, cache)
        past = None if past is None else per_candidate(past, len(paths.actions))
        z, states = per_candidate(z, len(paths.actions)), []
        for i in range(horizon):
            before, z = z, self._next(z, paths.actions[:, i], past)
            past = None if past is None else torch.cat([past[:, 1:], before[:, None]], dim=1)
            states.append(z)
        imagined: Tensor = torch.stack(states, dim=1).unflatten(0, (-1, candidates))
        return imagined

    def _next(self, z: Tensor, action: Tensor, past: Tensor | None) -> Tensor:
        x = self.state_in(z.flatten(-2)) + self.action_in(action)
        if past is not None and self.past_in is not None:
            x = x + self.past_in((z.unsqueeze(-3) - past).flatten(-3))
        x = F.gelu(x)
        for layer in self.hidden:
            x = F.gelu(layer(x))
        return self.normalised(z + self.out(self.norm(x)).unflatten(-1, (self.latents, self.dim)))

    def _history(self, z: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t k n d"] | None:
        """The states before each, the latest last; before the first one it stood still."""
        if not self.past:
            return None
        padded = torch.cat([z[:, :1].expand(-1, self.past, -1, -1), z], dim=1)
        return torch.stack([padded[:, i : i + z.shape[1]] for i in range(self.past)], dim=2)

    def _kept(self, z: Float[Tensor, "b t n d"]) -> Float[Tensor, "b k n d"] | None:
        """Of past states what the next step looks at."""
        frames = z.shape[1]
        if not self.past or not frames:
            return None
        return torch.cat([z[:, :1].expand(-1, max(self.past - frames, 0), -1, -1), z[:, -self.past :]], dim=1)

    def _past(self, z: Float[Tensor, "b n d"], cache: Cache | None) -> Float[Tensor, "b k n d"] | None:
        if not self.past:
            return None
        return z[:, None].expand(-1, self.past, -1, -1) if cache is None or cache.states is None else cache.states
