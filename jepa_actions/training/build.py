"""The model of a recipe, for its data: checked against each other, started and frozen as the recipe says."""

from jepa_actions.data import VideoDataset
from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.sources import OpenData
from jepa_actions.training.start import GIVEN, start_model

NEEDS_ACTIONS = ("forward", "inverse", "goal_inverse")


def build_model(config: TrainConfig, data: OpenData) -> WorldModel:
    """A new model for the recipe and its data, with the weights of `init` where one is given.

    Raises:
        ConfigError: for an objective that needs actions where there are none or an encoder that is not frozen,
            proprio that the data does not have, or an `init` of another architecture.
    """
    if config.model.backbone is not None and config.objectives.masked is not None:
        raise ConfigError(
            f"objectives.masked: model.backbone ({config.model.backbone.name}) is a frozen encoder of single frames, "
            "which has no masked pretraining; set objectives.masked to null"
        )
    if data.codec is None:
        for name in NEEDS_ACTIONS:
            if getattr(config.objectives, name) is not None:
                reason = "data.labels is false" if not config.data.labels else f"{data.dataset.name} has no actions"
                raise ConfigError(f"objectives.{name} needs actions, but {reason}")
    _check_proprio(config.model.dynamics.proprio, data.dataset)
    freeze = config.train.freeze
    if freeze and not config.train.freeze_encoder:
        raise ConfigError(f"train.freeze {', '.join(freeze)}: expected train.freeze_encoder true with it")
    random = [part for part in freeze if part in GIVEN and part not in config.init_parts]
    if random:
        raise ConfigError(f"train.freeze {', '.join(random)}: not part of init_parts, so it would stay as it was drawn")
    model = start_model(config.model, data.codec, config.init, freeze, config.init_parts)
    for part in ("encoder", *freeze) if config.train.freeze_encoder else ():
        frozen = getattr(model, part)
        if frozen is None:
            raise ConfigError(f"train.freeze: this model has no {part}")
        frozen.requires_grad_(False)
    return model


def _check_proprio(wanted: int, dataset: VideoDataset) -> None:
    """The dynamics reads the proprio that the data has, or none."""
    names = dataset.proprio_names or ()
    if wanted not in (0, len(names)):
        raise ConfigError(
            f"model.dynamics.proprio is {wanted}, but {dataset.name} has {len(names)}"
            f"{': ' + ', '.join(names) if names else ''}"
        )
