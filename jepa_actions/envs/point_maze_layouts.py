"""PointMaze: the numbered catalogue of mazes, the same for ever, and which of them are held out."""

from collections.abc import Iterator
from functools import lru_cache
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from jepa_actions.envs.point_maze_config import PointMazeConfig
from jepa_actions.envs.world import Split
from jepa_actions.errors import ConfigError

Grid = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

CATALOGUE_KEY = 5002  # of the random stream that draws the mazes
OPEN_SQUARES = 3  # a maze has at most this many free blocks of 2 x 2 cells: it is made of corridors
DETOUR = 1.5  # the longest of all shortest ways between two cells has at least this many times `cells` moves


def is_heldout(maze: int) -> bool:
    """Whether a maze is held out, for ever: one in five."""
    return maze % 5 == 4


@lru_cache(maxsize=16)
def maze_numbers(split: Split, config: PointMazeConfig) -> tuple[int, ...]:
    """The mazes of a split, ascending; `train` and `heldout` are disjoint and make up `all`.

    Raises ConfigError for an unknown split.
    """
    if split not in get_args(Split):
        raise ConfigError(f"PointMaze split: found {split!r}, expected one of {', '.join(get_args(Split))}")
    return tuple(m for m in range(config.mazes) if split == "all" or is_heldout(m) == (split == "heldout"))


@lru_cache(maxsize=8)
def catalogue(config: PointMazeConfig) -> Grid:
    """Every maze's solid cells, (mazes, row, column); read-only. A pure function of `cells` and `mazes`.

    Free cells hang together by their sides, some wall stands free so that there is a loop around it, and no two mazes
    are equal, also when turned or mirrored: a held-out maze is no training maze seen from another side.
    """
    grids: list[Grid] = []
    seen: set[bytes] = set()
    for grid in _candidates(config.cells):
        form = min(np.rot90(side, turn).tobytes() for side in (grid, grid.T) for turn in range(4))
        if form not in seen:
            seen.add(form)
            grids.append(grid)
            if len(grids) == config.mazes:
                break
    mazes = np.stack(grids)
    mazes.setflags(write=False)
    return mazes


@lru_cache(maxsize=16)
def solid_table(config: PointMazeConfig, device: torch.device) -> Bool[Tensor, "cell"]:
    """Solid cells of all mazes with their border, flat: maze, row + 1, column + 1, of `cells + 2` rows and columns."""
    return (
        torch.from_numpy(np.pad(catalogue(config), ((0, 0), (1, 1), (1, 1)), constant_values=True)).flatten().to(device)
    )


def _candidates(cells: int) -> Iterator[Grid]:
    """Random mazes that meet the catalogue's rules, for ever. Raw words only: numpy promises their stream, not more.

    Cells become solid in a random order, unless the free ones would fall apart, until there are enough. A set of cells
    is a whole number of `cells + 2` bits per row, border included: a hundred times faster than arrays this small.
    """
    words = np.random.Philox(key=np.array([CATALOGUE_KEY, cells], dtype=np.uint64))
    area, width = cells * cells, cells + 2
    bits = [1 << ((row + 1) * width + column + 1) for row in range(cells) for column in range(cells)]
    everywhere = sum(bits)
    while True:
        order = np.argsort(words.random_raw(area), kind="stable").tolist()
        left = round(0.3 * area) + int(words.random_raw()) % (area // 9 + 1)
        free = everywhere
        for cell in order:
            if left and _connected(free & ~bits[cell], width):
                free &= ~bits[cell]
                left -= 1
        if left == 0 and _fits(free, cells):
            yield np.array([not free & bit for bit in bits]).reshape(cells, cells)


def _fits(free: int, cells: int) -> bool:
    """Whether a maze is made of corridors, with a wall that stands free, and with a long way between two cells."""
    width = cells + 2
    if (free & free >> 1 & free >> width & free >> (width + 1)).bit_count() > OPEN_SQUARES:
        return False
    walls = ((1 << width * width) - 1) & ~free
    if _connected(walls, width, corners=True):
        return False
    ends = (1 << place for place in range(width * width) if free >> place & 1)
    return max(_flood(end, free, width)[1] for end in ends) >= DETOUR * cells


def _flood(reached: int, region: int, width: int, corners: bool = False) -> tuple[int, int]:
    """All of a region that hangs together with `reached`, by sides or also by corners, and the moves that it takes."""
    moves = 0
    while True:
        beside = reached | reached << 1 | reached >> 1
        across = beside if corners else reached
        grown = (beside | across << width | across >> width) & region
        if grown == reached:
            return reached, moves
        reached, moves = grown, moves + 1


def _connected(region: int, width: int, corners: bool = False) -> bool:
    return _flood(region & -region, region, width, corners)[0] == region


def cell_distances(grid: Grid) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Moves between the cells of one maze, side to side; -1 where either is solid. (area, area), row-major cells."""
    area, rows = grid.size, len(grid)
    row, column = np.divmod(np.arange(area), rows)
    apart = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    free = ~grid.flatten()
    step = ((apart == 1) & free[:, None] & free).astype(np.float32)
    reached = np.diag(free).astype(np.float32)
    moves = np.where(reached > 0, 0, -1)
    for count in range(1, area):
        reached = ((reached + reached @ step) > 0).astype(np.float32)
        new = (reached > 0) & (moves < 0)
        if not new.any():
            break
        moves[new] = count
    return moves
