"""Encoder, masked predictor, latent dynamics, inverse head, and the world model that composes and saves them."""

from jepa_actions.models.dynamics import Cache, DynamicsConfig, LatentDynamics
from jepa_actions.models.encoder import EncoderConfig, VideoEncoder, take_tokens
from jepa_actions.models.inverse import InverseConfig, InverseHead
from jepa_actions.models.masked_predictor import MaskedPredictor, PredictorConfig
from jepa_actions.models.masks import MASK_KINDS, Mask, nearest_visible, sample_mask
from jepa_actions.models.motion import MotionConfig, MotionTrunk
from jepa_actions.models.world_model import (
    Context,
    Goal,
    ImageTransform,
    PoolerConfig,
    Rollout,
    WorldModel,
    WorldModelConfig,
)

__all__ = [
    "MASK_KINDS",
    "Cache",
    "Context",
    "DynamicsConfig",
    "EncoderConfig",
    "Goal",
    "ImageTransform",
    "InverseConfig",
    "InverseHead",
    "LatentDynamics",
    "Mask",
    "MaskedPredictor",
    "MotionConfig",
    "MotionTrunk",
    "PoolerConfig",
    "PredictorConfig",
    "Rollout",
    "VideoEncoder",
    "WorldModel",
    "WorldModelConfig",
    "nearest_visible",
    "sample_mask",
    "take_tokens",
]
