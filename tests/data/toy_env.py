"""An environment whose picture says which episode and which step it is; episodes end when its own dice say so."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

SIZE = (32, 48)
SPACES = {
    "box": spaces.Box(-1, 1, (2,), np.float64),
    "narrow": spaces.Box(-0.1, 0.1, (2,), np.float64),  # 0.1 as float32 is more
    "discrete": spaces.Discrete(3),
    "multi": spaces.MultiDiscrete([2, 5]),
    "dict": spaces.Dict({"a": spaces.Discrete(2)}),
}


class Toy(gymnasium.Env):
    """`shows`: where the picture is: "image" (the observation), "dict" (a part beside numbers), "render"."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, shows: str = "image", acts: str = "box", render_mode: str | None = None) -> None:
        self.shows, self.render_mode = shows, render_mode
        picture = spaces.Box(0, 255, (*SIZE, 3), np.uint8)
        numbers = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        robot = spaces.Dict({"arm": numbers, "grip": spaces.Discrete(2)})
        self.observation_space = {
            "image": picture,
            "dict": spaces.Dict({"image": picture, "goal": picture, "robot": robot}),
            "render": numbers,
        }[shows]
        self.action_space = SPACES[acts]
        self.state: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 9))
        self.step_number, self.ends_well = 0, bool(self.np_random.integers(2))
        self.hue = int(self.np_random.integers(20, 200))
        self.state = self.np_random.normal(size=3)
        return self._see(), {"task": f"hue {self.hue}"}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.left == 0:
            raise RuntimeError("stepped after the end")
        assert self.action_space.contains(action)
        self.left -= 1
        self.step_number += 1
        self.state = 0.9 * self.state + self.np_random.normal(size=3) * 0.1 + np.resize(action, 3)
        over = self.left == 0
        return self._see(), float(self.state.sum()), over and self.ends_well, over and not self.ends_well, {}

    def render(self) -> np.ndarray | None:
        return None if self.render_mode is None else self.picture()

    def picture(self) -> np.ndarray:
        """Red is the episode's, green the step's: 20 levels apart."""
        image = np.zeros((*SIZE, 3), np.uint8)
        image[..., 0], image[..., 1] = self.hue, 20 + 20 * self.step_number
        return image

    def _see(self) -> Any:
        if self.shows == "image":
            return self.picture()
        if self.shows == "render":
            return self.state.copy()
        robot = {"arm": self.state.copy(), "grip": np.int64(self.step_number % 2)}
        return {"image": self.picture(), "goal": 255 - self.picture(), "robot": robot}
