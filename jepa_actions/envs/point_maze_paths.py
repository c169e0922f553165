"""PointMaze: the shortest way round the walls, exact up to the margin kept from them.

The ball's centre moves among inflated walls, which are rectangles: a shortest way is straight, or bends at their outer
corners only (a visibility graph). The ways between corners are worked out once per maze; a query adds the corners that
its two ends see.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.point_maze_config import MARGIN, PointMazeConfig
from jepa_actions.envs.point_maze_layouts import Grid, catalogue

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

CHUNK = 256  # queries at a time, so that a table of sight lines stays in the cache
_NOWHERE = 1e6  # fills up the lists of mazes that have fewer corners or walls than others


@dataclass(frozen=True)
class _Corners:
    """Of every maze, float64: the corners, the ways between them, and the inflated walls [x0, y0, x1, y1]."""

    corners: Float[Tensor, "maze k 2"]
    ways: Float[Tensor, "maze k k"]
    walls: Float[Tensor, "maze w 4"]


def shortest_path(
    starts: Float[Tensor, "n 2"], goals: Float[Tensor, "n 2"], layouts: Float[Tensor, "n 1"], config: PointMazeConfig
) -> Float[Tensor, "n"]:
    """Length in cells of the shortest way of the ball's centre, blind to velocity.

    Exact but for MARGIN: corners are passed 1e-4 cells further out than the ball could, which makes a way at most
    2e-4 cells too long per bend (below 0.1 % of any way with a bend that is longer than a cell).
    """
    table = _corners(config, starts.device)
    found = [
        _lengths(a.double(), b.double(), maze[:, 0].long(), table)
        for a, b, maze in zip(starts.split(CHUNK), goals.split(CHUNK), layouts.split(CHUNK), strict=True)
    ]
    straight = (goals - starts).square().sum(dim=-1).sqrt()
    return torch.cat([straight[:0], *found]).to(straight).maximum(straight)  # rounding never makes it shorter


def _lengths(
    starts: Float[Tensor, "n 2"], goals: Float[Tensor, "n 2"], maze: Tensor, table: _Corners
) -> Float[Tensor, "n"]:
    walls, corners = table.walls[maze], table.corners[maze]
    ends = torch.stack([starts, goals], dim=1)  # (n, 2, 2)
    legs = (corners[:, None] - ends[:, :, None]).square().sum(dim=-1).sqrt()  # (n, end, corner)
    seen = _sees(ends[:, :, None], corners[:, None], walls[:, None, None])
    legs = torch.where(seen, legs, torch.inf)
    round_ = (legs[:, 0, :, None] + table.ways[maze] + legs[:, 1, None, :]).amin(dim=(1, 2))
    straight = (goals - starts).square().sum(dim=-1).sqrt()
    return torch.where(_sees(starts, goals, walls), straight, round_)


def _sees(start: Float[Tensor, "*b 2"], end: Float[Tensor, "*b 2"], walls: Float[Tensor, "*b w 4"]) -> torch.Tensor:
    """Whether a line segment keeps out of the inside of every wall (the slab test)."""
    origin, way = start[..., None, :], (end - start)[..., None, :]
    # Along a face, 0 / 0 is NaN: fmin and fmax read it as "no limit".
    low, high = (walls[..., :2] - origin) / way, (walls[..., 2:] - origin) / way
    enter = torch.fmin(low, high).amax(dim=-1).clamp(min=0.0)
    leave = torch.fmax(low, high).amin(dim=-1).clamp(max=1.0)
    return (enter >= leave).all(dim=-1)


@lru_cache(maxsize=8)
def _corners(config: PointMazeConfig, device: torch.device) -> _Corners:
    mazes = catalogue(config)
    places = [_outer_corners(grid, config.radius + MARGIN) for grid in mazes]
    corners, walls = (_filled(rows) for rows in (places, [_walls(grid, config.radius) for grid in mazes]))
    sight = _sees(corners[:, :, None], corners[:, None], walls[:, None, None])
    ways = (corners[:, :, None] - corners[:, None]).square().sum(dim=-1).sqrt()
    ways = torch.where(sight, ways, torch.inf)
    for via in range(ways.shape[1]):  # Floyd and Warshall
        ways = torch.minimum(ways, ways[:, :, via, None] + ways[:, None, via])
    return _Corners(corners.to(device), ways.to(device), walls.to(device))


def _filled(rows: list[Numbers]) -> Float[Tensor, "maze k c"]:
    table = np.full((len(rows), max(map(len, rows)), rows[0].shape[1]), _NOWHERE)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(table)


def _walls(grid: Grid, radius: float) -> Numbers:
    """Solid cells, `radius` larger on every side. Cells beside each other overlap, so nothing slips between."""
    row, column = np.nonzero(grid)
    return np.stack([column - radius, row - radius, column + 1 + radius, row + 1 + radius], axis=-1)


def _outer_corners(grid: Grid, away: float) -> Numbers:
    """Where one solid cell meets three free ones: the point `away` from it along both axes."""
    solid = np.pad(grid, 1, constant_values=True)
    found = []
    for y in range(1, len(grid)):
        for x in range(1, len(grid)):
            around = solid[y : y + 2, x : x + 2]
            if around.sum() == 1:
                row, column = (int(part[0]) for part in np.nonzero(around))
                found.append([x + (away if column == 0 else -away), y + (away if row == 0 else -away)])
    return np.array(found, dtype=np.float64).reshape(-1, 2)
