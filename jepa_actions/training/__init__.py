"""The loop on accelerate, schedules, EMA, checkpoint and resume, meters."""

from jepa_actions.training.build import build_model
from jepa_actions.training.config import (
    ActionConfig,
    DataConfig,
    EnvConfig,
    LabelsConfig,
    ObjectivesConfig,
    OptimConfig,
    SplitConfig,
    StreamConfig,
    TrainConfig,
)
from jepa_actions.training.convert import convert_checkpoint, is_run
from jepa_actions.training.ema import Ema
from jepa_actions.training.latents import encode_latents, encoder_key, stored_latents, transform_key
from jepa_actions.training.loop import train
from jepa_actions.training.meters import effective_rank, spread
from jepa_actions.training.module import NonFiniteLossError, TrainingModule
from jepa_actions.training.resume import Resume
from jepa_actions.training.schedules import learning_rate
from jepa_actions.training.sources import OpenData, open_data, whole_episodes
from jepa_actions.training.stop import TerminatedError
from jepa_actions.training.threads import is_main_process, use_all_cores
from jepa_actions.training.world_data import WorldDataset, world_dataset, world_of

__all__ = [
    "ActionConfig",
    "DataConfig",
    "Ema",
    "EnvConfig",
    "LabelsConfig",
    "NonFiniteLossError",
    "ObjectivesConfig",
    "OpenData",
    "OptimConfig",
    "Resume",
    "SplitConfig",
    "StreamConfig",
    "TerminatedError",
    "TrainConfig",
    "TrainingModule",
    "WorldDataset",
    "build_model",
    "convert_checkpoint",
    "effective_rank",
    "encode_latents",
    "encoder_key",
    "is_main_process",
    "is_run",
    "learning_rate",
    "open_data",
    "spread",
    "stored_latents",
    "train",
    "transform_key",
    "use_all_cores",
    "whole_episodes",
    "world_dataset",
    "world_of",
]
