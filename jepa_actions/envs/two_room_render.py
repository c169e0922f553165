"""TwoRoom: frames, batched on any device. Red is the agent, green the walls, blue stays empty.

The same bytes on every device and for every batch size: the Gaussian comes from one table, made once on the CPU, and
all that follows is single, exactly rounded operations.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.envs.two_room_geometry import TwoRoomConfig

STEPS_PER_PIXEL = 512
"""Resolution of the Gaussian's table: a position is rounded to 1/512 px, which moves no intensity by more than 0.12 of
255.
"""


def render(
    position: Float[Tensor, "*b 2"], wall_x: Float[Tensor, "*b"], door_y: Float[Tensor, "*b"], config: TwoRoomConfig
) -> UInt8[Tensor, "*b 3 h w"]:
    """Draw each agent and its layout; `h = w = config.image_size`.

    The dot is `255 * exp(-r^2 / (2 * dot_std^2))` rounded to the nearest integer, r the distance of pixel centre and
    position.

    Args:
        position: px; leading dimensions broadcast with those of the layout, so `(b, t, 2)` goes with `(b, 1)`.
        wall_x, door_y: the layout, px.
    """
    size, device = config.image_size, position.device
    batch = np.broadcast_shapes(position.shape[:-1], wall_x.shape, door_y.shape)
    frames = torch.zeros((*batch, 3, size, size), dtype=torch.uint8, device=device)
    _draw_walls(frames[..., 1, :, :], wall_x, door_y, config)
    _draw_dots(frames.view(-1, 3 * size * size), position.expand(*batch, 2).reshape(-1, 2), config)
    return frames


def _draw_walls(
    green: UInt8[Tensor, "*b h w"], wall_x: Float[Tensor, "*b"], door_y: Float[Tensor, "*b"], config: TwoRoomConfig
) -> None:
    pixel, border = _pixels_and_border(config, green.device)
    columns = ((pixel - wall_x[..., None]).abs() <= config.wall_width // 2).to(torch.uint8).mul_(255)
    rows = ((pixel - door_y[..., None]).abs() > config.door_half_width).to(torch.uint8).mul_(255)
    wall = rows[..., None] & columns[..., None, :]  # per layout: frames that share one copy it below
    green[...] = wall.bitwise_or_(border)  # the lines run on to the edge of the image, as published


def _draw_dots(frames: UInt8[Tensor, "n chw"], position: Float[Tensor, "n 2"], config: TwoRoomConfig) -> None:
    """Write each dot's own square window of the red channel; everywhere else its intensity rounds to 0."""
    size = config.image_size
    table, offsets, reach = _gaussian(config, frames.device)
    first = (position - reach).ceil().clamp(0, size - len(offsets))  # the window's first column and row
    distance = ((first - position)[..., None] + offsets).abs()  # (n, 2, window) px
    weight = table[(distance * STEPS_PER_PIXEL).round().clamp(max=len(table) - 1).long()]
    dot = (255.0 * weight[:, 1, :, None] * weight[:, 0, None, :]).add_(0.5).to(torch.uint8)
    window = offsets.long()
    start = (first[:, 1] * size + first[:, 0]).long()
    index = start[:, None] + (window[:, None] * size + window).flatten()
    frames.scatter_(1, index, dot.flatten(1))


@lru_cache(maxsize=16)
def _pixels_and_border(config: TwoRoomConfig, device: torch.device) -> tuple[Float[Tensor, "w"], UInt8[Tensor, "h w"]]:
    border = torch.zeros((config.image_size, config.image_size), dtype=torch.uint8)
    for line in (config.border - 1, config.size - config.border):
        border[line, :] = border[:, line] = 255
    return torch.arange(config.image_size, dtype=torch.float32, device=device), border.to(device)


@lru_cache(maxsize=16)
def _gaussian(config: TwoRoomConfig, device: torch.device) -> tuple[Float[Tensor, "k"], Float[Tensor, "window"], float]:
    """The profile exp(-d^2 / 2 std^2) by distance, the offsets of a dot's window in px, and the distance it reaches."""
    reach = config.dot_std * math.sqrt(2 * math.log(2 * 255))  # beyond, 255 * exp(..) < 0.5 rounds to nothing
    window = min(math.floor(2 * reach) + 2, config.image_size)
    distance = torch.arange(math.ceil(reach + 1) * STEPS_PER_PIXEL + 1, dtype=torch.float64) / STEPS_PER_PIXEL
    profile = torch.exp(-0.5 * (distance / config.dot_std) ** 2)
    profile[distance > reach + 0.5] = 0.0
    return profile.float().to(device), torch.arange(window, dtype=torch.float32, device=device), reach
