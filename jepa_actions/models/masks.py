"""Masks over the tokens of a clip: V-JEPA's multi-block tubes, and a future mask.

V-JEPA's blocks (arXiv 2404.08471, section 3.2) hide a place for the whole clip and so never ask for the future; the
future mask hides every token after a random time. In a `Mask` all samples keep the same number of tokens; where their
masks differ in size, a *random* subset is kept (cutting raster-ordered lists would always drop the last rows). A
`RaggedMask` keeps every token.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from jepa_actions.errors import ConfigError

MASK_KINDS = ("short", "long", "future")


@dataclass(frozen=True)
class BlockSettings:
    """Blocks of one tube mask: how many, the share of the frame each covers, and their aspect ratio."""

    blocks: int
    scale: float
    aspect: tuple[float, float] = (0.75, 1.5)


TUBES = {"short": BlockSettings(8, 0.15), "long": BlockSettings(2, 0.7)}


@dataclass
class Mask:
    """Token numbers that the encoder sees and that the predictor must fill in."""

    kind: str
    visible: Int[Tensor, "b v"]
    target: Int[Tensor, "b m"]


@dataclass
class RaggedMask:
    """A `Mask` whose samples have their own numbers of tokens: together, `visible` and `target` are the whole clip."""

    kind: str
    visible: list[Int[Tensor, "v"]]
    target: list[Int[Tensor, "m"]]


def sample_mask(kind: str, batch: int, grid: tuple[int, int, int], generator: torch.Generator) -> Mask:
    """Draw one mask per sample. Block sizes and the future's start are drawn once per batch, places per sample.

    Args:
        kind: "short", "long" or "future".
        batch: samples.
        grid: token grid (time, rows, columns).
        generator: on the CPU; token numbers are returned on the CPU.

    Raises:
        ConfigError: for an unknown kind, or a future mask over a clip of one time step.
    """
    hidden = _hidden(kind, batch, grid, generator)
    return Mask(kind, _even_subset(~hidden, generator), _even_subset(hidden, generator))


def sample_ragged_mask(kind: str, batch: int, grid: tuple[int, int, int], generator: torch.Generator) -> RaggedMask:
    """Draw one mask per sample as `sample_mask` does, and keep every token of it."""
    hidden = _hidden(kind, batch, grid, generator)
    visible = [(~row).nonzero().flatten() for row in hidden]
    return RaggedMask(kind, visible, [row.nonzero().flatten() for row in hidden])


def _hidden(kind: str, batch: int, grid: tuple[int, int, int], generator: torch.Generator) -> Bool[Tensor, "b n"]:
    steps, rows, cols = grid
    if kind == "future":
        if steps < 2:
            raise ConfigError(
                "future mask: the clip has one time step, at least 2 are needed (more frames, or a smaller tubelet)"
            )
        start = int(torch.randint(1, steps, (), generator=generator))
        return (torch.arange(steps) >= start)[:, None].expand(batch, steps, rows * cols).flatten(1)
    if kind not in TUBES:
        raise ConfigError(f"mask kind: expected one of {', '.join(MASK_KINDS)}, found {kind!r}")
    place = _tube(TUBES[kind], batch, rows, cols, generator)
    return place[:, None].expand(batch, steps, rows * cols).flatten(1)


def _tube(
    settings: BlockSettings, batch: int, rows: int, cols: int, generator: torch.Generator
) -> Bool[Tensor, "b places"]:
    """Union of random blocks of one size, at places of their own in every sample; at least one place stays visible."""
    low, high = settings.aspect
    aspect = low + (high - low) * float(torch.rand((), generator=generator))
    area = settings.scale * rows * cols
    height = min(rows, max(1, round(math.sqrt(area * aspect))))
    width = min(cols, max(1, round(math.sqrt(area / aspect))))
    shape = (batch, settings.blocks, 1)
    top = torch.randint(0, rows - height + 1, shape, generator=generator)
    left = torch.randint(0, cols - width + 1, shape, generator=generator)
    row, col = torch.arange(rows), torch.arange(cols)
    in_rows = (row >= top) & (row < top + height)  # (b, blocks, rows)
    in_cols = (col >= left) & (col < left + width)
    hidden = (in_rows[..., :, None] & in_cols[..., None, :]).any(1).flatten(1)
    keep = torch.randint(0, rows * cols, (batch, 1), generator=generator)
    full = hidden.all(1, keepdim=True)
    return hidden.scatter(1, keep, hidden.gather(1, keep) & ~full)


def _even_subset(member: Bool[Tensor, "b n"], generator: torch.Generator) -> Int[Tensor, "b k"]:
    """As many members of every row as the smallest row has, chosen at random, in ascending order."""
    count = int(member.sum(1).min())
    keys = torch.rand(member.shape, generator=generator).masked_fill(~member, 2.0)
    return keys.argsort(1)[:, :count].sort(1).values


def nearest_visible(
    visible: Int[Tensor, "b v"], target: Int[Tensor, "b m"], kind: str, grid: tuple[int, int]
) -> Int[Tensor, "b m"]:
    """For every hidden token the column of `visible` that is nearest to it.

    For the future mask that is the latest visible token at the same place; for tubes the nearest place at that time.

    Args:
        visible, target: token numbers.
        kind: the mask's kind.
        grid: rows and columns of a frame.
    """
    rows, cols = grid
    places = rows * cols

    def coordinates(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time, place = ids // places, ids % places
        return time, place // cols, place % cols

    t, y, x = (axis[:, :, None].float() for axis in coordinates(target))
    vt, vy, vx = (axis[:, None, :].float() for axis in coordinates(visible))
    space, age = (y - vy) ** 2 + (x - vx) ** 2, (t - vt).abs()
    far = 1e6
    distance = space * far + age if kind == "future" else age * far + space
    return distance.argmin(-1)
