"""Rotary position embedding over one or several axes (RoFormer, arXiv 2104.09864; three in V-JEPA 2, 2506.09985)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)
