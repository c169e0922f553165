"""TwoRoom: the shortest way from one place to another."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.envs.two_room_geometry import TwoRoomConfig


def shortest_path(
    start: Float[Tensor, "n 2"],
    goal: Float[Tensor, "n 2"],
    wall_x: Float[Tensor, "n"],
    door_y: Float[Tensor, "n"],
    config: TwoRoomConfig,
) -> Float[Tensor, "n"]:
    """Length in px of the shortest way from start to goal: straight, or through the door.

    Exact where a straight line leads through the opening. Elsewhere the way crosses both faces of the wall somewhere in
    the opening; the crossings are searched on a grid of 0.25 px, so the length is at most 0.02 px too long for who is a
    pixel or more from the wall. Who stands in the doorway crosses one face or none.
    """
    straight = (goal - start).norm(dim=-1)
    half = config.wall_width / 2
    clear = (_side(start, wall_x, half) == _side(goal, wall_x, half)) | _sees(start, goal, wall_x, door_y, config)
    opening = torch.linspace(-config.door_half_width, config.door_half_width, 8 * config.door_half_width + 1)
    y = door_y[:, None] + opening.to(start)
    near, far = (_crossings(place, y, wall_x, half) for place in (start, goal))
    first = (near - start[:, None]).norm(dim=-1)
    middle = (far[:, None] - near[:, :, None]).norm(dim=-1)
    last = (goal[:, None] - far).norm(dim=-1)
    through = (first[:, :, None] + middle + last[:, None]).amin(dim=(1, 2))
    return torch.where(clear, straight, through)


def _sees(
    start: Float[Tensor, "n 2"],
    goal: Float[Tensor, "n 2"],
    wall_x: Float[Tensor, "n"],
    door_y: Float[Tensor, "n"],
    config: TwoRoomConfig,
) -> Bool[Tensor, "n"]:
    """Whether the straight line crosses every face that lies between in the opening."""
    half = config.wall_width / 2
    faces = torch.stack([wall_x - half, wall_x + half], dim=-1)
    at = (faces - start[:, :1]) / (goal - start)[:, :1]  # 0 / 0 and beyond the line: not crossed
    y = start[:, 1:] + at * (goal - start)[:, 1:]
    return (~((at > 0) & (at < 1)) | ((y - door_y[:, None]).abs() <= config.door_half_width)).all(dim=-1)


def _side(place: Float[Tensor, "n 2"], wall_x: Float[Tensor, "n"], half: float) -> Float[Tensor, "n"]:
    """-1 left of the wall, 1 right of it, 0 in the doorway."""
    return (place[:, 0] > wall_x + half).float() - (place[:, 0] < wall_x - half).float()


def _crossings(
    place: Float[Tensor, "n 2"], y: Float[Tensor, "n k"], wall_x: Float[Tensor, "n"], half: float
) -> Float[Tensor, "n k 2"]:
    """Where a way from here may cross the near face of the wall; here itself for who is in the doorway."""
    side = _side(place, wall_x, half)
    face = torch.stack([(wall_x + side * half)[:, None].expand_as(y), y], dim=-1)
    return torch.where((side == 0)[:, None, None], place[:, None].expand_as(face), face)
