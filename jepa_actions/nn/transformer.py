"""Pre-norm transformer block with V-JEPA 2's parameter layout: norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from jepa_actions.nn.attention import AttentionBackend, attention
from jepa_actions.nn.block_causal import BlockCausal
from jepa_actions.nn.packed import packed_attention
from jepa_actions.nn.rotary import Rotary, turn_queries_and_keys


class KeyValue(NamedTuple):
    """Keys and values already computed for earlier tokens, `(b, heads, n, head_dim)` each."""

    key: Tensor
    value: Tensor


class SelfAttention(nn.Module):
    """Multi-head self-attention with an optional rotary embedding, mask and key/value cache."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.attention_backend: AttentionBackend = "auto"  # see set_attention_backend
        self.packed_attention = packed_attention
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotary: Rotary | None = None,
        mask: Bool[Tensor, "*m n k"] | BlockCausal | None = None,
        past: KeyValue | None = None,
    ) -> tuple[Float[Tensor, "b n d"], KeyValue]:
        """Attend within x and to `past`; returns the output and the keys and values including those of x."""
        q, k, v = (part.transpose(1, 2) for part in self.project(x, rotary))
        if past is not None:
            k, v = torch.cat([past.key, k], dim=2), torch.cat([past.value, v], dim=2)
        out = attention(q, k, v, mask, self.attention_backend).transpose(1, 2).flatten(2)
        return self.proj(out), KeyValue(k, v)

    def packed(self, x: Float[Tensor, "n d"], rotary: Rotary | None, lengths: Sequence[int]) -> Float[Tensor, "n d"]:
        """Attend within each of several sequences that lie one after the other in x."""
        q, k, v = self.project(x, rotary)
        out: Tensor = self.proj(self.packed_attention(q, k, v, lengths, self.attention_backend).flatten(1))
        return out

    def project(self, x: Float[Tensor, "*b n d"], rotary: Rotary | None) -> tuple[Tensor, ...]:
        """Queries, keys and values, `(*b, n, heads, head_dim)` each, the first two turned."""
        qkv = self.qkv(x)
        if rotary is not None:
            qkv = turn_queries_and_keys(qkv, self.heads, rotary)
        parts: tuple[Tensor, ...] = qkv.unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return parts


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim if out is None else out)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b o"]:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.gradient_checkpointing = False  # see set_gradient_checkpointing

    def forward(
        self,
        x: Float[Tensor, "*b n d"],
        rotary: Rotary | None = None,
        mask: Bool[Tensor, "*m n k"] | BlockCausal | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "*b n d"]:
        """The block on a batch `(b, n, d)`; with `lengths`, on packed sequences `(n, d)` that do not see each other."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            out: Tensor = checkpoint(
                self._forward, x, rotary, mask, lengths, use_reentrant=False, preserve_rng_state=False
            )
            return out
        return self._forward(x, rotary, mask, lengths)

    def _forward(
        self, x: Tensor, rotary: Rotary | None, mask: Tensor | BlockCausal | None, lengths: Sequence[int] | None
    ) -> Tensor:
        if lengths is None:
            return self.cached(x, rotary, mask, None)[0]
        x = x + self.attn.packed(self.norm1(x), rotary, lengths)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def cached(
        self,
        x: Float[Tensor, "b n d"],
        rotary: Rotary | None,
        mask: Bool[Tensor, "*m n k"] | BlockCausal | None,
        past: KeyValue | None,
    ) -> tuple[Float[Tensor, "b n d"], KeyValue]:
        """The block on new tokens that also see `past`; returns them with the extended keys and values."""
        attended, present = self.attn(self.norm1(x), rotary, mask, past)
        x = x + attended
        return x + self.mlp(self.norm2(x)), present


def set_gradient_checkpointing(module: nn.Module, on: bool = True) -> None:
    """Have every `Block` inside keep its input alone in training and compute the rest again for the gradient.

    Same numbers; memory of one block instead of all, for about a third more time.
    """
    for part in module.modules():
        if isinstance(part, Block):
            part.gradient_checkpointing = on


def compile_blocks(module: nn.Module) -> None:
    """Compile the forward pass of every `Block` inside with `torch.compile`: one graph serves blocks of one form.

    In place: parameter names stay. A deep copy of the module is not compiled. Attention over packed sequences stays
    outside the graph, which would otherwise be made again for every new set of lengths.
    """
    for part in module.modules():
        if isinstance(part, Block):
            part.attn.packed_attention = torch.compiler.disable(packed_attention)
            part.compile()


def init_transformer(blocks: nn.ModuleList, std: float = 0.02) -> None:
    """Truncated-normal weights, zero biases, and residual outputs divided by sqrt(2 layer), as V-JEPA does."""
    for layer, block in enumerate(blocks, start=1):
        for module in block.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
        assert isinstance(block, Block)
        with torch.no_grad():
            block.attn.proj.weight.div_(math.sqrt(2.0 * layer))
            block.mlp.fc2.weight.div_(math.sqrt(2.0 * layer))
