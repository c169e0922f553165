"""Scaled dot-product attention behind one function, so that a back end is chosen in one place.

| back end | what it is | where |
|---|---|---|
| `sdpa` | `torch.nn.functional.scaled_dot_product_attention` | everywhere |
| `flex` | `torch.nn.attention.flex_attention`, compiled; skips the blocks that a `BlockCausal` mask hides | CUDA |
| `xformers` | `xformers.ops.memory_efficient_attention`; packed sequences without padding | CUDA, where installed |
| `naive` | softmax(q k^T / sqrt(d)) v, written out: what the others are tested against | everywhere |

`auto` takes `flex` for `BlockCausal` masks on CUDA and `sdpa` for everything else; for packed sequences see
`packed_attention`.
"""

import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.nn.block_causal import BlockCausal

AttentionBackend = Literal["auto", "sdpa", "flex", "xformers", "naive"]
_CUDA_ONLY = ("flex", "xformers")


def attention(
    q: Float[Tensor, "b heads q d"],
    k: Float[Tensor, "b heads k d"],
    v: Float[Tensor, "b heads k d"],
    mask: Bool[Tensor, "*m q k"] | BlockCausal | None = None,
    backend: AttentionBackend = "auto",
) -> Float[Tensor, "b heads q d"]:
    """Softmax attention, softmax(q k^T / sqrt(d)) v.

    Args:
        q, k, v: queries, keys and values, heads already split.
        mask: True where a query may look, broadcast over batch and heads; or a `BlockCausal` description. None lets
            everything see everything.
        backend: how it is computed; the result is the same.

    Raises:
        ConfigError: if the back end is unknown, not installed, or does not run on this device.
        ShapeError: if a `BlockCausal` mask describes another number of keys.
    """
    queries = q.shape[-2]
    if isinstance(mask, BlockCausal):
        if k.shape[-2] != mask.keys(queries):
            raise ShapeError(f"{mask}: expected {mask.keys(queries)} keys for {queries} queries, found {k.shape[-2]}")
        if mask.hides_nothing(queries):
            mask = None
    if backend == "auto":
        backend = "flex" if isinstance(mask, BlockCausal) and q.is_cuda else "sdpa"
    check_backend(backend, q.device)
    if backend == "flex":
        return _flex(q, k, v, mask)
    if isinstance(mask, BlockCausal):
        mask = mask.dense(queries, q.device)
    if backend == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return _xformers(q, k, v, mask) if backend == "xformers" else _naive(q, k, v, mask)


def check_backend(name: str, device: torch.device | None = None) -> None:
    """Refuse a back end that is unknown, not installed or, where a device is given, does not run on it.

    Raises:
        ConfigError: naming the back end, what was found and what was expected.
    """
    if name not in get_args(AttentionBackend):
        raise ConfigError(f"model.attention: expected one of {', '.join(get_args(AttentionBackend))}, found {name!r}")
    if name == "xformers" and not xformers_installed():
        raise ConfigError(
            "model.attention: xformers is not installed (pip install 'jepa-actions[xformers]'); 'auto' does without it"
        )
    if name in _CUDA_ONLY and device is not None and device.type != "cuda":
        raise ConfigError(f"model.attention: {name} runs on a CUDA device, found {device.type}; 'auto' fits any device")


def set_attention_backend(module: nn.Module, name: str) -> None:
    """Choose the back end of every attention inside a module: of all that have an `attention_backend`.

    Raises:
        ConfigError: if the back end is unknown or not installed. Whether it runs on a device is seen at first use.
    """
    check_backend(name)
    for part in module.modules():
        if hasattr(part, "attention_backend"):
            part.attention_backend = name  # type: ignore[assignment]


@lru_cache(maxsize=1)
def xformers_installed() -> bool:
    """True where xformers can be imported."""
    return importlib.util.find_spec("xformers") is not None


@lru_cache(maxsize=1)
def compiled_flex_attention() -> Callable[..., Any]:
    """`flex_attention`, compiled once: without compilation it would build the whole score matrix."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return compiled


def _naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1) @ v


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | BlockCausal | None) -> Tensor:
    blocks = None
    if isinstance(mask, BlockCausal):
        blocks = mask.blocks(q.shape[-2], q.device)
    elif mask is not None:
        blocks = _dense_blocks(mask.expand(*q.shape[:2], *mask.shape[-2:]))
    out: Tensor = compiled_flex_attention()(q, k, v, block_mask=blocks)
    return out


def _dense_blocks(dense: Bool[Tensor, "b heads q k"]) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def allows(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return dense[batch, head, query, key]

    batch, heads, queries, keys = dense.shape
    return create_block_mask(allows, batch, heads, queries, keys, device=dense.device)


def _xformers(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    from xformers.ops import memory_efficient_attention

    bias = None
    if mask is not None:  # its rows must begin at multiples of 8
        queries, keys = mask.shape[-2:]
        room = q.new_zeros(*q.shape[:2], queries, -(-keys // 8) * 8)[..., :keys]
        bias = room.masked_fill_(~mask, -math.inf)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    out: Tensor = memory_efficient_attention(q, k, v, attn_bias=bias).transpose(1, 2)
    return out
