"""TwoRoom as an environment of LeRobot: `--env.type=jepa_two_room`, each episode with its own goal picture."""
# mypy: disable-error-code="import-not-found"

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES

from jepa_actions.envs.gym_adapter import TwoRoomEnv

ENV = "jepa_actions/TwoRoomOfLeRobot-v0"
SIZE = 64  # px


class TwoRoomOfLeRobot(gymnasium.Wrapper[Any, Any, Any, Any]):
    """TwoRoom with pictures under `pixels` and success as `is_success`, as LeRobot looks for them."""

    task = task_description = "go to where the agent is in the goal picture"

    def __init__(self, **options: Any) -> None:
        super().__init__(TwoRoomEnv(**options))
        self.observation_space = gymnasium.spaces.Dict({"pixels": self.env.observation_space})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, as `TwoRoomEnv`."""
        observation, info = self.env.reset(seed=seed, options=options)
        return {"pixels": observation}, self._named(info)

    def step(self, action: np.ndarray[Any, Any]) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Move, as `TwoRoomEnv`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return {"pixels": observation}, reward, terminated, truncated, self._named(info)

    @staticmethod
    def _named(info: dict[str, Any]) -> dict[str, Any]:
        return info | {"is_success": bool(info["success"])}


@EnvConfig.register_subclass("jepa_two_room")
@dataclass
class TwoRoomEnvConfig(EnvConfig):  # type: ignore[misc, unused-ignore]
    """One room and another, a wall with a door between them. The goal is `observation.images.goal`."""

    task: str | None = "TwoRoomOfLeRobot-v0"
    fps: int = 10
    episode_length: int = 100  # environment steps
    layouts: str = "heldout"  # of walls and doors: train, heldout or all
    features: dict[str, Any] = field(
        default_factory=lambda: {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(2,)),
            "pixels/image": PolicyFeature(type=FeatureType.VISUAL, shape=(SIZE, SIZE, 3)),
            "pixels/goal": PolicyFeature(type=FeatureType.VISUAL, shape=(SIZE, SIZE, 3)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            ACTION: ACTION,
            "pixels/image": f"{OBS_IMAGES}.image",
            "pixels/goal": f"{OBS_IMAGES}.goal",
        }
    )

    @property
    def gym_id(self) -> str:
        """As gymnasium knows it."""
        return ENV

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """What `gymnasium.make` is given."""
        return {"layouts": self.layouts, "render_mode": "rgb_array", "max_episode_steps": self.episode_length}


def register() -> None:
    """Make the environment known to gymnasium. A second call changes nothing."""
    if ENV not in gymnasium.registry:
        gymnasium.register(id=ENV, entry_point=f"{__name__}:TwoRoomOfLeRobot")
