"""TwoRoom: distractors and colours, laid over the plain picture, the same bytes on every device: levels are whole
numbers in float32, and all that is done with them is exact, or one division.

The plain picture says how much of each pixel is the agent (red) and the wall (green). Floor, pattern and wall come
first, the other dots lie on them, the agent on top; then the camera is shifted; noise is the sensor's, so it is last.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from jepa_actions.envs.counter_hash import bytes_of, hashed, normal_levels
from jepa_actions.envs.two_room_distractors import Colour, Distractors
from jepa_actions.envs.two_room_dots import draw_dots
from jepa_actions.envs.two_room_geometry import TwoRoomConfig
from jepa_actions.envs.two_room_scenery import BACKGROUND, MOTION, NOISE, REST, dot_places, has_scenery
from jepa_actions.errors import ShapeError

COARSE, FINE = 16, 4  # px between the corners of the background's patches, and of the texture's
CHUNK = 32  # frames drawn at once: their planes stay in the cache


def dress(
    plain: UInt8[Tensor, "n 3 h w"], scenery: Tensor | None, distractors: Distractors, config: TwoRoomConfig
) -> UInt8[Tensor, "n 3 h w"]:
    """The pictures with everything that `distractors` says, from plain ones and the sceneries (n, 4) of their states.

    Raises ShapeError for a scenery that is missing.
    """
    if has_scenery(config) and (scenery is None or tuple(scenery.shape) != (len(plain), 4)):
        found = None if scenery is None else tuple(scenery.shape)
        raise ShapeError(f"TwoRoom render, scenery: found {found}, expected ({len(plain)}, 4): distractors are on")
    frames = torch.empty_like(plain)
    for first in range(0, len(plain), CHUNK):
        rows = slice(first, first + CHUNK)
        frames[rows] = _dress(plain[rows], None if scenery is None else scenery[rows], distractors, config)
    return frames


def _dress(
    plain: UInt8[Tensor, "n 3 h w"], scenery: Tensor | None, distractors: Distractors, config: TwoRoomConfig
) -> UInt8[Tensor, "n 3 h w"]:
    device, size = plain.device, config.image_size
    floor = _colour(distractors.floor, device)
    if distractors.texture > 0:
        floor = floor + _texture(distractors.texture, size, device)
    if distractors.background > 0 and scenery is not None:
        bits = hashed(scenery[:, 0, None].long(), BACKGROUND, _counter(3 * _corners(size, COARSE) ** 2, device))
        floor = floor + _pattern(bits, distractors.background, size, COARSE)
    floor = floor.clamp(0, 255).expand(len(plain), 3, size, size)
    picture = torch.where(plain[:, 1:2] > 0, _colour(distractors.walls, device), floor)
    for stream, on in ((REST, distractors.static_dot), (MOTION, distractors.moving_dot)):
        if on and scenery is not None:
            dots = torch.zeros(len(plain), size * size, dtype=torch.uint8, device=device)
            draw_dots(dots, dot_places(scenery, stream, config), config)
            picture = _lay(picture, dots.view(-1, 1, size, size), distractors.dots, floor)
    picture = _lay(picture, plain[:, :1], distractors.agent, floor)
    if distractors.jitter > 0 and scenery is not None:
        picture = _shifted(picture, scenery[:, 2:].long())
    if distractors.noise > 0 and scenery is not None:
        picture = picture + _noise(scenery, distractors.noise, picture)
    return picture.clamp_(0, 255).to(torch.uint8)


def _lay(
    picture: Float[Tensor, "n 3 h w"], dot: UInt8[Tensor, "n 1 h w"], colour: Colour, floor: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 3 h w"]:
    """Add a dot: on the floor it takes the place of the floor's colour, on a wall it adds the same difference, which is
    what the plain picture does."""
    difference = (
        (_colour(colour, picture.device) - floor).mul_(dot).div_(255).round_()
    )  # 2 x 255 halves are odd: no tie
    return difference.add_(picture).clamp_(0, 255)


def _shifted(picture: Float[Tensor, "n 3 h w"], shift: Int[Tensor, "n 2"]) -> Float[Tensor, "n 3 h w"]:
    """Move each picture's content by whole px; the lines and floors at the edges go on."""
    size = picture.shape[-1]
    source = (torch.arange(size, device=picture.device) - shift[..., None]).clamp(0, size - 1)  # (n, 2, size)
    rows = picture.gather(2, source[:, 1, None, :, None].expand(-1, 3, -1, size))
    return rows.gather(3, source[:, 0, None, None, :].expand(-1, 3, size, -1))


def _noise(scenery: Tensor, std: float, picture: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Independent noise of every pixel and channel, a function of key and clock: one hash for four of them."""
    count = picture[0].numel()
    bits = hashed(scenery[:, :1].long(), NOISE, scenery[:, 1:2].long(), _counter(-(-count // 4), picture.device))
    levels = normal_levels(std, picture.device)
    return levels[torch.cat(list(bytes_of(bits)), dim=1)[:, :count]].view_as(picture)


def _pattern(bits: Int[Tensor, "n k"], contrast: float, size: int, cell: int) -> Float[Tensor, "n 3 h w"]:
    """Random colours at the corners of a grid, from 0 to `contrast`, and straight lines between them."""
    corners, index, weight = _grid(size, cell, bits.device)
    lattice = (bits & 255).float().view(-1, 3, corners, corners)
    lattice = lattice[..., index] * (cell - weight) + lattice[..., index + 1] * weight
    lattice = lattice[..., index, :] * (cell - weight[:, None]) + lattice[..., index + 1, :] * weight[:, None]
    return lattice.mul_(round(contrast)).div_(255 * cell * cell).floor_()


@lru_cache(maxsize=8)
def _texture(contrast: float, size: int, device: torch.device) -> Float[Tensor, "1 3 h w"]:
    """The one pattern of every episode."""
    count = 3 * _corners(size, FINE) ** 2
    return _pattern(hashed(_counter(count, device), BACKGROUND)[None], contrast, size, FINE)


def _corners(size: int, cell: int) -> int:
    return -(-size // cell) + 1


@lru_cache(maxsize=8)
def _grid(size: int, cell: int, device: torch.device) -> tuple[int, Int[Tensor, "w"], Float[Tensor, "w"]]:
    """Corners along a side, and for every pixel the corner before it and how far it is from there, px."""
    pixel = torch.arange(size, device=device)
    return _corners(size, cell), pixel // cell, (pixel % cell).float()


@lru_cache(maxsize=8)
def _counter(count: int, device: torch.device) -> Int[Tensor, "k"]:
    return torch.arange(count, device=device)


@lru_cache(maxsize=32)
def _colour(colour: Colour, device: torch.device) -> Float[Tensor, "1 3 1 1"]:
    return torch.tensor(colour, dtype=torch.float32, device=device).view(1, 3, 1, 1)
