"""The loop on accelerate, schedules, EMA, checkpoint and resume, meters."""

from jepa_actions.training.config import (
    ActionConfig,
    DataConfig,
    EnvConfig,
    ObjectivesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jepa_actions.training.ema import Ema
from jepa_actions.training.loop import NonFiniteLossError, TrainingModule, build_model, train
from jepa_actions.training.meters import effective_rank, spread
from jepa_actions.training.schedules import learning_rate
from jepa_actions.training.sources import OpenData, TwoRoomDataset, open_data, two_room_dataset, whole_episodes
from jepa_actions.training.threads import is_main_process, use_all_cores

__all__ = [
    "ActionConfig",
    "DataConfig",
    "Ema",
    "EnvConfig",
    "NonFiniteLossError",
    "ObjectivesConfig",
    "OpenData",
    "OptimConfig",
    "SplitConfig",
    "TrainConfig",
    "TrainingModule",
    "TwoRoomDataset",
    "build_model",
    "effective_rank",
    "is_main_process",
    "learning_rate",
    "open_data",
    "spread",
    "train",
    "two_room_dataset",
    "use_all_cores",
    "whole_episodes",
]
