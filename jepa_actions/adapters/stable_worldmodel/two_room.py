"""`swm/TwoRoom-v1`: what its evaluation needs beside the environment itself: goal pictures, tasks, a strict rule.

What the environment is, read off version 0.1.1 and measured (docs/stable_worldmodel.md): a picture of 224 px, one wall
in the middle, one door, an agent that moves `speed` px per unit of action, and a goal within 16 px of which it ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch
from jaxtyping import Float

from jepa_actions.errors import ConfigError

ENV = "swm/TwoRoom-v1"
RADIUS = 16.0  # px: nearer than this to the target the environment ends
MARGIN = 1.75  # px: how far beside a door the environment still lets an agent's centre pass
Point = Float[np.ndarray, "2"]
Box = tuple[Point, Point]


class GoalPicture(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds `info["goal"]` at every reset: the environment's own picture with the agent where the target is.

    TwoRoom-v1 shows no goal by itself; `World` resizes this one as it does `pixels`. Use it as a `pre_wrapper`.
    """

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(**options)
        room: Any = self.env.unwrapped
        present, room.agent_position = room.agent_position, room.target_position
        info["goal"] = np.asarray(room.render())
        room.agent_position = present
        return observation, info


class Strict(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends after exactly `steps` steps, as terminated only where the task is solved strictly: within 16 px of the
    target after the last step, by a route that never led through the wall. What `World.evaluate` counts is then that.

    `info` also has `ever` (within 16 px after some step), `at_end` (after this one) and `route_valid`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], steps: int) -> None:
        if steps < 1:
            raise ConfigError(f"Strict.steps: found {steps}, expected at least 1")
        super().__init__(env)
        self.steps, self._done, self._ever, self._valid = steps, 0, False, True

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._done, self._ever, self._valid = 0, False, True
        observation, info = self.env.reset(**options)
        return observation, info | self._score(info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        before = position(self.env.unwrapped)
        observation, reward, _, _, info = self.env.step(action)
        self._valid &= passes(self.env.unwrapped, before, position(self.env.unwrapped))
        self._done += 1
        score = self._score(info)
        self._ever = score["ever"]
        last, solved = self._done >= self.steps, score["at_end"] and score["route_valid"]
        return observation, reward, last and solved, last and not solved, info | score

    def _score(self, info: Mapping[str, Any]) -> dict[str, bool]:
        near = bool(info["distance_to_target"] < RADIUS)
        return {"ever": self._ever or near, "at_end": near, "route_valid": self._valid}


def position(room: Any) -> Point:
    """Where the agent is, px, as a copy."""
    found: Point = torch.as_tensor(room.agent_position).double().cpu().numpy().copy()
    return found


def passes(room: Any, before: Point, after: Point) -> bool:
    """Whether a step stayed in one room, or crossed the wall's middle where a door is."""
    across = 0 if int(room.wall_axis) == 1 else 1  # a vertical wall stands at an x
    left, right = (point[across] - float(room.wall_pos) for point in (before, after))
    if (left < 0) == (right < 0):
        return True
    along = before[1 - across] + (after - before)[1 - across] * left / (left - right)
    doors = zip(np.asarray(room.door_positions), np.asarray(room.door_sizes), strict=True)
    return any(abs(along - float(centre)) <= float(half) + MARGIN for centre, half in doors)


def free_boxes(room: Any) -> tuple[Box, Box]:
    """Where the agent's centre may be in the two rooms: lowest and highest corner of each, px."""
    radius = float(room.variation_space["agent"]["radius"].value.item())
    across = 0 if int(room.wall_axis) == 1 else 1
    low, high = np.full(2, room.BORDER_SIZE + radius), np.full(2, room.IMG_SIZE - room.BORDER_SIZE - radius)
    reach = int(room.wall_thickness) // 2 + radius + 0.5  # where the wall stops an agent
    first, second = high.copy(), low.copy()
    first[across], second[across] = float(room.wall_pos) - reach, float(room.wall_pos) + reach
    return (low, first), (second, high)


@dataclass(frozen=True)
class RoomTask:
    """Where an episode starts and where it should end, px."""

    start: tuple[float, float]
    goal: tuple[float, float]

    @property
    def options(self) -> dict[str, Any]:
        """For `reset(options=...)`."""
        pair = {"state": self.start, "target_state": self.goal}
        return {key: np.array(value, dtype=np.float32) for key, value in pair.items()}


def cross_room_tasks(room: Any, count: int, seed: int) -> list[RoomTask]:
    """Start uniform in a random room, goal uniform in the other; more tasks of a seed begin with the same ones."""
    boxes, tasks = free_boxes(room), []
    for number in range(count):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], dtype=np.uint64)))
        first = int(rng.integers(2))
        start, goal = (rng.uniform(*boxes[side]) for side in (first, 1 - first))
        tasks.append(RoomTask((float(start[0]), float(start[1])), (float(goal[0]), float(goal[1]))))
    return tasks


class StraightLine:
    """A floor for `World.set_policy`: as far as a step goes straight at the target, blind to the wall; it reads the
    simulator's state."""

    def __init__(self) -> None:
        self._speeds = np.zeros(0)

    def set_env(self, env: Any) -> None:
        """Take the place of a pool's policy."""
        self._speeds = np.array(
            [float(one.unwrapped.variation_space["agent"]["speed"].value.item()) for one in env.envs]
        )

    def get_action(self, info: Mapping[str, Any], **_: Any) -> Float[np.ndarray, "n 2"]:
        """The next raw actions."""
        wanted = (np.asarray(info["goal_state"]) - np.asarray(info["state"]))[:, 0] / self._speeds[:, None]
        longest = np.abs(wanted).max(axis=1, keepdims=True).clip(min=1.0)
        actions: np.ndarray = (wanted / longest).astype(np.float32)
        return actions
