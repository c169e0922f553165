"""PointMaze: random free places, uniform over all that the ball can reach."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.point_maze_config import MARGIN, PointMazeConfig
from jepa_actions.envs.point_maze_geometry import is_free


def place(unit: Float[Tensor, "n 3"], layouts: Float[Tensor, "n 1"], config: PointMazeConfig) -> Float[Tensor, "n 2"]:
    """Map numbers in [0, 1) to free places: the first picks a free patch by its area, two say where in it."""
    shares, low, high = _patches(config, unit.device)
    chosen = torch.searchsorted(shares[layouts[:, 0].long()], unit[:, :1].double(), right=True)[:, 0]
    chosen = chosen.clamp(max=shares.shape[1] - 1)
    return low[chosen] + unit[:, 1:] * (high[chosen] - low[chosen])


@lru_cache(maxsize=16)
def _patches(
    config: PointMazeConfig, device: torch.device
) -> tuple[Float[Tensor, "maze patch"], Float[Tensor, "patch 2"], Float[Tensor, "patch 2"]]:
    """Each cell in 3 x 3 patches: a frame as wide as the ball's radius, and its middle. A patch is wholly free or not.

    Returns the cumulated share of each maze's free area, float64, and the patches' low and high ends.
    """
    cell = torch.arange(config.cells, dtype=torch.float64)[:, None]
    cuts = torch.tensor([0.0, config.radius, 1 - config.radius, 1.0], dtype=torch.float64)
    low = (cell + cuts[:-1]).flatten() + 2 * MARGIN  # one for the stopping place, one so that rounding cannot reach it
    high = (cell + cuts[1:]).flatten() - 2 * MARGIN
    lows, highs = (torch.cartesian_prod(ends, ends) for ends in (low, high))
    mazes = torch.arange(config.mazes, dtype=torch.float32)[:, None, None]
    free = is_free(((lows + highs) / 2).float().expand(config.mazes, -1, 2), mazes, config)
    shares = ((highs - lows).prod(dim=-1) * free).cumsum(dim=-1)
    shares = shares / shares[:, -1:]
    return shares.to(device), lows.float().to(device), highs.float().to(device)
