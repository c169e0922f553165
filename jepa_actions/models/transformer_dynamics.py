"""Dynamics with attention: frames of tokens, each with its action, looked at block by block in time."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.models.frame_block import FrameBlock, FrameLayout
from jepa_actions.models.latent_dynamics import Conditions, DynamicsConfig, LatentDynamics, per_candidate
from jepa_actions.models.rollout_cache import Cache, CandidateMemory, join, latest
from jepa_actions.nn import BlockCausal, Rotary, attention, init_transformer
from jepa_actions.nn.transformer import KeyValue

Through = Callable[[int, FrameBlock, Tensor, Rotary, Tensor | None], Tensor]  # one layer: number, block, x, ...


class TransformerDynamics(LatentDynamics):
    """Kinds `transformer`, which predicts a change of the present state, and `ac`, which predicts the next one.

    Args:
        config, latents, dim, action_dim: as `LatentDynamics`.
        grid: rows and columns of the patches of one camera, where latents are patches. `ac` needs it; AdaLN without it
            learns a place per latent.
        cameras: how many such grids lie side by side in N.

    Raises:
        ConfigError: for latents that are not the patches of the grid, or heads too narrow for three rotary axes.
    """

    def __init__(
        self,
        config: DynamicsConfig,
        latents: int,
        dim: int,
        action_dim: int,
        *,
        grid: tuple[int, int] | None = None,
        cameras: int = 1,
    ) -> None:
        super().__init__(config, latents, dim, action_dim)
        width, adaln, published = config.width, config.conditioning == "adaln", config.kind == "ac"
        conditions = 0 if adaln else 1 + (config.proprio > 0) + (config.extrinsics > 0)
        self.layout = _layout(config, self.latents, conditions, grid, cameras)
        self.latent_in = nn.Linear(self.dim, width)
        self.action_in = nn.Linear(self.action_dim, width)
        self.slots = None
        if self.layout.row is None:  # nothing else says which latent is which
            self.slots = nn.Parameter(torch.randn(self.layout.tokens, width) * 0.02)
        self.blocks = nn.ModuleList([FrameBlock(width, config.heads, modulated=adaln) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, self.dim)
        init_transformer(self.blocks)
        for norm in [self.norm, *(part for block in self._blocks for part in (block.norm1, block.norm2))]:
            norm.eps = config.norm_eps
        self.proprio_in = nn.Linear(config.proprio, width) if config.proprio else None
        self.extrinsics_in = nn.Linear(config.extrinsics, width) if config.extrinsics else None
        for block in self._blocks:
            if block.modulation is not None:
                nn.init.zeros_(block.modulation.weight)
        for layer in (self.latent_in, self.action_in, self.proprio_in, self.extrinsics_in) if published else ():
            if layer is not None:
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
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
        given = self.checked(z, Conditions(actions, proprio, extrinsics))
        folded = self.config.reach == 1 and not self.layout.tiled  # no frame looks at another: frames are a batch
        mask = None if folded else BlockCausal(self.layout.tokens, self.config.reach)
        inputs = (z.flatten(0, 1)[:, None], given.each(lambda x: x.flatten(0, 1)[:, None])) if folded else (z, given)
        out = self._predict(*inputs, 0, lambda _, block, x, rotary, condition: block(x, rotary, mask, condition))
        return out.view_as(z)

    def start(
        self,
        z: Float[Tensor, "b t n d"],
        actions: Float[Tensor, "b t a"],
        proprio: Float[Tensor, "b t p"] | None = None,
        extrinsics: Float[Tensor, "b t e"] | None = None,
    ) -> Cache:
        """See `LatentDynamics.start`."""
        given, frames = self.checked(z, Conditions(actions, proprio, extrinsics)), z.shape[1]
        if frames == 0:
            return Cache((), 0)
        reach, tokens = self.config.reach, self.layout.tokens
        if reach == 1:
            return Cache((), frames)
        mask = BlockCausal(tokens, reach)
        layers: list[KeyValue] = []
        x, condition = self._embed(z, given)
        rotary = self.layout.rotary(0, frames, self.config.width // self.config.heads, x.device)
        for block in self._blocks:
            change = block.modulate(condition)
            q, k, v = block.project(x, rotary, change)
            past = KeyValue(k, v) if reach is None else latest(KeyValue(k, v), reach - 1, tokens)
            layers.append(KeyValue(past.key.contiguous(), past.value.contiguous()))
            if len(layers) < len(self.blocks):  # nobody looks at what the last layer would read
                x = block.finish(x, attention(q, k, v, mask, block.attn.attention_backend), change)
        return Cache(tuple(layers), frames)

    def step(
        self,
        z: Float[Tensor, "b n d"],
        action: Float[Tensor, "b a"],
        cache: Cache,
        proprio: Float[Tensor, "b p"] | None = None,
        extrinsics: Float[Tensor, "b e"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Cache]:
        """See `LatentDynamics.step`."""
        given = self.checked(z[:, None], Conditions(action, proprio, extrinsics).each(lambda x: x[:, None]))
        reach, tokens = self.config.reach, self.layout.tokens
        layers: list[KeyValue] = []

        def through(i: int, block: FrameBlock, x: Tensor, rotary: Rotary, condition: Tensor | None) -> Tensor:
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                seen = join(cache.layers[i] if cache.layers else None, k, v, reach, tokens)
                if reach != 1:
                    layers.append(seen if reach is None else latest(seen, reach - 1, tokens))
                return attention(q, *seen, None, block.attn.attention_backend)

            return block.around(x, rotary, condition, attend)

        out = self._predict(z[:, None], given, cache.frames, through)
        return out[:, 0], Cache(tuple(layers), cache.frames + 1)

    def imagine(
        self,
        z: Float[Tensor, "p n d"],
        actions: Float[Tensor, "p s h a"],
        cache: Cache | None = None,
        proprio: Float[Tensor, "p s h r"] | None = None,
        extrinsics: Float[Tensor, "p s h e"] | None = None,
    ) -> Float[Tensor, "p s h n d"]:
        """See `LatentDynamics.imagine`.

        Keys and values of the past are those of `cache`, computed once and shared by the candidates, each of which
        keeps only its own imagined frames. The present frame is imagined for every candidate, because its patches see
        the candidate's action: without past frames and with a horizon of one, nothing can be shared.
        """
        candidates, horizon = actions.shape[1:3]
        paths = Conditions(actions, proprio, extrinsics).each(lambda x: x.flatten(0, 1))
        self.checked(z[:, None, None].expand(-1, candidates, horizon, -1, -1).flatten(0, 1), paths)
        cache = Cache((), 0) if cache is None else cache
        memory = CandidateMemory(cache, candidates, horizon, self.config.reach, self.layout.tokens)
        states: list[Tensor] = []
        for i in range(horizon):
            memory.next_frame()
            z = self._predict(z[:, None], paths.at(i), cache.frames + i, memory.through)[:, 0]
            states.append(z)
        imagined: Tensor = torch.stack(states, dim=1).unflatten(0, (-1, candidates))
        return imagined

    def compile_rollouts(self, on: bool = True) -> None:
        """Have `torch.compile` make what is around attention, where no gradient is recorded."""
        for block in self._blocks:
            block.compiled = on

    @property
    def _blocks(self) -> list[FrameBlock]:
        return [block for block in self.blocks if isinstance(block, FrameBlock)]

    def _predict(self, z: Tensor, given: Conditions, first: int, through: Through) -> Tensor:
        """The states after frames number `first` onward; `through` takes their tokens through a layer."""
        x, condition = self._embed(z, given)
        rotary = self.layout.rotary(first, z.shape[1], self.config.width // self.config.heads, x.device)
        for number, block in enumerate(self._blocks):
            x = through(number, block, x, rotary, condition)
        out: Tensor = self.out(self.norm(x[:, :, self.layout.conditions :]))
        if self.config.kind != "ac":
            out = per_candidate(z, len(out)) + out
        return self.normalised(out)

    def _embed(self, z: Tensor, given: Conditions) -> tuple[Tensor, Tensor | None]:
        """Tokens of every frame `(b, t, tokens, width)`, and with AdaLN the condition `(b, t, width)`.

        There may be fewer rows of z than of `given`, whose rows are then the candidates of each.
        """
        layers = (self.action_in, self.proprio_in, self.extrinsics_in)
        codes = [layer(x) for layer, x in zip(layers, given, strict=True) if layer is not None]
        x = per_candidate(self.latent_in(z), len(given.actions))
        condition = None
        if self.config.conditioning == "adaln":
            condition = F.silu(torch.stack(codes).sum(0))
        else:
            x = torch.cat([torch.stack(codes, dim=2), x], dim=2)
        return x if self.slots is None else x + self.slots, condition


def _layout(
    config: DynamicsConfig, latents: int, conditions: int, grid: tuple[int, int] | None, cameras: int
) -> FrameLayout:
    if config.kind == "transformer" and config.conditioning == "token":
        return FrameLayout(conditions, latents)  # a learned slot per token, and rotary embedding over time alone
    if grid is not None and grid[0] * grid[1] * cameras != latents:
        raise ConfigError(
            f"dynamics: expected the {cameras} x {grid[0]} x {grid[1]} patches of the picture as latents "
            f"(pooler.kind patches), found {latents} latents"
        )
    if config.kind == "ac" and grid is None:
        raise ConfigError("dynamics.kind ac needs the patches as latents (pooler.kind patches), and their grid")
    if grid is not None and config.width // config.heads < 6:
        raise ConfigError(
            f"dynamics.width / dynamics.heads is {config.width // config.heads}: rotary embedding over time, row and "
            "column needs at least 6"
        )
    if grid is None:
        return FrameLayout(conditions, latents)
    published = config.kind == "ac"
    return FrameLayout(conditions, latents, grid[1], grid[0] / grid[1] if published else 1.0, tiled=published)
