"""TwoRoom: which wall and door combinations are for training, which are held out, and where an agent may start."""

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.envs.two_room_geometry import MARGIN, TwoRoomConfig
from jepa_actions.errors import ConfigError

LayoutSplit = Literal["train", "heldout", "all"]


def is_heldout(wall_x: int, door_y: int) -> bool:
    """Whether a combination is held out, for ever: one in ten, evenly spread, four or five doors of every wall."""
    return (3 * wall_x + door_y) % 10 == 0


@lru_cache(maxsize=64)
def layout_table(split: LayoutSplit, config: TwoRoomConfig) -> tuple[tuple[int, int], ...]:
    """Every `(wall_x, door_y)` of a split, in a fixed order.

    `train` and `heldout` are disjoint and make up `all`. A configuration with one fixed layout trains on it.

    Raises:
        ConfigError: the split is unknown, or the configuration leaves nothing in it.
    """
    if split not in get_args(LayoutSplit):
        raise ConfigError(f"TwoRoom layouts: found {split!r}, expected one of {', '.join(get_args(LayoutSplit))}")
    pairs = tuple((x, y) for x in config.wall_range for y in config.door_range)
    chosen: tuple[tuple[int, int], ...]
    if len(pairs) == 1:
        chosen = () if split == "heldout" else pairs
    else:
        chosen = tuple(pair for pair in pairs if split == "all" or is_heldout(*pair) == (split == "heldout"))
    if not chosen:
        raise ConfigError(f"TwoRoom layouts: no {split!r} layout among the {len(pairs)} that this configuration allows")
    return chosen


def sample_layouts(
    n: int, split: LayoutSplit, generator: torch.Generator, config: TwoRoomConfig
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Draw n layouts uniformly from a split: integer-valued float32 wall_x and door_y, px, on the generator's
    device.
    """
    table = torch.tensor(layout_table(split, config), dtype=torch.float32, device=generator.device)
    chosen = table[torch.randint(len(table), (n,), generator=generator, device=generator.device)]
    return chosen[:, 0].contiguous(), chosen[:, 1].contiguous()


def sample_positions(
    wall_x: Float[Tensor, "*b"],
    door_y: Float[Tensor, "*b"],
    generator: torch.Generator,
    config: TwoRoomConfig,
    right: Bool[Tensor, "*b"] | None = None,
) -> Float[Tensor, "*b 2"]:
    """Draw a free position (px) per layout, uniform over the two rooms; the doorway, 2 % of the floor, is left out.

    `right` restricts the draw to the right (True) or the left (False) room. `door_y` has no influence; it completes the
    layout.
    """
    shape = np.broadcast_shapes(wall_x.shape, door_y.shape)
    unit = torch.rand((*shape, 2), generator=generator, device=generator.device).to(wall_x.device)
    return place(unit, wall_x, config, right)


def place(
    unit: Float[Tensor, "*b 2"],
    wall_x: Float[Tensor, "*b"],
    config: TwoRoomConfig,
    right: Bool[Tensor, "*b"] | None = None,
) -> Float[Tensor, "*b 2"]:
    """Map numbers in [0, 1) to positions, px: of both rooms by their width, or of the room that `right` names."""
    margin = 2 * MARGIN  # one for the stopping face, one so that rounding cannot reach it
    low, high = config.low + margin, config.high - margin
    left_end, right_start = wall_x - (config.wall_width / 2 + margin), wall_x + (config.wall_width / 2 + margin)
    if right is None:
        along = unit[..., 0] * (left_end - low + high - right_start)
        x = torch.where(along < left_end - low, low + along, right_start + (along - (left_end - low)))
    else:
        start, end = torch.where(right, right_start, low), torch.where(right, high, left_end)
        x = start + unit[..., 0] * (end - start)
    return torch.stack([x, low + unit[..., 1] * (high - low)], dim=-1)
