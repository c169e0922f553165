"""The configuration of the policy `jepa_actions`: `lerobot-eval --policy.type=jepa_actions --policy.model=M ...`."""
# mypy: disable-error-code="import-not-found"

from dataclasses import dataclass
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType
from lerobot.utils.constants import ACTION

from jepa_actions.errors import ConfigError

TRAINED_BY = "a jepa_actions world model is trained by `jepa-actions train`, and no loss of LeRobot trains it further"


@PreTrainedConfig.register_subclass("jepa_actions")
@dataclass
class JepaActionsConfig(PreTrainedConfig):  # type: ignore[misc, unused-ignore]
    """Which world model decides, how, and towards which picture.

    One of `goal_image`, `goal_key` and `goal_dataset` says what the goal looks like. The model carries its own action
    codec and image transform: nothing of LeRobot normalises its input or output.
    """

    model: str = ""  # a saved model's folder or Hub id
    revision: str | None = None  # branch, tag or commit of a Hub id
    planner: str = "cem"  # PLANNER[:key=value,...] as of eval/planning.py, or inverse, or subgoal
    seed: int = 0
    episode_steps: int | None = None  # environment steps of an episode, where known: no plan looks further
    image_key: str | None = None  # the observation that the model sees; None where there is one
    goal_image: str | None = None  # a picture file, the goal of every episode
    goal_key: str | None = None  # an observation that shows each episode's goal
    goal_dataset: str | None = None  # a data set, of whose episode `goal_episode` the last frame is the goal
    goal_episode: int = 0
    goal_camera: str | None = None  # of that data set, where it has several
    # An observation that is added to the actions: for an environment that wants a target where the model says how far
    # the target is away, as gym-pusht does (observation.state).
    relative_to: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [key for key in ("goal_image", "goal_key", "goal_dataset") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ConfigError(f"policy: found {' and '.join(given)}, expected one way to show the goal")

    def goal_is_given(self) -> None:
        """Raise ConfigError where nothing shows the goal."""
        if self.goal_image is None and self.goal_key is None and self.goal_dataset is None:
            raise ConfigError("policy: found no goal, expected goal_image, goal_key or goal_dataset")

    def seen_key(self, batch: Any) -> str:
        """The observation that the model sees. Raises ConfigError where that is not clear, or not there."""
        keys = [key for key in batch if key.startswith("observation.image") and key != self.goal_key]
        if self.image_key is not None:
            keys = [key for key in keys if key == self.image_key] or (
                [self.image_key] if self.image_key in batch else []
            )
        if len(keys) != 1:
            found = ", ".join(key for key in batch if key.startswith("observation")) or "none"
            raise ConfigError(
                f"policy: image_key: found the observations {found}, expected {self.image_key or 'one picture'}"
            )
        return str(keys[0])

    def validate_features(self) -> None:
        """Raise ConfigError where the environment or robot has no action."""
        if not any(feature.type is FeatureType.ACTION for feature in (self.output_features or {}).values()):
            raise ConfigError(f"policy: output_features: found no {ACTION!r}, expected the environment's action")

    @property
    def observation_delta_indices(self) -> None:
        """Past frames are remembered by the policy."""
        return None

    @property
    def action_delta_indices(self) -> None:
        """Nothing is trained here."""
        return None

    @property
    def reward_delta_indices(self) -> None:
        """Nothing is trained here."""
        return None

    def get_optimizer_preset(self) -> Any:
        """Raise ConfigError: nothing is trained here."""
        raise ConfigError(f"policy jepa_actions: {TRAINED_BY}")

    def get_scheduler_preset(self) -> None:
        """No schedule."""
        return None
