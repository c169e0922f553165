"""Encoder, masked predictor, latent dynamics, inverse head, and the world model that composes and saves them."""

from jepa_actions.models.architectures import ARCHITECTURES, Architecture, encoder_config, predictor_config
from jepa_actions.models.backbone import BackboneConfig, FrameBackbone
from jepa_actions.models.distance import DistanceConfig, TemporalDistance
from jepa_actions.models.dynamics import make_dynamics
from jepa_actions.models.encoder import EncoderConfig, VideoEncoder, take_tokens
from jepa_actions.models.features import FeatureHead, FeaturesConfig
from jepa_actions.models.inverse import InverseConfig, InverseHead
from jepa_actions.models.latent_dynamics import DynamicsConfig, LatentDynamics
from jepa_actions.models.masked_predictor import MaskedPredictor, PredictorConfig
from jepa_actions.models.masks import MASK_KINDS, Mask, RaggedMask, nearest_visible, sample_mask, sample_ragged_mask
from jepa_actions.models.motion import MotionConfig, MotionTrunk
from jepa_actions.models.pretrained import Pretrained, load_vjepa2, load_vjepa2_encoder
from jepa_actions.models.pretrained_ac import load_ac_predictor, load_ac_weights
from jepa_actions.models.rollout_cache import Cache
from jepa_actions.models.subgoal import SubgoalConfig, SubgoalHead
from jepa_actions.models.world_model import Context, Goal, Rollout, WorldModel
from jepa_actions.models.world_model_config import ImageTransform, PoolerConfig, RolloutConfig, WorldModelConfig

__all__ = [
    "ARCHITECTURES",
    "MASK_KINDS",
    "Architecture",
    "BackboneConfig",
    "Cache",
    "Context",
    "DistanceConfig",
    "DynamicsConfig",
    "EncoderConfig",
    "FeatureHead",
    "FeaturesConfig",
    "FrameBackbone",
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
    "Pretrained",
    "RaggedMask",
    "Rollout",
    "RolloutConfig",
    "SubgoalConfig",
    "SubgoalHead",
    "TemporalDistance",
    "VideoEncoder",
    "WorldModel",
    "WorldModelConfig",
    "encoder_config",
    "load_ac_predictor",
    "load_ac_weights",
    "load_vjepa2",
    "load_vjepa2_encoder",
    "make_dynamics",
    "nearest_visible",
    "predictor_config",
    "sample_mask",
    "sample_ragged_mask",
    "take_tokens",
]
