"""TwoRoom: the published geometry, and how a displacement ends where its path meets a wall.

Coordinates. The world is `size` = 65 pixels wide and high; a position is `[x, y]` in pixel-index units: pixel `i` has
its centre at coordinate `i` and covers `[i - 0.5, i + 0.5)`; x grows to the right (columns) and y downwards (rows). The
image shows the pixels `0 .. image_size - 1` = 0 .. 63, one to one: the last row and column of the world are cut off.
They lie outside the border wall, where nothing is ever drawn.

Walls are solid where they are drawn. The border wall is the 5th pixel line from each edge (pixels 4 and 60), so that
its inner faces are at 4.5 and 59.5. The vertical wall has the columns `wall_x - 1 .. wall_x + 1`, hence faces at
`wall_x - 1.5` and `wall_x + 1.5`; its door is open where `|y - door_y| < 4`, drawn as the rows
`door_y - 4 .. door_y + 4`. The agent is a point: the centre of its dot.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.envs.two_room_distractors import Distractors
from jepa_actions.errors import ConfigError

MARGIN = 1e-3
"""px kept between a stopped agent and the wall it met: far above float32 rounding (4e-6 at 60), far below anything
visible.
"""


@dataclass(frozen=True)
class TwoRoomConfig:
    """Geometry of TwoRoom, all in px. Source: the "wall" task of eb_jepa, PLDM and DINO-WM.

    Raises ConfigError when walls, door and image cannot fit together.
    """

    size: int = 65
    image_size: int = 64
    dot_std: float = 1.3
    border: int = 5  # the border wall is the 5th pixel line from each edge
    wall_width: int = 3
    door_half_width: int = 4
    wall_padding: int = 20  # wall_x is an integer in [20, 44]
    door_padding: int = 10  # door_y is an integer in [10, 54]
    max_step: float = 2.45  # the environment clips the norm of an action to this
    wall_x: int | None = None  # None: random per layout; an integer: fixed
    door_y: int | None = None
    success_radius: float = 4.5
    # What pictures show beside agent and walls. Not in the text: of that, fingerprints of the plain room are made.
    distractors: Distractors | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.size - self.border < self.image_size <= self.size:
            raise ConfigError(
                f"TwoRoomConfig.image_size: found {self.image_size}, expected {self.size - self.border + 1} to "
                f"{self.size} (an image shows the first pixels of the world, both border walls included)"
            )
        if self.wall_width < 1 or self.wall_width % 2 == 0:
            raise ConfigError(f"TwoRoomConfig.wall_width: found {self.wall_width}, expected an odd number of px")
        if min(self.dot_std, self.max_step, self.success_radius, self.border, self.door_half_width) <= 0:
            raise ConfigError(
                "TwoRoomConfig: dot_std, max_step, success_radius, border and door_half_width must be positive, found "
                f"{self.dot_std}, {self.max_step}, {self.success_radius}, {self.border} and {self.door_half_width}"
            )
        walls, doors = self.wall_range, self.door_range
        half = self.wall_width / 2
        if len(walls) == 0 or walls[0] - half <= self.low or walls[-1] + half >= self.high:
            raise ConfigError(
                f"TwoRoomConfig.wall_x: {walls} does not leave a room on both sides, between {self.low} and {self.high}"
            )
        half = self.door_half_width
        if len(doors) == 0 or doors[0] - half < self.low or doors[-1] + half > self.high:
            raise ConfigError(
                f"TwoRoomConfig.door_y: a door of half-width {self.door_half_width} at {doors} leaves the room, "
                f"which is between {self.low} and {self.high}"
            )

    @property
    def low(self) -> float:
        """Inner face of the left and of the upper border wall, px."""
        return self.border - 0.5

    @property
    def high(self) -> float:
        """Inner face of the right and of the lower border wall, px."""
        return self.size - self.border - 0.5

    @property
    def wall_range(self) -> range:
        """Every wall_x a layout may have."""
        return _choices(self.wall_x, self.wall_padding, self.size)

    @property
    def door_range(self) -> range:
        """Every door_y a layout may have."""
        return _choices(self.door_y, self.door_padding, self.size)


def _choices(fixed: int | None, padding: int, size: int) -> range:
    return range(padding, size - padding) if fixed is None else range(fixed, fixed + 1)


def move(
    position: Float[Tensor, "*b 2"],
    action: Float[Tensor, "*b 2"],
    wall_x: Float[Tensor, "*b"],
    door_y: Float[Tensor, "*b"],
    config: TwoRoomConfig,
) -> tuple[Float[Tensor, "*b 2"], Bool[Tensor, "*b"]]:
    """Displace the agent along a straight path, up to the first wall: it stops there and does not slide.

    A pure function, elementwise over any leading dimensions that broadcast, so a row never depends on the others.

    Args:
        position: free starting points (see `is_free`), px.
        action: displacements, px; a norm above `config.max_step` is scaled down to it.
        wall_x, door_y: the layout, px.
    Returns:
        The new positions, at least `MARGIN` from every wall, and whether a wall cut the path short.
    """
    px, py = (part.contiguous() for part in position.unbind(-1))
    ax, ay = (part.contiguous() for part in action.unbind(-1))
    scale = (config.max_step / (ax * ax + ay * ay).sqrt()).clamp(max=1.0)  # a zero action divides to inf, clamped to 1
    dx, dy = ax * scale, ay * scale
    low, high = config.low + MARGIN, config.high - MARGIN
    left, right, top, bottom = _faces(wall_x, door_y, config)

    # Times are in units of the whole displacement. 0 / 0 (standing on a face, moving along it) is NaN; fmax, fmin and
    # `<` read it as "never".
    t_border = torch.fmin(torch.fmax((low - px) / dx, (high - px) / dx), torch.fmax((low - py) / dy, (high - py) / dy))
    # The wall is the strip left < x < right without the band top <= y <= bottom of its door. A path meets it where it
    # enters the strip outside of the band, or else where it leaves the band inside of the strip.
    t_left, t_right = (left - px) / dx, (right - px) / dx
    enter = torch.minimum(t_left, t_right).clamp(min=0.0)
    leave = torch.maximum(t_left, t_right).clamp(max=1.0)
    y_enter = py + enter * dy
    t_door = torch.maximum(torch.fmax((top - py) / dy, (bottom - py) / dy), enter)
    t_wall = torch.where((y_enter >= top) & (y_enter <= bottom), t_door, enter)
    t = torch.fmin(t_border, torch.where(t_wall < leave, t_wall, 1.0)).clamp(0.0, 1.0)

    qx, qy = _settle(px + t * dx, py + t * dy, wall_x, door_y, config)
    return torch.stack([qx, qy], dim=-1), t < 1.0


def _faces(
    wall_x: Float[Tensor, "*b"], door_y: Float[Tensor, "*b"], config: TwoRoomConfig
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"], Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Where the agent stops: left and right of the wall, above and below inside of the door."""
    half_wall, half_door = config.wall_width / 2 + MARGIN, config.door_half_width - MARGIN
    return wall_x - half_wall, wall_x + half_wall, door_y - half_door, door_y + half_door


def _settle(
    x: Float[Tensor, "*b"],
    y: Float[Tensor, "*b"],
    wall_x: Float[Tensor, "*b"],
    door_y: Float[Tensor, "*b"],
    config: TwoRoomConfig,
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Undo rounding: a point that lies behind a stopping face by some 1e-6 px is put on it, so that it can leave
    again.
    """
    left, right, top, bottom = _faces(wall_x, door_y, config)
    deep_x = torch.minimum(x - left, right - x)
    deep_y = torch.maximum(top - y, y - bottom)
    inside = torch.minimum(deep_x, deep_y) > 0
    sideways = deep_x <= deep_y
    x = torch.where(inside & sideways, torch.where(x < wall_x, left, right), x)
    y = torch.where(inside & ~sideways, torch.where(y < door_y, top, bottom), y)
    low, high = config.low + MARGIN, config.high - MARGIN
    return x.clamp(low, high), y.clamp(low, high)


def is_free(
    position: Float[Tensor, "*b 2"], wall_x: Float[Tensor, "*b"], door_y: Float[Tensor, "*b"], config: TwoRoomConfig
) -> Bool[Tensor, "*b"]:
    """Whether the agent can be at `position` (px): inside of the border, and not in the wall nor within MARGIN of
    them.
    """
    x, y = position.unbind(-1)
    left, right, top, bottom = _faces(wall_x, door_y, config)
    # Python floats compare as float32 here; half a margin of slack accepts every point `move` returns.
    low, high = config.low + MARGIN / 2, config.high - MARGIN / 2
    within = (x >= low) & (x <= high) & (y >= low) & (y <= high)
    return within & ~((x > left) & (x < right) & ((y < top) | (y > bottom)))


def is_success(
    position: Float[Tensor, "*b 2"], goal: Float[Tensor, "*b 2"], config: TwoRoomConfig
) -> Bool[Tensor, "*b"]:
    """Whether `position` is within `config.success_radius` (4.5 px, Euclidean) of `goal`."""
    dx, dy = (position - goal).unbind(-1)
    return dx * dx + dy * dy <= math.pow(config.success_radius, 2)


def same_room(
    position: Float[Tensor, "*b 2"], other: Float[Tensor, "*b 2"], wall_x: Float[Tensor, "*b"]
) -> Bool[Tensor, "*b"]:
    """Whether two positions (px) are on one side of the wall's middle line; inside of the door the nearer room
    counts.
    """
    return (position[..., 0] < wall_x) == (other[..., 0] < wall_x)
