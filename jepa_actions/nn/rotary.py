"""Rotary position embedding over one or several axes (RoFormer, arXiv 2104.09864; three in V-JEPA 2, 2506.09985)."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class Rotary(NamedTuple):
    """Cosines and sines per token, `(n, head_dim)` or `(b, n, head_dim)`, ready for `apply_rotary`."""

    cos: Tensor
    sin: Tensor

    def take(self, ids: Int[Tensor, "b k"]) -> "Rotary":
        """The rows of some tokens, per sample: `(b, k, head_dim)`."""
        return Rotary(self.cos[ids], self.sin[ids])


def grid_positions(frames: int, height: int, width: int, device: torch.device | None = None) -> Int[Tensor, "n 3"]:
    """(time, row, column) of every patch, in the order in which patches are numbered: time, then row, then column."""
    axes = [torch.arange(size, device=device) for size in (frames, height, width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def rotary_table(
    positions: Int[Tensor, "*n axes"] | Float[Tensor, "*n axes"], head_dim: int, *, tiled: bool, base: float = 10000.0
) -> Rotary:
    """Cosines and sines for tokens at the given positions; each axis owns an equal, even share of the head's channels.

    Args:
        positions: coordinates of each token, one column per axis.
        head_dim: channels per head. Channels beyond `axes` equal even shares are left unrotated, as in V-JEPA 2.
        tiled: True reproduces V-JEPA 2's published layout, which tiles the frequencies [f0 f1 .. f0 f1 ..] while it
            rotates neighbouring channels, so the two channels of a pair turn at different speeds (a known quirk, kept
            by its authors for their weights). False repeats each frequency for its pair: a true rotation, so that
            attention depends on differences of positions alone.
        base: longest wavelength of the frequencies.

    Raises:
        ValueError: if the head is too narrow to give each axis a pair of channels.
    """
    axes = positions.shape[-1]
    share = 2 * ((head_dim // axes) // 2)
    if share == 0:
        raise ValueError(f"head_dim {head_dim} is too narrow for {axes} rotary axes: at least {2 * axes} is needed")
    omega = base ** -(torch.arange(share // 2, device=positions.device, dtype=torch.float32) / (share / 2))
    angles = positions.to(torch.float32)[..., None] * omega  # (*n, axes, share / 2)
    angles = torch.cat([angles, angles], dim=-1) if tiled else angles.repeat_interleave(2, dim=-1)
    angles = angles.flatten(-2)  # (*n, axes * share)
    pad = head_dim - angles.shape[-1]
    angles = torch.nn.functional.pad(angles, (0, pad))  # angle 0 leaves a channel as it is
    return Rotary(angles.cos(), angles.sin())


def apply_rotary(x: Float[Tensor, "b heads n d"], rotary: Rotary) -> Float[Tensor, "b heads n d"]:
    """Turn neighbouring channel pairs of queries or keys by their token's angles."""
    cos, sin = rotary
    if cos.dim() == 3:  # per-sample tables: (b, n, d) -> (b, 1, n, d)
        cos, sin = cos[:, None], sin[:, None]
    return _turned(x, cos.to(x.dtype), sin.to(x.dtype))


def turn_queries_and_keys(qkv: Float[Tensor, "*b n 3d"], heads: int, rotary: Rotary) -> Float[Tensor, "*b n 3d"]:
    """`apply_rotary` on the queries and keys of a joint projection, heads last; the values stay as they are.

    Works in the projection's own memory, which must be needed by nobody else: nothing but the tables is kept for the
    backward pass, which turns the gradient back.
    """
    cos, sin = (table.to(qkv.dtype) for table in rotary)
    if torch.compiler.is_compiling():  # the compiler fuses the plain form by itself
        pair, values = qkv.unflatten(-1, (3, heads, -1)).split([2, 1], dim=-3)
        pair = _turned(pair, cos[..., None, None, :], sin[..., None, None, :])
        return torch.cat([pair, values], dim=-3).flatten(-3)
    out: Tensor = _TurnInPlace.apply(qkv, heads, cos, sin)
    return out


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack((-odd, even), dim=-1).flatten(-2) * sin


class _TurnInPlace(torch.autograd.Function):
    """Pairs (x0, x1) become (cos0 x0 - sin0 x1, cos1 x1 + sin1 x0); the gradient goes through the transposed matrix."""

    @staticmethod
    def forward(ctx: FunctionCtx, qkv: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.mark_dirty(qkv)
        ctx.save_for_backward(cos, sin)
        ctx.heads = heads  # type: ignore[attr-defined]
        pairs = qkv.unflatten(-1, (3, heads, -1, 2))[..., :2, :, :, :]  # (*b, n, query or key, heads, d / 2, 2)
        cos, sin = (table.unflatten(-1, (-1, 2))[..., None, None, :, :] for table in (cos, sin))
        turned = pairs * cos
        turned[..., 0].addcmul_(pairs[..., 1], sin[..., 0], value=-1)
        turned[..., 1].addcmul_(pairs[..., 0], sin[..., 1])
        pairs.copy_(turned)
        return qkv

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = (table.unflatten(-1, (-1, 2))[..., None, None, :, :] for table in ctx.saved_tensors)
        out = torch.empty_like(grad)
        split = (3, ctx.heads, -1, 2)
        given, back = grad.unflatten(-1, split), out.unflatten(-1, split)
        back[..., 2, :, :, :] = given[..., 2, :, :, :]
        pairs, turned = given[..., :2, :, :, :], back[..., :2, :, :, :]
        torch.mul(pairs, cos, out=turned)
        turned[..., 0].addcmul_(pairs[..., 1], sin[..., 1])
        turned[..., 1].addcmul_(pairs[..., 0], sin[..., 0], value=-1)
        return out, None, None, None
