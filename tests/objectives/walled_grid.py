"""Nine by nine cells that a wall with one gap divides: random walks, the true shortest way, cells as latents."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa_actions.data import Batch

SIDE, WALL, GAP = 9, 4, 7  # the wall is column 4, open in row 7
MOVES = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]])


def is_wall(cells: Tensor) -> Tensor:
    return (cells[..., 0] == WALL) & (cells[..., 1] != GAP)


def free_cells() -> Tensor:
    """Every cell that is not wall, (n, 2) x and y."""
    cells = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
    return cells[~is_wall(cells)]


def stepped(cells: Tensor, moves: Tensor) -> Tensor:
    """Where moves lead: nowhere against a wall."""
    there = cells + moves
    stopped = is_wall(there) | (there < 0).any(-1) | (there >= SIDE).any(-1)
    return torch.where(stopped[..., None], cells, there)


def wander(episodes: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random walks: cells (e, t, 2) and moves (e, t - 1, 2)."""
    numbers = torch.Generator().manual_seed(seed)
    cells = free_cells()
    path = [cells[torch.randint(len(cells), (episodes,), generator=numbers)]]
    moves = MOVES[torch.randint(4, (episodes, steps), generator=numbers)]
    for t in range(steps):
        path.append(stepped(path[-1], moves[:, t]))
    return torch.stack(path, dim=1), moves


def number(cells: Tensor) -> Tensor:
    return cells[..., 0] * SIDE + cells[..., 1]


def shortest() -> Tensor:
    """Moves of the shortest way from every cell to every other, by cell number; walls are infinitely far."""
    far = torch.full((SIDE * SIDE, SIDE * SIDE), torch.inf)
    cells = free_cells()
    far[number(cells), number(cells)] = 0.0
    for move in MOVES:
        there = number(stepped(cells, move))
        far[number(cells), there] = far[number(cells), there].clamp(max=1.0)
    for via in range(SIDE * SIDE):
        far = torch.minimum(far, far[:, via, None] + far[None, via])
    return far


def latents(cells: Tensor) -> Tensor:
    """One token per cell: a one at its number."""
    return torch.nn.functional.one_hot(number(cells), SIDE * SIDE).float()[..., None, :]


def as_batch(cells: Tensor, moves: Tensor | None = None, scene: Tensor | None = None) -> Batch:
    """Clips of latents; all show one scene unless `scene` says otherwise."""
    b, t = cells.shape[:2]
    return Batch(
        frames={},
        z=latents(cells),
        scene=torch.zeros(b, dtype=torch.int64) if scene is None else scene,
        episode=torch.arange(b),
        frame=torch.arange(t).repeat(b, 1),
        actions=None if moves is None else moves.float(),
        action_mask=None if moves is None else torch.ones(b, t - 1, dtype=torch.bool),
        provenance=None if moves is None else torch.zeros(b, t - 1, dtype=torch.int64),
    )


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation; equal values share their mean rank."""

    def ranks(x: Tensor) -> Tensor:
        _, place, count = x.unique(return_inverse=True, return_counts=True)
        return (count.cumsum(0) - (count - 1) / 2).double()[place]

    return float(torch.corrcoef(torch.stack([ranks(one), ranks(other)]))[0, 1])
