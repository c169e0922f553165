"""Random numbers that are a function of a few integers, elementwise: the same bits in any batch and on any device."""

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor

MASK = 2**32 - 1
_GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: keeps neighbouring counters apart


def hashed(*parts: Int[Tensor, "*b"] | int) -> Int[Tensor, "*b"]:
    """32 random bits (int64) per element from integers in [0, 2^31), which broadcast; at least one is a tensor."""
    found: Int[Tensor, "*b"] | int = 0
    for part in parts:
        found = _mix((part * _GOLDEN + found) & MASK)
    assert isinstance(found, Tensor)
    return found


def _mix(x: Int[Tensor, "*b"] | int) -> Int[Tensor, "*b"] | int:
    """A bijection of 32 bits. Source of shifts and factors: C. Wellons, "hash-prospector" (public domain)."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & MASK  # both factors are below 2^31: no product leaves int64
    x = ((x ^ (x >> 15)) * 0x735A2D97) & MASK
    return x ^ (x >> 15)


@lru_cache(maxsize=16)
def normal_levels(std: float, device: torch.device) -> Float[Tensor, "256"]:
    """The middle of every 1/256 of N(0, std^2), rounded: what a random byte stands for as noise of that size."""
    normal = NormalDist(0.0, std)
    return torch.tensor(
        [round(normal.inv_cdf((i + 0.5) / 256)) for i in range(256)], dtype=torch.float32, device=device
    )


def bytes_of(bits: Int[Tensor, "*b"]) -> Sequence[Int[Tensor, "*b"]]:
    """The four bytes of 32 bits."""
    return [(bits >> shift) & 255 for shift in (0, 8, 16, 24)]
