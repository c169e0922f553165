"""TwoRoom: frames, batched on any device. Red is the agent, green the walls, blue stays empty.

The same bytes on every device and for every batch size: the Gaussian comes from one table, made once on the CPU, and
all that follows is single, exactly rounded operations. Distractors and other colours are laid over that picture.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.envs.two_room_backdrop import dress
from jepa_actions.envs.two_room_dots import draw_dots
from jepa_actions.envs.two_room_geometry import TwoRoomConfig


def render(
    position: Float[Tensor, "*b 2"],
    wall_x: Float[Tensor, "*b"],
    door_y: Float[Tensor, "*b"],
    config: TwoRoomConfig,
    scenery: Float[Tensor, "*b 4"] | None = None,
) -> UInt8[Tensor, "*b 3 h w"]:
    """Draw each agent and its layout; `h = w = config.image_size`.

    The dot is `255 * exp(-r^2 / (2 * dot_std^2))` rounded to the nearest integer, r the distance of pixel centre and
    position.

    Args:
        position: px; leading dimensions broadcast with those of the layout, so `(b, t, 2)` goes with `(b, 1)`.
        wall_x, door_y: the layout, px.
        scenery: of the distractors, where the configuration has some that need one (`two_room_scenery`).
    Raises ShapeError for a scenery that is missing.
    """
    size, device = config.image_size, position.device
    batch = np.broadcast_shapes(position.shape[:-1], wall_x.shape, door_y.shape)
    frames = torch.zeros((*batch, 3, size, size), dtype=torch.uint8, device=device)
    _draw_walls(frames[..., 1, :, :], wall_x, door_y, config)
    draw_dots(frames.view(-1, 3 * size * size), position.expand(*batch, 2).reshape(-1, 2), config)
    if config.distractors is None:
        return frames
    rows = None if scenery is None else scenery.expand(*batch, 4).reshape(-1, 4)
    return dress(frames.view(-1, 3, size, size), rows, config.distractors, config).view_as(frames)


def _draw_walls(
    green: UInt8[Tensor, "*b h w"], wall_x: Float[Tensor, "*b"], door_y: Float[Tensor, "*b"], config: TwoRoomConfig
) -> None:
    pixel, border = _pixels_and_border(config, green.device)
    columns = ((pixel - wall_x[..., None]).abs() <= config.wall_width // 2).to(torch.uint8).mul_(255)
    rows = ((pixel - door_y[..., None]).abs() > config.door_half_width).to(torch.uint8).mul_(255)
    wall = rows[..., None] & columns[..., None, :]  # per layout: frames that share one copy it below
    green[...] = wall.bitwise_or_(border)  # the lines run on to the edge of the image, as published


@lru_cache(maxsize=16)
def _pixels_and_border(config: TwoRoomConfig, device: torch.device) -> tuple[Float[Tensor, "w"], UInt8[Tensor, "h w"]]:
    border = torch.zeros((config.image_size, config.image_size), dtype=torch.uint8)
    for line in (config.border - 1, config.size - config.border):
        border[line, :] = border[:, line] = 255
    return torch.arange(config.image_size, dtype=torch.float32, device=device), border.to(device)
