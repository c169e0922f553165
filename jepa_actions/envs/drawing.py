"""Flat shapes with smooth edges, batched in torch on any device: what the simulators with extras draw their states
with, the same on every machine and without a graphics driver.

A shape is its signed distance in pixels, negative inside; a pixel whose centre lies on the edge takes half the colour.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Colour = tuple[int, int, int]  # RGB, 0 to 255
CHUNK = 64  # frames that are drawn at once: a shape's plane of them stays in the cache


class Canvas:
    """n square pictures of one colour. Points are in the unit of the world; `view` tells the edges of the picture."""

    def __init__(
        self, n: int, size: int, background: Colour, view: tuple[float, float, float, float], device: torch.device
    ) -> None:
        """`view`: x of the left edge, y of the top edge, x of the right edge, y of the bottom edge."""
        left, top, right, bottom = view
        self.scale = size / (right - left)  # pixels per unit
        centre = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
        self._x = left + centre * (right - left)  # (w,)
        self._y = (top + centre * (bottom - top))[:, None]  # (h, 1)
        colour = torch.tensor(background, dtype=torch.float32, device=device)
        self._pixels = colour[:, None, None].repeat(n, 1, size, size)

    def local(
        self, origin: Float[Tensor, "n 2"], angle: Float[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        """Every pixel's coordinates in a frame with this origin, its x axis turned by `angle` rad from x towards y."""
        dx, dy = self._x - origin[:, 0, None, None], self._y - origin[:, 1, None, None]
        cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
        return dx * cos + dy * sin, dy * cos - dx * sin

    def paint(self, distance: Float[Tensor, "n h w"], colour: Colour) -> None:
        """Lay a shape over the pictures. `distance`: signed, in the unit of the world."""
        cover = (0.5 - distance * self.scale).clamp_(0, 1)[:, None]
        ink = torch.tensor(colour, dtype=torch.float32, device=distance.device)[:, None, None]
        self._pixels.lerp_(ink.expand_as(self._pixels), cover.expand_as(self._pixels))

    def repeat(self, n: int) -> None:
        """Make n pictures of one: what is the same in all of them is then painted once."""
        self._pixels = self._pixels.repeat(n, 1, 1, 1)

    def frames(self) -> UInt8[Tensor, "n 3 h w"]:
        """The pictures, rounded to the nearest integer; the last call on a canvas."""
        return self._pixels.add_(0.5).to(torch.uint8)

    def disc(self, centre: Float[Tensor, "n 2"], radius: float) -> Float[Tensor, "n h w"]:
        """Signed distance to a disc."""
        return _norm(self._x - centre[:, 0, None, None], self._y - centre[:, 1, None, None]) - radius


def capsule(x: Tensor, y: Tensor, length: float, radius: float) -> Tensor:
    """Signed distance to the points within `radius` of the segment from (0, 0) to (`length`, 0)."""
    return _norm(x - x.clamp(0, length), y) - radius


def box(x: Tensor, y: Tensor, low: Sequence[float], high: Sequence[float]) -> Tensor:
    """Signed distance to the box between two corners, [x, y] each."""
    dx = (x - (low[0] + high[0]) / 2).abs() - (high[0] - low[0]) / 2
    dy = (y - (low[1] + high[1]) / 2).abs() - (high[1] - low[1]) / 2
    return _norm(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def _norm(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt_()  # three times as quick as torch.hypot


def in_chunks(
    draw: Callable[[Float[Tensor, "n s"]], UInt8[Tensor, "n 3 h w"]], states: Float[Tensor, "*b s"], size: int
) -> UInt8[Tensor, "*b 3 h w"]:
    """Draw any number of states, `CHUNK` at a time."""
    rows = states.reshape(-1, states.shape[-1])
    frames = torch.empty((len(rows), 3, size, size), dtype=torch.uint8, device=states.device)
    for first in range(0, len(rows), CHUNK):
        frames[first : first + CHUNK] = draw(rows[first : first + CHUNK])
    return frames.reshape(*states.shape[:-1], 3, size, size)
