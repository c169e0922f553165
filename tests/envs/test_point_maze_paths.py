"""PointMaze's shortest ways: against a search on a fine lattice, and the axioms of a distance."""

import heapq
import math

import numpy as np
import pytest
import torch

from jepa_actions.envs.point_maze import PointMaze
from jepa_actions.envs.point_maze_geometry import is_free
from jepa_actions.envs.point_maze_layouts import catalogue, cell_distances
from jepa_actions.envs.point_maze_places import place

WORLD = PointMaze()
CONFIG = WORLD.config


def triples(n: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Three random places in each of n random mazes, and the mazes."""
    generator = torch.Generator().manual_seed(seed)
    first, layouts = WORLD.sample(n, "all", generator)
    rest = [place(torch.rand(n, 3, generator=generator), layouts, CONFIG) for _ in range(2)]
    return first, *(torch.cat([p, torch.zeros(n, 2)], dim=-1) for p in rest), layouts


def lattice_ways(maze: int, source: tuple[int, int], ticks: torch.Tensor) -> dict[tuple[int, int], float]:
    """Dijkstra over the lattice of `ticks`, to 16 neighbours: ways at most 2.8 % too long."""
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    free = is_free(grid, torch.full((len(ticks), len(ticks), 1), float(maze)), CONFIG).tolist()
    moves = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if math.gcd(i, j) == 1]
    at = ticks.tolist()
    best, queue = {source: 0.0}, [(0.0, source)]
    while queue:
        length, (x, y) = heapq.heappop(queue)
        if length > best[x, y]:
            continue
        for i, j in moves:
            to = (x + i, y + j)
            if not all(0 <= part < len(at) for part in to):
                continue
            # All points of the move's box: with one of them missing the move could cut a corner.
            if all(
                free[b][a]
                for a in range(min(x, to[0]), max(x, to[0]) + 1)
                for b in range(min(y, to[1]), max(y, to[1]) + 1)
            ):
                new = length + math.dist((at[x], at[y]), (at[to[0]], at[to[1]]))
                if new < best.get(to, math.inf):
                    best[to] = new
                    heapq.heappush(queue, (new, to))
    return best


@pytest.mark.parametrize("maze", [0, 7, 31, 44])
def test_a_way_is_as_short_as_a_search_on_a_fine_lattice_finds(maze: int) -> None:
    free = np.argwhere(~catalogue(CONFIG)[maze])
    row, column = free[len(free) // 3]
    step = 16  # per cell; lines run along the faces that stop the ball, 0.001 away from them
    ticks = torch.arange(6 * step) / step
    ticks += torch.where(ticks % 1 < 0.5, 1e-3, -1e-3)
    source = (int(column) * step + step // 2, int(row) * step + step // 2 - 2)
    ways = lattice_ways(maze, source, ticks)
    points = sorted(ways)[::7]
    to = torch.tensor([[ticks[x], ticks[y], 0.0, 0.0] for x, y in points])
    start = torch.tensor([ticks[source[0]], ticks[source[1]], 0.0, 0.0]).expand(len(to), 4)
    found = WORLD.shortest_path(start, to, torch.full((len(to), 1), float(maze)))
    searched = torch.tensor([ways[point] for point in points])
    assert len(points) > 200
    assert found.max() > 5
    assert (found <= searched + 1e-3).all()  # a lattice way is a way
    assert (searched <= 1.028 * found + 0.02).all()


def test_it_is_a_distance_and_never_below_the_crows_flight() -> None:
    a, b, c, layouts = triples(1500)
    ab, ba = WORLD.shortest_path(a, b, layouts), WORLD.shortest_path(b, a, layouts)
    assert torch.allclose(ab, ba, rtol=0, atol=1e-5)
    assert (WORLD.shortest_path(a, a, layouts) == 0).all()
    assert (ab >= WORLD.distance(a, b)).all()
    round_c = WORLD.shortest_path(a, c, layouts) + WORLD.shortest_path(c, b, layouts)
    assert (ab <= round_c + 2e-3).all()
    assert float((ab > 1.05 * WORLD.distance(a, b)).float().mean()) > 0.4  # walls matter


def test_it_is_straight_within_a_cell_and_goes_round_walls_otherwise() -> None:
    mazes = catalogue(CONFIG)
    a, b, _, layouts = triples(3000, seed=1)
    ways, straight = WORLD.shortest_path(a, b, layouts), WORLD.distance(a, b)
    same = (a[:, :2].floor() == b[:, :2].floor()).all(dim=-1)
    inner = same & ((a[:, :2] - a[:, :2].floor() - 0.5).abs() < 0.2).all(-1)
    inner &= ((b[:, :2] - b[:, :2].floor() - 0.5).abs() < 0.2).all(-1)
    assert inner.sum() > 5
    assert torch.equal(ways[inner], straight[inner])

    cell = [(p[:, 1].floor() * 6 + p[:, 0].floor()).long().tolist() for p in (a, b)]
    moves = [cell_distances(mazes[int(m)])[i, j] for m, i, j in zip(layouts[:, 0], *cell, strict=True)]
    crossed = torch.tensor(moves) - (a[:, :2].floor() - b[:, :2].floor()).abs().sum(-1)
    detour = crossed > 0  # even from cell to cell the way is longer than without walls
    assert detour.sum() > 300
    assert (ways > straight + 0.1)[detour].all()


def test_a_way_round_one_block_by_hand() -> None:
    """Maze 0, block (1, 2): from left of it to above it, round its upper left corner."""
    grid = catalogue(CONFIG)[0]
    assert not grid[2, 0]
    assert grid[2, 1]
    assert not grid[1, 1:4].any()
    assert not grid[2:4, 0].any()
    assert grid[1, 0]
    start, goal = torch.tensor([[0.5, 2.5, 0.0, 0.0]]), torch.tensor([[1.5, 3.5, 0.0, 0.0]])
    assert not grid[3, :3].any()
    corner = (0.75, 3.25)  # the block's lower left corner, a radius away
    by_hand = math.dist((0.5, 2.5), corner) + math.dist(corner, (1.5, 3.5))
    assert float(WORLD.shortest_path(start, goal, torch.zeros(1, 1))) == pytest.approx(by_hand, abs=1e-3)


def test_a_pair_does_not_depend_on_the_batch() -> None:
    a, b, _, layouts = triples(600)
    together = WORLD.shortest_path(a, b, layouts)
    assert together.shape == (600,)
    for i in range(0, 600, 50):
        assert torch.equal(WORLD.shortest_path(a[i : i + 1], b[i : i + 1], layouts[i : i + 1])[0], together[i])
    assert WORLD.shortest_path(a[:0], b[:0], layouts[:0]).shape == (0,)
