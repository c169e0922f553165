"""PointMaze's dynamics: a ball with velocity that walls stop, one axis at a time.

Walls stop the ball's bounding square, so that the free places of its centre are cells without a frame of `radius`
along their walls. Within a substep the ball first moves along x, up to the wall, then along y; the velocity that met a
wall is gone, the other one stays, so the ball slides.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jepa_actions.envs.point_maze_config import MARGIN, PointMazeConfig
from jepa_actions.envs.point_maze_layouts import solid_table


def step_states(
    states: Float[Tensor, "*b 4"],
    layouts: Float[Tensor, "*b 1"],
    actions: Float[Tensor, "*b 2"],
    config: PointMazeConfig,
) -> Float[Tensor, "*b 4"]:
    """One environment step of any number of balls.

    A pure function, elementwise over leading dimensions that broadcast, so a row never depends on the others.

    Args:
        states: free states (see `is_free`): x, y in cells, vx, vy in cells per step.
        layouts: maze numbers.
        actions: accelerations; each component is cut to [-1, 1].
    Returns: the new states, at least `MARGIN` from every wall they met; velocities are what walls left of them.
    """
    solid, width = solid_table(config, states.device), config.cells + 2
    origin = _origin(layouts[..., 0], config)
    ax, ay = (part.clamp(-1.0, 1.0) for part in actions.unbind(-1))
    x, y, vx, vy = (part.contiguous() for part in states.unbind(-1))
    top = config.max_speed
    vx = (config.damping * vx + config.gain * ax).clamp(-top, top)
    vy = (config.damping * vy + config.gain * ay).clamp(-top, top)
    for _ in range(config.substeps):
        x, vx = _slide(x, y, vx, origin, (1, width), solid, config)
        y, vy = _slide(y, x, vy, origin, (width, 1), solid, config)
    return torch.stack(torch.broadcast_tensors(x, y, vx, vy), dim=-1)


def _origin(maze: Float[Tensor, "*b"], config: PointMazeConfig) -> Int[Tensor, "*b"]:
    """Where cell (0, 0) of each maze is in the table of solid cells."""
    width = config.cells + 2
    return maze.long() * (width * width) + (width + 1)


def _slide(
    along: Float[Tensor, "*b"],
    across: Float[Tensor, "*b"],
    speed: Float[Tensor, "*b"],
    origin: Int[Tensor, "*b"],
    strides: tuple[int, int],
    solid: Bool[Tensor, "cell"],
    config: PointMazeConfig,
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Move along one axis for a substep; return the place and the speed after it. `strides`: along, across."""
    radius = config.radius
    moved = along + speed / config.substeps
    forwards = speed >= 0
    edge = torch.where(forwards, moved + radius, moved - radius).floor()  # the cell that the leading side reaches
    ahead = origin + edge.long() * strides[0]
    near, far = (across - radius).floor().long(), (across + radius).floor().long()
    hit = solid[ahead + near * strides[1]] | solid[ahead + far * strides[1]]
    stop = torch.where(forwards, edge - (radius + MARGIN), edge + (1 + radius + MARGIN))
    return torch.where(hit, stop, moved), torch.where(hit, 0.0, speed)


def is_free(
    positions: Float[Tensor, "*b 2"], layouts: Float[Tensor, "*b 1"], config: PointMazeConfig
) -> Bool[Tensor, "*b"]:
    """Whether the ball can be at a place: its bounding square touches free cells only."""
    solid, width = solid_table(config, positions.device), config.cells + 2
    origin = _origin(layouts[..., 0], config)
    low, high = ((positions + side).floor().clamp(-1, config.cells).long() for side in (-config.radius, config.radius))
    corners = [solid[origin + x + y * width] for x in (low[..., 0], high[..., 0]) for y in (low[..., 1], high[..., 1])]
    return ~torch.stack(corners).any(dim=0)


def cells_of(positions: Float[Tensor, "*b 2"], config: PointMazeConfig) -> Int[Tensor, "*b"]:
    """The cell that a position is in, row-major."""
    column, row = positions.floor().long().unbind(-1)
    return row * config.cells + column
