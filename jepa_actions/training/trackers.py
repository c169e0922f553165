"""TensorBoard, trackio and Weights & Biases, through accelerate: they are given the rows of `metrics.jsonl`."""

import importlib.util
from typing import Any

from accelerate import Accelerator

from jepa_actions.errors import ConfigError
from jepa_actions.training.config import TrainConfig

INSTALL = {"tensorboard": "jepa-actions[track]", "trackio": "jepa-actions[track]", "wandb": "wandb"}


def check_tracker(name: str | None) -> None:
    """Refuse a tracker whose package is not installed: accelerate would leave it out without a word.

    Raises: ConfigError.
    """
    if name is not None and importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"tracker: {name} is not installed; expected pip install '{INSTALL[name]}', or tracker null "
            "(metrics.jsonl is always written)"
        )


def start_tracker(accelerator: Accelerator, config: TrainConfig, recipe: dict[str, Any]) -> None:
    """Open the recipe's tracker, where it has one, with the recipe as flat hyperparameters."""
    if config.tracker is not None:
        accelerator.init_trackers(config.name, config=flat(recipe))


def flat(value: dict[str, Any], where: str = "") -> dict[str, str | int | float | bool]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; what is no number and no text as text, as TensorBoard takes nothing else."""
    found: dict[str, str | int | float | bool] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            found |= flat(item, f"{where}{key}.")
        else:
            found[f"{where}{key}"] = item if isinstance(item, (str, int, float)) else str(item)
    return found
