"""PointMaze behaviour data: smooth random pushes, of which a settable share follows ways from cell to cell."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.envs.point_maze_config import PointMazeConfig
from jepa_actions.envs.point_maze_geometry import cells_of, step_states
from jepa_actions.envs.point_maze_layouts import catalogue, cell_distances, maze_numbers
from jepa_actions.envs.point_maze_places import place
from jepa_actions.envs.world import Behaviour, Split
from jepa_actions.errors import ConfigError

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Cells = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

MEMORY = 0.92  # of the coloured noise, per step: pushes last some twelve steps
PUSH, ROUTED_PUSH = 0.8, 0.4  # its standard deviation, in units of the largest acceleration
CRUISE_MIN, CRUISE_MAX = 0.12, 0.22  # cells per step that a routed episode aims at
GRIP = 0.6  # share of a wrong velocity that a routed episode corrects in one step, where its throttle allows
ARRIVED = 0.3  # cells from the centre of the goal cell; closer, the next goal is taken
TARGETS = 24  # goal cells drawn per episode, taken in turn
_LAYOUTS, _PHASE = 2**63, 2**64 - 1  # streams that no episode uses


def explore(
    episodes: int,
    *,
    steps: int,
    seed: int,
    split: Split,
    episodes_per_layout: int,
    routed_rate: float,
    config: PointMazeConfig,
) -> Behaviour:
    """Push balls about, all episodes at once; each begins at rest at a random free place.

    Accelerations are coloured noise (an AR(1) process cut to [-1, 1]); a push that met a wall turns round, along that
    axis. A routed episode adds less noise to a controller that drives it from cell to cell, the shortest way, to a
    random cell of the farther half of its maze, then on to another; its speed is drawn per episode.

    Episode `e` is a function of `seed` and `e` (and of the other settings), however many episodes there are; of longer
    episodes the beginning is the same.

    Args:
        episodes: number of episodes, E.
        steps: actions per episode; T = steps + 1 frames.
        seed: at least 0.
        split: which mazes to use.
        episodes_per_layout: this many episodes in a row share a maze.
        routed_rate: share of routed episodes, evenly spread; of any first n episodes, n * rate up to one.
    Raises:
        ConfigError: a count is not positive, the rate is not in [0, 1], the seed is negative, or the split is unknown.
    """
    if min(episodes, steps, episodes_per_layout) < 1 or not 0.0 <= routed_rate <= 1.0 or not 0 <= seed < 2**63:
        raise ConfigError(
            f"PointMaze.behaviour: found episodes={episodes}, steps={steps}, "
            f"episodes_per_layout={episodes_per_layout}, routed_rate={routed_rate}, seed={seed}; "
            "expected counts >= 1, a rate in [0, 1] and a seed in [0, 2**63)"
        )
    draws = _Draws.of(episodes, steps, seed)
    layouts = _layouts(episodes, episodes_per_layout, seed, maze_numbers(split, config))
    routed = np.diff(np.floor(np.arange(episodes + 1) * routed_rate + _stream(seed, _PHASE).random())) > 0
    states = torch.empty(episodes, steps + 1, 4)
    actions = torch.empty(episodes, steps, 2)
    states[:, 0, :2] = place(torch.from_numpy(draws.start).float(), layouts, config)
    states[:, 0, 2:] = 0.0
    mazes = layouts[:, 0].long().numpy()
    goals = _goals(cells_of(states[:, 0, :2], config).numpy(), draws.targets, mazes, config)
    driver = _Driver(draws, goals, routed, mazes, config)
    for t in range(steps):
        actions[:, t] = torch.from_numpy(driver.act(states[:, t], t))
        states[:, t + 1] = step_states(states[:, t], layouts, actions[:, t], config)
    return Behaviour(states, actions, layouts)


def _stream(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))


@dataclass
class _Draws:
    """Every random number of E episodes, each episode's from its own counter-based stream."""

    start: Numbers  # (E, 3) uniform
    speed: Numbers  # (E,) uniform
    targets: Numbers  # (E, TARGETS) uniform
    push: Numbers  # (E, S + 1, 2) normal

    @classmethod
    def of(cls, episodes: int, steps: int, seed: int) -> "_Draws":
        uniform, push = np.empty((episodes, 4 + TARGETS)), np.empty((episodes, steps + 1, 2))
        for e in range(episodes):
            stream = _stream(seed, e)
            stream.random(out=uniform[e])
            stream.standard_normal(out=push[e])
        return cls(uniform[:, :3], uniform[:, 3], uniform[:, 4:], push)


def _layouts(episodes: int, per_layout: int, seed: int, mazes: tuple[int, ...]) -> Float[Tensor, "e 1"]:
    """One maze per group of episodes."""
    groups = -(-episodes // per_layout)
    chosen = [mazes[int(_stream(seed, _LAYOUTS + g).integers(len(mazes)))] for g in range(groups)]
    return torch.tensor(chosen, dtype=torch.float32).repeat_interleave(per_layout)[:episodes, None].contiguous()


class _Driver:
    """Chooses the actions of all episodes, step by step, in float64."""

    def __init__(
        self,
        draws: _Draws,
        goals: Cells,
        routed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        mazes: Cells,
        config: PointMazeConfig,
    ) -> None:
        self.draws, self.routed, self.mazes, self.config = draws, routed, mazes, config
        self.row = np.arange(len(mazes))
        self.noise = draws.push[:, 0].copy()
        self.leg = np.zeros(len(mazes), dtype=np.int64)
        self.cruise = CRUISE_MIN + (CRUISE_MAX - CRUISE_MIN) * draws.speed
        self.goals = goals

    def act(self, states: Float[Tensor, "e 4"], t: int) -> Numbers:
        """The actions at step `t`."""
        now = states.numpy().astype(np.float64)
        met_wall = (now[:, 2:] == 0.0) & (t > 0)
        self.noise = np.where(met_wall, -self.noise, self.noise)
        self.noise = MEMORY * self.noise + (1 - MEMORY**2) ** 0.5 * self.draws.push[:, t + 1]
        steer = self._steer(now, cells_of(states[:, :2], self.config))
        wanted = np.where(self.routed[:, None], steer + ROUTED_PUSH * self.noise, PUSH * self.noise)
        return np.clip(wanted, -1.0, 1.0)

    def _steer(self, now: Numbers, cells: Int[Tensor, "e"]) -> Numbers:
        """The push towards the centre of the next cell at cruising speed; slower where the goal is near."""
        config = self.config
        goal = self.goals[self.row, self.leg % TARGETS]
        self.leg += np.hypot(*(_centres(goal, config) - now[:, :2]).T) < ARRIVED
        goal = self.goals[self.row, self.leg % TARGETS]
        way = _centres(_next_cells(config)[self.mazes, goal, cells.numpy()], config) - now[:, :2]
        wanted = way * (self.cruise / np.maximum(np.hypot(*way.T), ARRIVED))[:, None]
        push: Numbers = GRIP * (wanted - config.damping * now[:, 2:]) / config.gain
        return push


def _goals(cells: Cells, draws: Numbers, mazes: Cells, config: PointMazeConfig) -> Cells:
    """Goal cells in turn (E, TARGETS), each of the farther half of the free cells as seen from the one before."""
    free = (~catalogue(config)).sum(axis=(1, 2))[mazes]
    goals = np.empty(draws.shape, dtype=np.int64)
    for k in range(draws.shape[1]):
        nearer = free // 2
        rank = nearer + (draws[:, k] * (free - nearer)).astype(np.int64)
        goals[:, k] = cells = _by_distance(config)[mazes, cells, rank]
    return goals


def _centres(cells: Cells, config: PointMazeConfig) -> Numbers:
    row, column = np.divmod(cells, config.cells)
    return np.stack([column, row], axis=-1) + 0.5


@lru_cache(maxsize=8)
def _by_distance(config: PointMazeConfig) -> Cells:
    """The cells by the moves it takes to reach them: [maze, from, rank], free ones first."""
    moves = np.stack([cell_distances(grid) for grid in catalogue(config)])
    return np.argsort(np.where(moves < 0, moves.shape[-1], moves), axis=-1, kind="stable")


@lru_cache(maxsize=8)
def _next_cells(config: PointMazeConfig) -> Cells:
    """Where to go next for a goal, from a cell: [maze, goal, cell], the cell itself at the goal."""
    tables = []
    for grid in catalogue(config):
        moves = cell_distances(grid)
        beside = moves == 1
        far = np.where(beside[None], np.where(moves < 0, grid.size, moves)[:, None, :], grid.size)  # goal, cell, next
        tables.append(np.where(np.eye(grid.size, dtype=bool), np.arange(grid.size), far.argmin(axis=-1)))
    return np.stack(tables)
