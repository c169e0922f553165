"""Random play in `swm/TwoRoom-v1`, for the recorder (`jepa_actions.data.recorder.record`)."""

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch
from jaxtyping import Float

from jepa_actions.adapters.stable_worldmodel.pictures import resize_area
from jepa_actions.adapters.stable_worldmodel.two_room import Point, position
from jepa_actions.errors import ConfigError


class RandomPlay(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment as something to record: it shows its picture at `size` and the agent's place, has no goal, and
    never ends by itself."""

    def __init__(self, env: gymnasium.Env[Any, Any], size: int = 64) -> None:
        super().__init__(env)
        room: Any = env.unwrapped
        self.size, self.action_space = size, env.action_space
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8),
                "position": gymnasium.spaces.Box(0.0, float(room.IMG_SIZE), (2,), np.float32),
            }
        )

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        _, info = self.env.reset(**options)
        return self._seen(), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        _, _, _, truncated, info = self.env.step(action)
        return self._seen(), 0.0, False, truncated, info

    def _seen(self) -> dict[str, np.ndarray]:
        frame = torch.from_numpy(np.ascontiguousarray(self.env.unwrapped.render())).movedim(-1, 0)
        image = resize_area(frame, (self.size, self.size)).movedim(0, -1).numpy()
        return {"image": image, "position": position(self.env.unwrapped).astype(np.float32)}


class Wander:
    """A random walk for `record`: straight on for 50 steps on average, then into a new direction at a new pace.

    Directions are uniform, paces uniform in [0.5, 1] of the fastest step in any direction, and every step's direction
    is off by N(0, 0.1 rad). It sees nothing: no goal, no wall, no door. Against a wall it slides along, as the
    environment has it, and so it comes upon the door.
    """

    def __init__(self, turn: float = 0.02, noise: float = 0.1, slowest: float = 0.5) -> None:
        if not (0 < turn <= 1 and noise >= 0 and 0 < slowest <= 1):
            raise ConfigError(f"Wander: found turn {turn}, noise {noise}, slowest {slowest}, expected shares and noise")
        self.turn, self.noise, self.slowest = turn, noise, slowest
        self._rng: np.random.Generator | None = None
        self._way = (0.0, 0.0)

    def __call__(self, observation: Any, rng: np.random.Generator) -> Float[np.ndarray, "2"]:
        """The next action; random numbers of another episode begin another walk."""
        anew, first, second, off = rng.random(), rng.random(), rng.random(), rng.standard_normal()
        if rng is not self._rng or anew < self.turn:
            self._way = (2 * math.pi * first, self.slowest + (1 - self.slowest) * second)
            self._rng = rng
        heading, pace = self._way[0] + self.noise * off, self._way[1]
        return np.array([pace * math.cos(heading), pace * math.sin(heading)], dtype=np.float32)


def crossings(room: Any, places: Sequence[Point]) -> int:
    """How often a walk went from one room to the other."""
    across = 0 if int(room.wall_axis) == 1 else 1
    side = np.array([point[across] < float(room.wall_pos) for point in places])
    return int((side[1:] != side[:-1]).sum())
