"""Transformer block over frames of tokens, and where the tokens of a frame are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jepa_actions.nn import Block, BlockCausal, Rotary, attention, rotary_table


class FrameBlock(Block):
    """A pre-norm block cut where attention is, so that a rollout decides what the queries see.

    With `modulated`, adaptive layer norm with a zero-initialised gate (AdaLN-Zero: DiT, arXiv 2212.09748; for actions
    in latent world models, arXiv 2512.24497): a condition per frame gives shift, scale and gate of both halves, and an
    untrained block passes its input on.
    """

    def __init__(self, dim: int, heads: int, *, modulated: bool = False) -> None:
        super().__init__(dim, heads)
        self.compiled = False  # True compiles what is around attention, where no gradient is recorded
        self.modulation: nn.Linear | None = None
        if modulated:
            self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
            self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
            self.modulation = nn.Linear(dim, 6 * dim)

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "b t m d"],
        rotary: Rotary | None = None,
        mask: BlockCausal | None = None,
        condition: Float[Tensor, "b t d"] | None = None,
    ) -> Float[Tensor, "b t m d"]:
        """The block on t frames of m tokens that see each other as `mask` says."""

        def run(x: Tensor, condition: Tensor | None) -> Tensor:
            backend = self.attn.attention_backend
            return self.around(x, rotary, condition, lambda q, k, v: attention(q, k, v, mask, backend))

        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            out: Tensor = checkpoint(run, x, condition, use_reentrant=False, preserve_rng_state=False)
            return out
        return run(x, condition)

    def around(
        self,
        x: Float[Tensor, "b t m d"],
        rotary: Rotary | None,
        condition: Float[Tensor, "b t d"] | None,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "b t m d"]:
        """The block with `attend(q, k, v)` as its attention."""
        change = self.modulate(condition)
        if self.compiled and not torch.is_grad_enabled():
            project, finish = _compiled_halves()
            out: Tensor = finish(self, x, attend(*project(self, x, rotary, change)), change)
            return out
        return self.finish(x, attend(*self.project(x, rotary, change)), change)

    def modulate(self, condition: Float[Tensor, "b t d"] | None) -> tuple[Tensor, ...] | None:
        """Shift, scale and gate of the attention and of the MLP, `(b, t, 1, d)` each; None without a condition."""
        if self.modulation is None or condition is None:
            return None
        parts: tuple[Tensor, ...] = self.modulation(condition)[:, :, None].chunk(6, dim=-1)
        return parts

    def project(
        self, x: Float[Tensor, "b t m d"], rotary: Rotary | None, change: tuple[Tensor, ...] | None
    ) -> tuple[Float[Tensor, "b heads n d"], Float[Tensor, "b heads n d"], Float[Tensor, "b heads n d"]]:
        """Queries, keys and values of all tokens, the first two turned to their places; n = t m."""
        x = self.norm1(x)
        if change is not None:
            x = torch.addcmul(change[0], x, 1 + change[1])
        q, k, v = (part.transpose(1, 2) for part in self.attn.project(x.flatten(1, 2), rotary))
        return q, k, v

    def finish(
        self,
        x: Float[Tensor, "b t m d"],
        attended: Float[Tensor, "b heads n d"],
        change: tuple[Tensor, ...] | None,
    ) -> Float[Tensor, "b t m d"]:
        """The rest of the block: what attention read, added, and the MLP."""
        read = self.attn.proj(attended.transpose(1, 2).flatten(2)).view_as(x)
        if change is None:
            x = x + read
            out: Tensor = x + self.mlp(self.norm2(x))
            return out
        x = torch.addcmul(x, change[2], read)
        inner = torch.addcmul(change[3], self.norm2(x), 1 + change[4])
        return torch.addcmul(x, change[5], self.mlp(inner))


@lru_cache(maxsize=1)
def _compiled_halves() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A block before and after its attention, compiled; functions of the block, so that a copy has its own weights."""
    return torch.compile(FrameBlock.project), torch.compile(FrameBlock.finish)


@dataclass(frozen=True)
class FrameLayout:
    """What a frame's tokens are, and their places: first those that condition (action, proprio, extrinsics), then the
    latents.

    Latents with a place are patches in raster order; those of several cameras lie below one another. Tokens that
    condition have a time and no place.
    """

    conditions: int
    latents: int
    row: int | None = None  # patches per row; None gives latents no place
    # V-JEPA 2-AC's code (`ACRoPEAttention`) scales rows and columns to its `grid_size`, which is the number of rows: as
    # many columns as there are rows span the picture. It also tiles the frequencies over the channels.
    stretch: float = 1.0
    tiled: bool = False

    @property
    def tokens(self) -> int:
        """Tokens per frame."""
        return self.conditions + self.latents

    def rotary(self, first: int, frames: int, head_dim: int, device: torch.device) -> Rotary:
        """Cosines and sines, `(frames * tokens, head_dim)`, of frames number `first` onward; made once and kept."""
        return _rotary(self, first, frames, head_dim, torch.device(device))


@lru_cache(maxsize=256)
def _rotary(layout: FrameLayout, first: int, frames: int, head_dim: int, device: torch.device) -> Rotary:
    with torch.inference_mode(False):  # or a table first made while planning could not be used in training
        time = torch.arange(first, first + frames, dtype=torch.float32, device=device)
        time = time.repeat_interleave(layout.tokens)[:, None]
        if layout.row is None:
            return rotary_table(time, head_dim, tiled=layout.tiled)
        place = torch.zeros(layout.tokens, 2, device=device)
        number = torch.arange(layout.latents, device=device)
        place[layout.conditions :, 0] = number // layout.row
        place[layout.conditions :, 1] = (number % layout.row) * layout.stretch
        return rotary_table(torch.cat([time, place.repeat(frames, 1)], dim=-1), head_dim, tiled=layout.tiled)
