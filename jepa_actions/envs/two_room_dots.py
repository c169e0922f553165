"""TwoRoom: dots, drawn from one table, so that the same bytes come out on every device and for every batch size."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.envs.two_room_geometry import TwoRoomConfig

STEPS_PER_PIXEL = 512
"""Resolution of the Gaussian's table: a position is rounded to 1/512 px, which moves no intensity by more than 0.12 of
255.
"""


def draw_dots(frames: UInt8[Tensor, "n chw"], position: Float[Tensor, "n 2"], config: TwoRoomConfig) -> None:
    """Write each dot's own square window of the first channel; everywhere else its intensity rounds to 0."""
    size = config.image_size
    table, offsets, reach = _gaussian(config.dot_std, size, frames.device)
    first = (position - reach).ceil().clamp(0, size - len(offsets))  # the window's first column and row
    distance = ((first - position)[..., None] + offsets).abs()  # (n, 2, window) px
    weight = table[(distance * STEPS_PER_PIXEL).round().clamp(max=len(table) - 1).long()]
    dot = (255.0 * weight[:, 1, :, None] * weight[:, 0, None, :]).add_(0.5).to(torch.uint8)
    window = offsets.long()
    start = (first[:, 1] * size + first[:, 0]).long()
    index = start[:, None] + (window[:, None] * size + window).flatten()
    frames.scatter_(1, index, dot.flatten(1))


@lru_cache(maxsize=16)
def _gaussian(
    std: float, image_size: int, device: torch.device
) -> tuple[Float[Tensor, "k"], Float[Tensor, "window"], float]:
    """The profile exp(-d^2 / 2 std^2) by distance, the offsets of a dot's window in px, and the distance it reaches."""
    reach = std * math.sqrt(2 * math.log(2 * 255))  # beyond, 255 * exp(..) < 0.5 rounds to nothing
    window = min(math.floor(2 * reach) + 2, image_size)
    distance = torch.arange(math.ceil(reach + 1) * STEPS_PER_PIXEL + 1, dtype=torch.float64) / STEPS_PER_PIXEL
    profile = torch.exp(-0.5 * (distance / std) ** 2)
    profile[distance > reach + 0.5] = 0.0
    return profile.float().to(device), torch.arange(window, dtype=torch.float32, device=device), reach
