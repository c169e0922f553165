"""The policy `jepa_actions` of LeRobot: a shared world model that plans towards a goal picture."""
# mypy: disable-error-code="import-not-found"

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from jepa_actions.adapters.lerobot.configuration_jepa_actions import TRAINED_BY, JepaActionsConfig
from jepa_actions.adapters.lerobot.goals import GoalControl, goal_from_dataset, goal_from_file
from jepa_actions.adapters.lerobot.processor_jepa_actions import make_jepa_actions_pre_post_processors
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import parse_control
from jepa_actions.models import WorldModel

INSIDE = "world_model"  # where `save_pretrained` puts the model, beside LeRobot's own config.json


class JepaActionsPolicy(PreTrainedPolicy):  # type: ignore[misc, unused-ignore]
    """Decides block by block, for all environments of a batch side by side; hands out one raw action at a time.

    Arguments:
        config: names the model, the planner and the goal.

    Raises: ConfigError for a configuration without a model, for one whose planner or goal the model does not fit, and
        for an action of another width than the environment's; CheckpointError for a model that does not open.
    """

    config_class = JepaActionsConfig
    name = "jepa_actions"

    def __init__(self, config: JepaActionsConfig, **_: Any) -> None:
        super().__init__(config)
        if not config.model:
            raise ConfigError("policy: found no model, expected --policy.model: a saved model's folder or Hub id")
        config.validate_features()
        self.model = WorldModel.from_pretrained(config.model, revision=config.revision)
        self._control = GoalControl(
            self.model, parse_control(config.planner), seed=config.seed, steps=config.episode_steps
        )
        names, wanted = self._control.codec.names, config.action_feature
        if wanted is None or tuple(wanted.shape) != (len(names),):
            found = "none" if wanted is None else str(tuple(wanted.shape))
            raise ConfigError(f"policy: action: found the shape {found}, expected the model's: {', '.join(names)}")
        self._goal: Tensor | None = None

    def reset(self) -> None:
        """The next observation is the first one of new episodes. Raises ConfigError where nothing shows the goal."""
        self.config.goal_is_given()
        self._control.reset()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """(environments, dimensions): the next raw action of each."""
        goals = self._goals(batch)
        return self._absolute(self._control.next_actions(batch[self.config.seen_key(batch)], goals), batch)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """(environments, steps, dimensions): the raw actions of the next block, which is then taken for executed.

        Raises: ConfigError with `relative_to`, whose observation moves within a chunk.
        """
        if self.config.relative_to is not None:
            raise ConfigError("policy: found relative_to, expected none: it is added step by step (select_action)")
        goals = self._goals(batch)
        return self._control.decide(batch[self.config.seen_key(batch)], goals)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any] | None]:
        """Raise NotImplementedError: nothing is trained here."""
        raise NotImplementedError(TRAINED_BY)

    def get_optim_params(self) -> dict[str, Any]:
        """Raise NotImplementedError: nothing is trained here."""
        raise NotImplementedError(TRAINED_BY)

    def _save_pretrained(self, save_directory: Path) -> None:
        """A folder for `--policy.path`: the world model inside, so that it depends on nothing else."""
        self.model.save_pretrained(save_directory / INSIDE)
        replace(self.config, model=INSIDE, revision=None, input_features={})._save_pretrained(save_directory)
        for processor in make_jepa_actions_pre_post_processors(self.config):
            processor.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: JepaActionsConfig | None = None, **options: Any
    ) -> "JepaActionsPolicy":
        """Open what `save_pretrained` wrote, or its repository on the Hub, pinned by `revision`."""
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            known = {key: options[key] for key in ("revision", "cache_dir", "token") if key in options}
            folder = Path(snapshot_download(str(pretrained_name_or_path), **known))
        if config is None:
            config = JepaActionsConfig.from_pretrained(folder)
        if config.model == INSIDE:
            config = replace(config, model=str(folder / INSIDE))
        policy = cls(config)
        policy.to(config.device).eval()
        return policy

    def _goals(self, batch: dict[str, Tensor]) -> Tensor:
        """The goal's picture: of every episode, or one for all. Read once where it is not an observation."""
        config = self.config
        if config.goal_key is not None:
            if config.goal_key not in batch:
                found = ", ".join(key for key in batch if key.startswith("observation"))
                raise ConfigError(f"policy: goal_key: found the observations {found}, expected {config.goal_key}")
            return batch[config.goal_key]
        if self._goal is None:
            config.goal_is_given()
            if config.goal_image is not None:
                picture = goal_from_file(config.goal_image)
            else:
                picture = goal_from_dataset(config.goal_dataset, config.goal_episode, config.goal_camera)
            self._goal = picture.to(batch[config.seen_key(batch)].device)
        return self._goal

    def _absolute(self, action: Tensor, batch: dict[str, Tensor]) -> Tensor:
        key = self.config.relative_to
        if key is None:
            return action
        if key not in batch or batch[key].shape != action.shape:
            found = tuple(batch[key].shape) if key in batch else "none"
            raise ConfigError(f"policy: relative_to: found {key} of {found}, expected {tuple(action.shape)} ({ACTION})")
        return action + batch[key].to(action)
