"""Form and size of a world model, its image transform, and how rollouts are computed: saved beside the weights."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models.backbone import BackboneConfig, backbone_facts, resolved_backbone
from jepa_actions.models.distance import DistanceConfig
from jepa_actions.models.encoder import EncoderConfig
from jepa_actions.models.features import FeaturesConfig
from jepa_actions.models.inverse import InverseConfig
from jepa_actions.models.latent_dynamics import DynamicsConfig
from jepa_actions.models.masked_predictor import PredictorConfig
from jepa_actions.models.subgoal import SubgoalConfig
from jepa_actions.nn import AttentionBackend


@dataclass(frozen=True)
class PoolerConfig:
    """From patch tokens to latent tokens: `attention` gives `latents` per camera, `patches` keeps them all, `flatten`
    makes one of all of them side by side.
    """

    kind: Literal["attention", "patches", "flatten"] = "attention"
    latents: int = 1  # attention only: latent tokens per camera
    dim: int = 64
    heads: int = 4
    hidden: int = 256  # flatten only: width of the hidden layer
    normalise: bool = False  # patches only: layer norm, without parameters, on every latent token (V-JEPA 2-AC)

    def __post_init__(self) -> None:
        if self.normalise and self.kind != "patches":
            raise ConfigError(f"pooler.normalise is for pooler.kind patches, found kind {self.kind}")


@dataclass(frozen=True)
class ImageTransform:
    """uint8 to the encoder's input: (x / 255 - mean) / std, per RGB channel."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, frames: UInt8[Tensor, "*b c h w"] | Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
        mean = torch.tensor(self.mean, device=frames.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=frames.device).view(3, 1, 1)
        return (frames.to(torch.float32) - 255.0 * mean) / (255.0 * std)


@dataclass(frozen=True)
class RolloutConfig:
    """How plans are imagined, for any kind of dynamics but the MLP: the same numbers up to rounding."""

    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False  # torch.compile around attention; needs a C++ compiler, or triton on CUDA


@dataclass(frozen=True)
class WorldModelConfig:
    """Everything that shapes a `WorldModel`, but for the action codec, which comes from data."""

    cameras: tuple[str, ...] = ("image",)
    image: ImageTransform = field(default_factory=ImageTransform)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pooler: PoolerConfig = field(default_factory=PoolerConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    inverse: InverseConfig = field(default_factory=InverseConfig)
    distance: DistanceConfig | None = None  # temporal distance to a goal, a cost that sees walls
    # The inverse head towards goals that are far, max_gap model steps at most: acts by itself and proposes to planners.
    goal_inverse: InverseConfig | None = None
    subgoal: SubgoalConfig | None = None  # the next latent on the way to a goal, for the inverse head to read
    features: FeaturesConfig | None = None  # tells patch features from a state, so that its readout forgets none
    backbone: BackboneConfig | None = None  # frozen, in the place of `encoder`; `predictor` is then not made
    attention: AttentionBackend = "auto"  # how attention is computed; the numbers are the same
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of the pictures that are encoded."""
        return self.encoder.image_size if self.backbone is None else backbone_facts(self.backbone).image_size

    def resolved(self) -> "WorldModelConfig":
        """With what a backbone's pretraining says written out: its tag, picture size, mean and standard deviation.

        Raises:
            ConfigError: for a backbone that timm does not know, or another `image` than the backbone was trained on.
        """
        if self.backbone is None:
            return self
        facts = backbone_facts(self.backbone)
        image = ImageTransform(facts.mean, facts.std)
        if self.image not in (ImageTransform(), image):
            raise ConfigError(
                f"model.image: {facts.name} was trained with mean {facts.mean} and std {facts.std}, found "
                f"{self.image.mean} and {self.image.std}; leave model.image out"
            )
        return replace(self, image=image, backbone=resolved_backbone(self.backbone))
