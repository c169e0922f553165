"""Attention over packed sequences: samples of different lengths in one row of tokens, none cut, none padded."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from jepa_actions.errors import ShapeError
from jepa_actions.nn.attention import (
    AttentionBackend,
    attention,
    check_backend,
    compiled_flex_attention,
    xformers_installed,
)


def packed_attention(
    q: Float[Tensor, "n heads d"],
    k: Float[Tensor, "n heads d"],
    v: Float[Tensor, "n heads d"],
    lengths: Sequence[int],
    backend: AttentionBackend = "auto",
) -> Float[Tensor, "n heads d"]:
    """Every sequence attends to itself alone.

    Args:
        q, k, v: tokens of all sequences, one sequence after the other, heads already split.
        lengths: tokens of each sequence.
        backend: `sdpa` and `naive` loop over the sequences, those of one length together; `flex` masks between
            documents; `xformers` has a block-diagonal mask. `auto` is `xformers` on CUDA where it is installed, torch's
            own variable-length kernel on CUDA in half precision, and `sdpa` for everything else.

    Raises:
        ConfigError: if the back end is unknown, not installed, or does not run on this device.
        ShapeError: if the lengths do not add up to the tokens.
    """
    lengths = tuple(lengths)
    if sum(lengths) != q.shape[0] or min(lengths, default=1) < 1:
        raise ShapeError(f"packed attention: lengths {lengths} add up to {sum(lengths)}, expected {q.shape[0]} tokens")
    if len(set(lengths)) == 1 and backend == "auto":  # nothing is ragged: a plain batch
        return _loop(q, k, v, lengths, "sdpa")
    if backend == "auto" and q.is_cuda and not xformers_installed() and _has_varlen(q):
        return _varlen(q, k, v, lengths)
    if backend == "auto":
        backend = "xformers" if q.is_cuda and xformers_installed() else "sdpa"
    check_backend(backend, q.device)
    if backend == "xformers":
        return _xformers(q, k, v, lengths)
    return _flex(q, k, v, lengths) if backend == "flex" else _loop(q, k, v, lengths, backend)


def _loop(q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...], backend: AttentionBackend) -> Tensor:
    """Neighbouring sequences of one length are one batch."""
    groups = [(length, len(list(same))) for length, same in groupby(lengths)]
    sizes = [length * count for length, count in groups]
    parts = []
    for (length, _), *qkv in zip(groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
        batch = [x.unflatten(0, (-1, length)).transpose(1, 2) for x in qkv]
        parts.append(attention(batch[0], batch[1], batch[2], None, backend).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _xformers(q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...]) -> Tensor:
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    bias = BlockDiagonalMask.from_seqlens(list(lengths), device=q.device)
    out: Tensor = memory_efficient_attention(q[None], k[None], v[None], attn_bias=bias)[0]
    return out


def _has_varlen(q: Tensor) -> bool:
    return q.dtype in (torch.float16, torch.bfloat16) and torch.cuda.get_device_capability(q.device) >= (8, 0)


def _varlen(q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...]) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = _ends(lengths, q.device), max(lengths)
    out = varlen_attn(q, k, v, ends, ends, longest, longest)
    assert isinstance(out, Tensor)
    return out


@lru_cache(maxsize=64)
def _ends(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return F.pad(torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0)).to(device)


def _flex(q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...]) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask

    counts = torch.tensor(lengths, device=q.device)
    sequence = torch.arange(len(lengths), device=q.device).repeat_interleave(counts)

    def allows(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sequence[query] == sequence[key]

    blocks = create_block_mask(allows, None, None, len(q), len(q), device=q.device)
    heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
    out: Tensor = compiled_flex_attention()(*heads_first, block_mask=blocks)[0].transpose(0, 1)
    return out
