"""Action-conditioned prediction of the next latent: z_<=t, a_<=t -> z_{t+1}."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.models.frame_block import FrameBlock, FrameLayout
from jepa_actions.models.rollout_cache import Cache, CandidateMemory, join, latest
from jepa_actions.nn import BlockCausal, Rotary, attention, init_transformer
from jepa_actions.nn.transformer import KeyValue

Through = Callable[[int, FrameBlock, Tensor, Rotary, Tensor | None], Tensor]  # one layer: number, block, x, ...


class Conditions(NamedTuple):
    """What enters with every frame beside its latents: the action taken at it, proprio and the camera's pose."""

    actions: Tensor
    proprio: Tensor | None = None
    extrinsics: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Conditions":
        """The same change to all that are there."""
        return Conditions(change(self.actions), *(None if x is None else change(x) for x in self[1:]))

    def at(self, frame: int) -> "Conditions":
        """One frame of several, `(b, 1, ...)`."""
        return self.each(lambda x: x[:, frame : frame + 1])


@dataclass(frozen=True)
class DynamicsConfig:
    """Form and size of `LatentDynamics`.

    `mlp` sees the present state and, with a history, how it came about: the differences from the states before, none
    where an episode begins. `transformer` sees frames of tokens and predicts a change of the present state; `ac` is the
    predictor of V-JEPA 2-AC (arXiv 2506.09985, section 3; `ac_predictor.py` of its code): it sees all frames so far and
    predicts the next state itself.
    """

    kind: Literal["mlp", "transformer", "ac"] = "mlp"
    width: int = 256
    depth: int = 2
    heads: int = 4  # transformer and ac
    # Latent states that a prediction may look at. None: one, and with kind ac all so far. A layer looks so far back, so
    # that several layers reach further in teacher forcing, and as far in a rollout.
    history: int | None = None
    # transformer: how the action enters, as a token of its frame or as shift, scale and gate of every block (AdaLN).
    conditioning: Literal["token", "adaln"] = "token"
    proprio: int = 0  # transformer and ac: numbers of proprio that enter with every frame, in raw units; 0 is none
    extrinsics: int = 0  # transformer and ac: numbers that give the camera's pose, the same way; 0 is none
    normalise: bool = False  # layer norm, without parameters, on every predicted token (V-JEPA 2-AC trains so)
    norm_eps: float = 1e-6  # transformer and ac: of the blocks' and the last layer norm; the release's factory has 1e-6

    def __post_init__(self) -> None:
        if self.kind == "mlp":
            if self.conditioning != "token" or self.proprio or self.extrinsics:
                raise ConfigError(
                    "dynamics.kind mlp takes an action alone: expected conditioning token, proprio 0 and extrinsics 0, "
                    f"found {self.conditioning}, {self.proprio} and {self.extrinsics}"
                )
        elif self.width % self.heads or self.width // self.heads % 2:
            raise ConfigError(
                f"dynamics.width {self.width} and dynamics.heads {self.heads}: expected an even number of channels per "
                "head"
            )
        if self.kind == "ac" and self.conditioning != "token":
            raise ConfigError(
                f"dynamics.kind ac has conditioning token, found {self.conditioning}; kind transformer takes either"
            )
        if min(self.proprio, self.extrinsics) < 0 or (self.history is not None and self.history < 1):
            raise ConfigError(
                f"dynamics: found proprio {self.proprio}, extrinsics {self.extrinsics}, history {self.history}, "
                "expected none below 0 and a history of at least 1"
            )

    @property
    def reach(self) -> int | None:
        """Frames that a layer looks at, the present one included; None is all so far."""
        return 1 if self.history is None and self.kind != "ac" else self.history


class LatentDynamics(nn.Module):
    """Predicts the next latent state from past states and actions.

    `forward` is teacher forcing over a sequence; `step` advances one frame with a cache; a rollout of `step` equals
    repeated single steps by construction, and `forward` on the same latents (tested). For V-JEPA 2-AC:

        config = DynamicsConfig(kind="ac", width=1024, depth=24, heads=16, proprio=7)
        dynamics = LatentDynamics(config, latents=256, dim=1408, action_dim=7, grid=(16, 16))
        load_ac_weights(dynamics, state_dict)  # models/pretrained_ac.py
        z_next = dynamics(z, actions, proprio)  # (b, t, 256, 1408), (b, t, 7), (b, t, 7) -> (b, t, 256, 1408)

    with `extrinsics=6` in the configuration and as fourth argument for a model that has them.

    Args:
        config: form and size.
        latents, dim: N and D of a state.
        action_dim: width of a model action.
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
        super().__init__()
        self.config, self.latents, self.dim, self.action_dim = config, latents, dim, action_dim
        if config.kind == "mlp":
            state = latents * dim
            self.state_in = nn.Linear(state, config.width)
            self.action_in = nn.Linear(action_dim, config.width)
            past = (config.reach or 1) - 1
            self.past_in = nn.Linear(past * state, config.width, bias=False) if past else None
            self.hidden = nn.ModuleList([nn.Linear(config.width, config.width) for _ in range(config.depth - 1)])
            self.norm = nn.LayerNorm(config.width)
            self.out = nn.Linear(config.width, state)
        else:
            self._build_transformer(grid, cameras)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def _build_transformer(self, grid: tuple[int, int] | None, cameras: int) -> None:
        config, width = self.config, self.config.width
        adaln, published = config.conditioning == "adaln", config.kind == "ac"
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

    # -- prediction ----------------------------------------------------------------------------------------------

    def forward(
        self,
        z: Float[Tensor, "b t n d"],
        actions: Float[Tensor, "b t a"],
        proprio: Float[Tensor, "b t p"] | None = None,
        extrinsics: Float[Tensor, "b t e"] | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Teacher forcing: out[:, i] predicts the state after actions[:, i] from what is known up to then.

        Args:
            z: latent states.
            actions: the model action taken at each.
            proprio: raw units, at the same frames; where the configuration has it.
            extrinsics: the camera's pose at the same frames; where the configuration has it.

        Raises:
            ShapeError: for an input that is missing, not part of this model, or of another shape.
        """
        given = self._checked(z, Conditions(actions, proprio, extrinsics))
        if self.config.kind == "mlp":
            return self._normalised(self._mlp(z, actions, self._history(z)))
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
        """Take in past states and the actions that followed them (t may be 0); the present state is not among them.

        Arguments and errors as in `forward`.
        """
        given, frames = self._checked(z, Conditions(actions, proprio, extrinsics)), z.shape[1]
        if self.config.kind == "mlp":
            return Cache((), frames, self._kept(z))
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
        """One frame onward: the state after `action`, and the cache with the present frame added."""
        given = self._checked(z[:, None], Conditions(action, proprio, extrinsics).each(lambda x: x[:, None]))
        if self.config.kind == "mlp":
            past = self._past(z, cache)
            later = None if past is None else torch.cat([past[:, 1:], z[:, None]], dim=1)
            return self._normalised(self._mlp(z, action, past)), Cache((), cache.frames + 1, later)
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

    def rollout(
        self,
        z: Float[Tensor, "b n d"],
        actions: Float[Tensor, "b h a"],
        cache: Cache | None = None,
        proprio: Float[Tensor, "b h p"] | None = None,
        extrinsics: Float[Tensor, "b h e"] | None = None,
    ) -> Float[Tensor, "b h n d"]:
        """Imagine h steps from the present state; out[:, i] is the state after actions[:, i].

        `proprio` and `extrinsics` are those of the frames that the actions are taken at, imagined ones included.
        """
        paths = Conditions(actions, proprio, extrinsics).each(lambda x: x[:, None])
        return self.imagine(z, paths.actions, cache, paths.proprio, paths.extrinsics)[:, 0]

    def imagine(
        self,
        z: Float[Tensor, "p n d"],
        actions: Float[Tensor, "p s h a"],
        cache: Cache | None = None,
        proprio: Float[Tensor, "p s h r"] | None = None,
        extrinsics: Float[Tensor, "p s h e"] | None = None,
    ) -> Float[Tensor, "p s h n d"]:
        """Rollouts of s candidates from each of p present states; out[:, :, i] is the state after actions[:, :, i].

        Keys and values of the past are those of `cache`, computed once and shared by the candidates, each of which
        keeps only its own imagined frames. The present frame is imagined for every candidate, because its patches see
        the candidate's action: without past frames and with a horizon of one, nothing can be shared.
        """
        candidates, horizon = actions.shape[1:3]
        paths = Conditions(actions, proprio, extrinsics).each(lambda x: x.flatten(0, 1))
        self._checked(z[:, None, None].expand(-1, candidates, horizon, -1, -1).flatten(0, 1), paths)
        states: list[Tensor] = []
        if self.config.kind == "mlp":
            past = self._past(z, cache)
            past = None if past is None else _per_candidate(past, len(paths.actions))
            z = _per_candidate(z, len(paths.actions))
            for i in range(horizon):
                before, z = z, self._normalised(self._mlp(z, paths.actions[:, i], past))
                past = None if past is None else torch.cat([past[:, 1:], before[:, None]], dim=1)
                states.append(z)
        else:
            cache = Cache((), 0) if cache is None else cache
            memory = CandidateMemory(cache, candidates, horizon, self.config.reach, self.layout.tokens)
            for i in range(horizon):
                memory.next_frame()
                z = self._predict(z[:, None], paths.at(i), cache.frames + i, memory.through)[:, 0]
                states.append(z)
        imagined = torch.stack(states, dim=1)
        return imagined.view(-1, candidates, *imagined.shape[1:])

    def compile_rollouts(self, on: bool = True) -> None:
        """Have `torch.compile` make what is around attention, where no gradient is recorded."""
        if self.config.kind != "mlp":
            for block in self._blocks:
                block.compiled = on

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _blocks(self) -> list[FrameBlock]:
        return [block for block in self.blocks if isinstance(block, FrameBlock)]

    def _history(self, z: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t k n d"] | None:
        """The states before each, the latest last; before the first one it stood still."""
        past = (self.config.reach or 1) - 1
        if not past:
            return None
        padded = torch.cat([z[:, :1].expand(-1, past, -1, -1), z], dim=1)
        return torch.stack([padded[:, i : i + z.shape[1]] for i in range(past)], dim=2)

    def _kept(self, z: Float[Tensor, "b t n d"]) -> Float[Tensor, "b k n d"] | None:
        """Of past states what the next step looks at."""
        past, frames = (self.config.reach or 1) - 1, z.shape[1]
        if not past or not frames:
            return None
        return torch.cat([z[:, :1].expand(-1, max(past - frames, 0), -1, -1), z[:, -past:]], dim=1)

    def _past(self, z: Float[Tensor, "b n d"], cache: Cache | None) -> Float[Tensor, "b k n d"] | None:
        past = (self.config.reach or 1) - 1
        if not past:
            return None
        return z[:, None].expand(-1, past, -1, -1) if cache is None or cache.states is None else cache.states

    def _mlp(self, z: Tensor, action: Tensor, past: Tensor | None) -> Tensor:
        x = self.state_in(z.flatten(-2)) + self.action_in(action)
        if past is not None and self.past_in is not None:
            x = x + self.past_in((z.unsqueeze(-3) - past).flatten(-3))
        x = F.gelu(x)
        for layer in self.hidden:
            x = F.gelu(layer(x))
        out: Tensor = z + self.out(self.norm(x)).unflatten(-1, (self.latents, self.dim))
        return out

    def _predict(self, z: Tensor, given: Conditions, first: int, through: Through) -> Tensor:
        """The states after frames number `first` onward; `through` takes their tokens through a layer."""
        x, condition = self._embed(z, given)
        rotary = self.layout.rotary(first, z.shape[1], self.config.width // self.config.heads, x.device)
        for number, block in enumerate(self._blocks):
            x = through(number, block, x, rotary, condition)
        out: Tensor = self.out(self.norm(x[:, :, self.layout.conditions :]))
        if self.config.kind != "ac":
            out = _per_candidate(z, len(out)) + out
        return self._normalised(out)

    def _normalised(self, z: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:]) if self.config.normalise else z

    def _embed(self, z: Tensor, given: Conditions) -> tuple[Tensor, Tensor | None]:
        """Tokens of every frame `(b, t, tokens, width)`, and with AdaLN the condition `(b, t, width)`.

        There may be fewer rows of z than of `given`, whose rows are then the candidates of each.
        """
        layers = (self.action_in, self.proprio_in, self.extrinsics_in)
        codes = [layer(x) for layer, x in zip(layers, given, strict=True) if layer is not None]
        x = _per_candidate(self.latent_in(z), len(given.actions))
        condition = None
        if self.config.conditioning == "adaln":
            condition = F.silu(torch.stack(codes).sum(0))
        else:
            x = torch.cat([torch.stack(codes, dim=2), x], dim=2)
        return x if self.slots is None else x + self.slots, condition

    def _checked(self, z: Tensor, given: Conditions) -> Conditions:
        if z.dim() != 4 or tuple(z.shape[2:]) != (self.latents, self.dim):
            raise ShapeError(f"dynamics: z: expected (batch, time, {self.latents}, {self.dim}), found {tuple(z.shape)}")
        widths = (self.action_dim, self.config.proprio, self.config.extrinsics)
        for name, width, x in zip(Conditions._fields, widths, given, strict=True):
            expected = (*z.shape[:2], width)
            if (None if x is None else tuple(x.shape)) != (expected if width else None):
                wanted = f"{expected}" if width else f"none (dynamics.{name} is 0)"
                raise ShapeError(
                    f"dynamics: {name}: expected {wanted}, found {'none' if x is None else tuple(x.shape)}"
                )
        return given


def _per_candidate(x: Tensor, rows: int) -> Tensor:
    """Rows of problems as rows of their candidates."""
    if len(x) == rows:
        return x
    return x[:, None].expand(-1, rows // len(x), *x.shape[1:]).flatten(0, 1)


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
