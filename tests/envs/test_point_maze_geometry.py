"""PointMaze's mazes and dynamics: the catalogue for ever, walls that hold against any push, exact states."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_actions.envs.point_maze import PointMaze, PointMazeConfig, is_heldout, maze_numbers
from jepa_actions.envs.point_maze_geometry import is_free
from jepa_actions.envs.point_maze_layouts import catalogue, cell_distances
from jepa_actions.errors import ConfigError

WORLD = PointMaze()
CONFIG = WORLD.config


def some(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return WORLD.sample(n, "all", torch.Generator().manual_seed(seed))


def in_wall(positions: torch.Tensor, layouts: torch.Tensor, radius: float) -> torch.Tensor:
    """Whether a square of half-width `radius` reaches into a solid cell, from the catalogue, in float64."""
    solid = np.pad(catalogue(CONFIG), ((0, 0), (1, 1), (1, 1)), constant_values=True)
    place, maze = positions.double().numpy(), layouts[..., 0].long().numpy()
    low, high = np.floor(place - radius).astype(int) + 1, np.floor(place + radius).astype(int) + 1
    rows, columns = (low[..., 1], high[..., 1]), (low[..., 0], high[..., 0])
    return torch.from_numpy(np.stack([solid[maze, row, column] for row in rows for column in columns]).any(0))


def test_the_catalogue_is_the_same_for_ever_and_a_longer_one_begins_with_it() -> None:
    mazes = catalogue(CONFIG)
    assert mazes.shape == (60, 6, 6)
    assert hashlib.sha256(np.packbits(mazes).tobytes()).hexdigest()[:16] == "5e791b69609273b8"
    assert np.array_equal(catalogue(PointMazeConfig(mazes=90))[:60], mazes)


@pytest.mark.parametrize("cells", [5, 6, 7, 8])
def test_mazes_hang_together_have_a_loop_and_differ_also_when_turned_or_mirrored(cells: int) -> None:
    forms = set()
    for grid in catalogue(PointMazeConfig(cells=cells, mazes=60 if cells == 6 else 12)):
        moves = cell_distances(grid)[np.ix_(~grid.flatten(), ~grid.flatten())]
        assert moves.min() == 0  # nothing is out of reach
        assert moves.max() >= 1.5 * cells
        passages = int((moves == 1).sum()) // 2
        squares = int((~(grid[1:, 1:] | grid[1:, :-1] | grid[:-1, 1:] | grid[:-1, :-1])).sum())
        assert passages - len(moves) + 1 - squares >= 1  # loops that go round a wall (Euler)
        sides = [np.rot90(side, turn).tobytes() for side in (grid, grid.T) for turn in range(4)]
        assert not forms.intersection(sides)
        forms.update(sides)


def test_a_fifth_is_held_out_and_the_splits_are_disjoint() -> None:
    train, heldout = maze_numbers("train", CONFIG), maze_numbers("heldout", CONFIG)
    assert heldout == (4, 9, 14, 19, 24, 29, 34, 39, 44, 49, 54, 59)  # for ever
    assert not set(train) & set(heldout)
    assert sorted(train + heldout) == list(maze_numbers("all", CONFIG)) == list(range(60))
    assert all(map(is_heldout, heldout))
    assert not any(map(is_heldout, train))
    with pytest.raises(ConfigError, match="test"):
        maze_numbers("test", CONFIG)  # type: ignore[arg-type]


def test_free_motion_follows_the_stated_law() -> None:
    # From the middle of a cell, no wall is met in two steps.
    rest, layouts = some(64)
    centre = torch.cat([rest[:, :2].floor() + 0.5, torch.zeros(64, 2)], dim=-1)
    push = torch.rand(64, 2, generator=torch.Generator().manual_seed(1)) * 4 - 2
    first = WORLD.step_states(centre, layouts, push)
    velocity = 0.04 * push.clamp(-1, 1)
    assert torch.allclose(first, torch.cat([centre[:, :2] + velocity, velocity], dim=-1), atol=1e-6)
    second = WORLD.step_states(first, layouts, torch.zeros(64, 2))
    assert torch.allclose(second[:, 2:], 0.8 * velocity, atol=1e-7)
    assert torch.allclose(second[:, :2], first[:, :2] + 0.8 * velocity, atol=1e-6)


def test_a_wall_takes_the_velocity_that_met_it_and_leaves_the_other() -> None:
    states, layouts = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.0]])
    start = catalogue(CONFIG)[0]
    assert not start[0, :3].any()  # a corridor to the right, below the border
    for _ in range(8):
        states = WORLD.step_states(states, layouts, torch.tensor([[1.0, -1.0]]))
    x, y, vx, vy = states[0].tolist()
    assert y == pytest.approx(0.25, abs=2e-4)
    assert vy == 0.0
    assert vx == pytest.approx(0.2 * (1 - 0.8**8), abs=1e-6)
    assert x > 1.0
    away = WORLD.step_states(states, layouts, torch.tensor([[0.0, 1.0]]))
    assert float(away[0, 1]) == pytest.approx(y + 0.04, abs=1e-6)  # nothing sticks


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), mode=st.sampled_from(["random", "corner", "shuttle", "spin"]))
def test_no_push_gets_the_ball_into_or_through_a_wall(seed: int, mode: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    states, layouts = some(256, seed)
    states[:, 2:] = (torch.rand(256, 2, generator=generator) * 2 - 1) * CONFIG.max_speed
    side = torch.randint(0, 2, (256, 2), generator=generator) * 2.0 - 1
    for t in range(60):
        noise = torch.randn(256, 2, generator=generator)
        turned = side * (1 if (t // 7) % 2 else -1) if mode == "shuttle" else side
        if mode == "spin":
            turned = 3 * torch.stack([torch.cos(side[:, 0] * t / 5), torch.sin(side[:, 1] * t / 5)], dim=-1)
        reached = WORLD.step_states(states, layouts, 3 * noise if mode == "random" else turned)
        assert is_free(reached[:, :2], layouts, CONFIG).all()
        assert not in_wall(reached[:, :2], layouts, CONFIG.radius).any()
        assert (reached[:, 2:].abs() <= CONFIG.max_speed).all()
        share = torch.linspace(0, 1, 21)[:, None, None]
        between = states[:, :2] * (1 - share) + reached[:, :2] * share
        assert not in_wall(between, layouts.expand(21, -1, -1), CONFIG.radius - 0.1).any()  # a corner is cut by less
        states = reached


def test_walls_hold_at_the_fastest_speed_and_largest_ball_that_are_allowed() -> None:
    world = PointMaze(PointMazeConfig(radius=0.4, max_speed=0.8, gain=0.8, damping=1.0))
    states, layouts = world.sample(500, "all", torch.Generator().manual_seed(0))
    for seed in range(80):
        push = torch.randn(500, 2, generator=torch.Generator().manual_seed(seed)) * 3
        states = world.step_states(states, layouts, push)
        assert is_free(states[:, :2], layouts, world.config).all()
    assert (states[:, :2] - world.sample(500, "all", torch.Generator().manual_seed(0))[0][:, :2]).norm(dim=-1).max() > 2


def test_a_row_of_a_batch_is_the_row_alone_bit_for_bit_and_dimensions_broadcast() -> None:
    states, layouts = some(301)
    states[:, 2:] = 0.1
    fan = torch.randn(301, 5, 2, generator=torch.Generator().manual_seed(0))
    together = WORLD.step_states(states[:, None], layouts[:, None], fan)
    assert together.shape == (301, 5, 4)
    for i in range(0, 301, 20):
        for j in range(5):
            assert torch.equal(WORLD.step_states(states[i], layouts[i], fan[i, j]), together[i, j])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cells": 4}, "cells"),
        ({"mazes": 3}, "mazes"),
        ({"image_size": 38}, "image_size"),
        ({"radius": 0.5}, "radius"),
        ({"damping": 1.1}, "damping"),
        ({"max_speed": 0.6}, "max_speed"),
        ({"ball": (0, 0, 300)}, "ball"),
    ],
)
def test_impossible_worlds_are_refused(change: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PointMazeConfig(**change)  # type: ignore[arg-type]
