"""PointMaze: a ball with velocity in many mazes, batched in torch on any device. It satisfies `World`."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.envs.point_maze_behaviour import explore
from jepa_actions.envs.point_maze_config import PointMazeConfig
from jepa_actions.envs.point_maze_geometry import is_free, step_states
from jepa_actions.envs.point_maze_layouts import is_heldout, maze_numbers
from jepa_actions.envs.point_maze_paths import shortest_path
from jepa_actions.envs.point_maze_places import place
from jepa_actions.envs.point_maze_render import render
from jepa_actions.envs.world import Behaviour, Split
from jepa_actions.errors import DataError, ShapeError

__all__ = ["PointMaze", "PointMazeConfig", "PointMazeSimulation", "is_heldout", "maze_numbers"]


class PointMazeSimulation:
    """n balls that step together. The states are all there is: a copy started from them goes on bit for bit.

    Made by `PointMaze.start`, which checks the states.
    """

    def __init__(self, states: Float[Tensor, "n 4"], layouts: Float[Tensor, "n 1"], config: PointMazeConfig) -> None:
        self._states, self._layouts, self.config = states.clone(), layouts.clone(), config

    @property
    def states(self) -> Float[Tensor, "n 4"]:
        """The present states: x, y in cells, vx, vy in cells per step."""
        return self._states.clone()

    def step(self, actions: Float[Tensor, "n 2"], /) -> Float[Tensor, "n 4"]:
        """Push every ball by its acceleration, each component cut to [-1, 1], and return the new states.

        Raises ShapeError for another shape, DataError for a number that is not finite.
        """
        _check_rows("action", actions, (len(self._states), 2))
        _check_all(torch.isfinite(actions).all(dim=-1), "action", actions, "finite [ax, ay]")
        actions = actions.to(self._states)
        self._states = step_states(self._states, self._layouts, actions, self.config)
        return self.states


class PointMaze:
    """The mazes of a catalogue, a fixed fifth of them held out for ever.

    A state is [x, y, vx, vy], in cells and in cells per step; a layout is the maze's number in the catalogue. The
    action is an acceleration in [-1, 1] squared. Tensors may be on any device; results are where they are.

    Args:
        config: sizes, dynamics, colours.
        routed_rate: share of behaviour episodes that follow ways from cell to cell; the others push at random.
    """

    name = "point_maze"
    action_names = ("ax", "ay")
    state_names = ("x [cells]", "y [cells]", "vx [cells/step]", "vy [cells/step]")
    layout_names = ("maze",)
    fps = 10.0

    def __init__(self, config: PointMazeConfig | None = None, routed_rate: float = 0.35) -> None:
        self.config = PointMazeConfig() if config is None else config
        self.routed_rate = routed_rate

    @property
    def image_size(self) -> int:
        """Side of a picture, px."""
        return self.config.image_size

    def start(self, states: Float[Tensor, "n 4"], layouts: Float[Tensor, "n 1"], /) -> PointMazeSimulation:
        """Balls in the given states.

        Raises:
            ShapeError: not floating-point rows of 4 and of 1.
            DataError: a maze that is not in the catalogue, a place in a wall, or a speed beyond `config.max_speed`.
        """
        _check_rows("state", states, (len(states), 4))
        _check_rows("layout", layouts, (len(states), 1))
        states, layouts = states.float(), layouts.to(states.device).float()
        mazes, top = self.config.mazes, self.config.max_speed
        known = ((layouts >= 0) & (layouts < mazes) & (layouts == layouts.floor()))[:, 0]
        _check_all(known, "layout", layouts, f"a maze number from 0 to {mazes - 1}")
        slow = (states[:, 2:].abs() <= top * (1 + 1e-6)).all(dim=-1)
        _check_all(slow, "state", states, f"speeds of at most {top} cells per step")
        finite = torch.isfinite(states).all(dim=-1)
        free = is_free(torch.where(finite[:, None], states[:, :2], -1.0), layouts, self.config)
        _check_all(free, "state", states, "a ball clear of its maze's walls")
        return PointMazeSimulation(states, layouts, self.config)

    def step_states(
        self, states: Float[Tensor, "*b 4"], layouts: Float[Tensor, "*b 1"], actions: Float[Tensor, "*b 2"], /
    ) -> Float[Tensor, "*b 4"]:
        """One step as a pure function, without checks, over leading dimensions that broadcast: for oracles."""
        return step_states(states, layouts, actions, self.config)

    def render(self, states: Float[Tensor, "*b 4"], layouts: Float[Tensor, "*b 1"], /) -> UInt8[Tensor, "*b 3 h w"]:
        """Pictures, RGB: the maze and where the ball is in it; leading dimensions broadcast."""
        return render(states[..., :2], layouts, self.config)

    def sample(
        self, n: int, split: Split, generator: torch.Generator, /
    ) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 1"]]:
        """Balls at rest, uniform over the mazes of a split and the free places of each.

        Raises ConfigError for an unknown split.
        """
        mazes = torch.tensor(maze_numbers(split, self.config), dtype=torch.float32, device=generator.device)
        unit = torch.rand(n, 4, generator=generator, device=generator.device)
        layouts = mazes[(unit[:, :1] * len(mazes)).long()]
        positions = place(unit[:, 1:], layouts, self.config)
        return torch.cat([positions, torch.zeros_like(positions)], dim=-1), layouts

    def behaviour(
        self,
        episodes: int,
        *,
        steps: int,
        seed: int,
        split: Split = "train",
        episodes_per_layout: int = 1,
        routed_rate: float | None = None,
    ) -> Behaviour:
        """Behaviour that is not expert (see `explore`); `routed_rate` is the world's own by default.

        Raises ConfigError for a setting that cannot be.
        """
        return explore(
            episodes,
            steps=steps,
            seed=seed,
            split=split,
            episodes_per_layout=episodes_per_layout,
            routed_rate=self.routed_rate if routed_rate is None else routed_rate,
            config=self.config,
        )

    def solved(
        self, states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"], tolerance: float | None = None, /
    ) -> Bool[Tensor, "*b"]:
        """Whether the ball is within `tolerance` cells (`config.success_radius` by default); velocity is free."""
        return self.distance(states, goals) <= (self.config.success_radius if tolerance is None else tolerance)

    def distance(self, states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"], /) -> Float[Tensor, "*b"]:
        """Cells between the two places, as the crow flies."""
        return (goals - states)[..., :2].square().sum(dim=-1).sqrt()

    def shortest_path(
        self, states: Float[Tensor, "n 4"], goals: Float[Tensor, "n 4"], layouts: Float[Tensor, "n 1"], /
    ) -> Float[Tensor, "n"]:
        """Length in cells of the shortest way round the walls, at most 2e-4 too long per bend."""
        return shortest_path(states[:, :2], goals[:, :2], layouts, self.config)

    def towards(self, states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"], /) -> Float[Tensor, "*b 2"]:
        """An acceleration straight at the goal: of length 1, less within a cell of it."""
        way = (goals - states)[..., :2]
        return way / self.distance(states, goals).clamp(min=1.0)[..., None]


def _check_rows(what: str, rows: Tensor, shape: tuple[int, int]) -> None:
    if tuple(rows.shape) != shape or not rows.is_floating_point():
        raise ShapeError(
            f"PointMaze {what}: found shape {tuple(rows.shape)} {rows.dtype}, expected {shape} floating point"
        )


def _check_all(good: Bool[Tensor, "n"], what: str, rows: Float[Tensor, "n c"], expected: str) -> None:
    if not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        raise DataError(f"PointMaze {what}: found {rows[row].tolist()} in row {row}, expected {expected}")
