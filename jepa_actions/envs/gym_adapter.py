"""TwoRoom for gymnasium: one world. The batched one is in `gym_vector`; both draw the same tasks from the same seed.

The environment is goal-conditioned. An observation is `{"image", "goal"}`: what is seen now and what is seen at the
goal, both uint8 of shape (64, 64, 3), channels last as gymnasium has it. The reward is 1 on the step that reaches the
goal (within 4.5 px), which ends the episode, else 0. `info` has `position`, `goal_position`, `wall_x`, `door_y` (px),
`success` and `blocked`. Distractors (`config.distractors`) change what is seen and nothing else; the goal's picture has
its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast, get_args

import gymnasium
import numpy as np
import torch
from torch import Tensor

from jepa_actions.envs.two_room import TwoRoom, TwoRoomState, check_action, check_free
from jepa_actions.envs.two_room_geometry import TwoRoomConfig, same_room
from jepa_actions.envs.two_room_layouts import LayoutSplit, sample_layouts, sample_positions
from jepa_actions.envs.two_room_render import render
from jepa_actions.envs.two_room_scenery import drawn_scenery, goal_scenery, has_scenery
from jepa_actions.errors import ConfigError, ShapeError

Array: TypeAlias = np.ndarray[Any, Any]
Observation: TypeAlias = dict[str, Array]

RESET_OPTIONS = ("layouts", "wall_x", "door_y", "start", "goal", "different_rooms")


def register() -> None:
    """Make `jepa_actions/TwoRoom-v0` known to `gymnasium.make` and `gymnasium.make_vec`. A second call changes
    nothing.
    """
    if "jepa_actions/TwoRoom-v0" not in gymnasium.registry:
        gymnasium.register(
            id="jepa_actions/TwoRoom-v0",
            entry_point="jepa_actions.envs.gym_adapter:TwoRoomEnv",
            vector_entry_point="jepa_actions.envs.gym_vector:TwoRoomVectorEnv",
            max_episode_steps=200,
        )


class TwoRoomEnv(gymnasium.Env[Observation, Array]):
    """One TwoRoom world.

    Args:
        layouts: the split layouts are drawn from, "train", "heldout" or "all".
        config: geometry; the published one by default.
        render_mode: "rgb_array" or None.
        device: where the world lives; torch's default device when None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  as gymnasium types it

    def __init__(
        self,
        layouts: LayoutSplit = "train",
        config: TwoRoomConfig | None = None,
        render_mode: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"TwoRoomEnv.render_mode: found {render_mode!r}, expected 'rgb_array' or None")
        self.render_mode = render_mode
        self.layouts = layouts
        self.world = TwoRoom(1, config, device)
        observation_space, self.action_space = spaces(self.world.config)
        self.observation_space = cast("gymnasium.Space[Observation]", observation_space)
        self._goal = torch.zeros(1, 2)
        self._goal_image = np.zeros(0, dtype=np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds the environment's generator, as gymnasium specifies.
            options: any of `layouts` (another split), `wall_x` and `door_y` (px), `start` and `goal` (2 numbers, px),
                `different_rooms` (True: the goal is drawn in the other room).
        Raises:
            ConfigError: an unknown option or value. ShapeError, DataError: a start or a goal that is not 2 finite
                numbers, or not free.
        """
        super().reset(seed=seed)
        task = draw_task(self.np_random, self.layouts, self.world.config, options or {})
        state = task.state.to(self.world.device)
        self.world.set_state(state)
        self._goal = task.goal.to(self.world.device)
        self._goal_image = goal_images([task], self.world)
        return self._observe(), self._info()

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move by `action` = [dx, dy] px. Raises ShapeError or DataError when it is not 2 finite numbers."""
        self.world.step(read_action(action, (2,))[None])
        info = self._info()
        return self._observe(), float(info["success"]), bool(info["success"]), False, info

    def render(self) -> Array | None:
        """Return the current frame, uint8 (64, 64, 3), or None without a render mode."""
        return None if self.render_mode is None else cast(Array, images(self.world.render())[0])

    def get_state(self) -> Array:
        """The simulator's state: [x, y] of the agent, x of the wall and y of the door, in px; then the scenery of the
        distractors, where there is one."""
        return cast(Array, state_rows(self.world)[0])

    def _observe(self) -> Observation:
        return {"image": images(self.world.render())[0], "goal": self._goal_image[0].copy()}

    def _info(self) -> dict[str, Any]:
        return {name: column[0] for name, column in info_columns(self.world, self._goal).items()}


@dataclass
class Task:
    """A layout, a start and a goal; batch of one, on the CPU."""

    state: TwoRoomState
    goal: Tensor  # (1, 2) px
    goal_scenery: Tensor | None = None  # (1, 4), of the goal's picture, where distractors have one


def spaces(config: TwoRoomConfig) -> tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box]:
    """The observation space (`image` and `goal`) and the action space of one world."""
    shape, step = (config.image_size, config.image_size, 3), config.max_step
    pictures: dict[str, gymnasium.Space[Any]] = {
        name: gymnasium.spaces.Box(0, 255, shape, np.uint8) for name in ("image", "goal")
    }
    return gymnasium.spaces.Dict(pictures), gymnasium.spaces.Box(-step, step, (2,), np.float32)


def draw_task(
    rng: np.random.Generator, layouts: LayoutSplit, config: TwoRoomConfig, options: Mapping[str, Any]
) -> Task:
    """Draw what `options` leave open. Always takes one number from `rng`."""
    unknown = sorted(set(options) - set(RESET_OPTIONS))
    if unknown:
        raise ConfigError(f"TwoRoom reset option {unknown[0]!r} is unknown, expected any of {', '.join(RESET_OPTIONS)}")
    generator = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
    split = options.get("layouts", layouts)
    if split not in get_args(LayoutSplit):
        raise ConfigError(f"TwoRoom reset option layouts: found {split!r}, expected one of {get_args(LayoutSplit)}")
    wall_x, door_y = sample_layouts(1, split, generator, config)
    if options.get("wall_x") is not None:
        wall_x = _number("wall_x", options["wall_x"], config.wall_range)
    if options.get("door_y") is not None:
        door_y = _number("door_y", options["door_y"], config.door_range)
    start = _point("start", options["start"]) if options.get("start") is not None else None
    goal = _point("goal", options["goal"]) if options.get("goal") is not None else None
    for name, point in (("start", start), ("goal", goal)):
        if point is not None:
            check_free(name, point, wall_x, door_y, config)
    apart = bool(options.get("different_rooms", False))
    if start is None:
        room = goal[:, 0] < wall_x if apart and goal is not None else None
        start = sample_positions(wall_x, door_y, generator, config, right=room)
    if goal is None:
        goal = sample_positions(wall_x, door_y, generator, config, right=start[:, 0] < wall_x if apart else None)
    if apart and bool(same_room(start, goal, wall_x)):
        raise ConfigError("TwoRoom reset option different_rooms: found start and goal in one room, expected two rooms")
    if not has_scenery(config):
        return Task(TwoRoomState(start, wall_x, door_y), goal)
    scenery = drawn_scenery(1, generator, config)  # after everything else: places are as without distractors
    return Task(TwoRoomState(start, wall_x, door_y, scenery), goal, goal_scenery(scenery, generator, config))


def goal_images(tasks: Sequence[Task], world: TwoRoom) -> Array:
    """What is seen at the goals of tasks, (n, h, w, 3)."""
    goals = [TwoRoomState(task.goal, task.state.wall_x, task.state.door_y, task.goal_scenery) for task in tasks]
    some = TwoRoomState.cat(goals).to(world.device)
    return images(render(some.position, some.wall_x, some.door_y, world.config, some.scenery))


def _number(name: str, value: Any, allowed: range) -> Tensor:
    if np.ndim(value) != 0 or float(value) not in allowed:
        raise ConfigError(
            f"TwoRoom reset option {name}: found {value!r}, expected an integer from {allowed[0]} to {allowed[-1]}"
        )
    return torch.tensor([float(value)])


def _point(name: str, value: Any) -> Tensor:
    point = torch.as_tensor(np.asarray(value, dtype=np.float32))
    if tuple(point.shape) != (2,):
        raise ShapeError(f"TwoRoom reset option {name}: found shape {tuple(point.shape)}, expected (2,), [x, y] in px")
    return point[None]


def read_action(action: Any, shape: tuple[int, ...]) -> Tensor:
    """Turn what a caller passed to `step` into a float32 tensor, or say in one line what is wrong with it."""
    try:
        tensor = torch.as_tensor(np.asarray(action, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"TwoRoom action: found {type(action).__name__} that is not numeric, expected {shape} numbers"
        ) from error
    check_action(tensor, shape)
    return tensor


def images(frames: Tensor) -> Array:
    """Frames (b, 3, h, w) as gymnasium's channels-last arrays (b, h, w, 3)."""
    return cast(Array, frames.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def state_rows(world: TwoRoom) -> Array:
    """The state of every world as numbers, (b, 4): agent's x and y, wall's x, door's y, in px; with distractors that
    have a scenery (b, 8)."""
    state = world.get_state()
    rows = torch.cat([state.position, state.wall_x[:, None], state.door_y[:, None]], dim=1)
    rows = rows if state.scenery is None else torch.cat([rows, state.scenery], dim=1)
    return cast(Array, rows.double().cpu().numpy())


def info_columns(world: TwoRoom, goal: Tensor) -> dict[str, Array]:
    """The `info` of every world as arrays with a leading axis b."""
    state = world.get_state()
    columns = {
        "position": state.position,
        "goal_position": goal,
        "wall_x": state.wall_x,
        "door_y": state.door_y,
        "success": world.success(goal),
        "blocked": world.blocked,
    }
    return {name: cast(Array, column.cpu().numpy().copy()) for name, column in columns.items()}
