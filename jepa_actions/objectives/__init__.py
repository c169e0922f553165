"""Losses, one family per file. An objective is `objective(model, views, generator) -> (loss, logs)`."""

from typing import Protocol

import torch
from torch import Tensor

from jepa_actions.models import WorldModel
from jepa_actions.objectives.anti_collapse import (
    SigReg,
    SigRegConfig,
    TemporalSimilarity,
    TemporalSimilarityConfig,
    VicReg,
    VicRegConfig,
)
from jepa_actions.objectives.features import Features, FeaturesLossConfig
from jepa_actions.objectives.forward import Forward, ForwardConfig
from jepa_actions.objectives.goal_inverse import GoalInverseLossConfig, GoalInverseObjective
from jepa_actions.objectives.inverse import Inverse, InverseLossConfig
from jepa_actions.objectives.masked import Masked, MaskedConfig
from jepa_actions.objectives.subgoal import SubgoalLossConfig, SubgoalObjective
from jepa_actions.objectives.temporal_distance import TemporalDistanceConfig, TemporalDistanceObjective
from jepa_actions.objectives.views import TargetEncoder, Views


class Objective(Protocol):
    """A loss term: a scalar to minimise, and named detached scalars to log."""

    def __call__(
        self, model: WorldModel, views: Views, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]: ...


__all__ = [
    "Features",
    "FeaturesLossConfig",
    "Forward",
    "ForwardConfig",
    "GoalInverseLossConfig",
    "GoalInverseObjective",
    "Inverse",
    "InverseLossConfig",
    "Masked",
    "MaskedConfig",
    "Objective",
    "SigReg",
    "SigRegConfig",
    "SubgoalLossConfig",
    "SubgoalObjective",
    "TargetEncoder",
    "TemporalDistanceConfig",
    "TemporalDistanceObjective",
    "TemporalSimilarity",
    "TemporalSimilarityConfig",
    "VicReg",
    "VicRegConfig",
    "Views",
]
