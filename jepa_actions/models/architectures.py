"""Named sizes of encoder and masked predictor: V-JEPA 2's published ones, and smaller ones of the same form."""

import difflib
from dataclasses import dataclass

from jepa_actions.errors import ConfigError
from jepa_actions.models.encoder import EncoderConfig
from jepa_actions.models.masked_predictor import PredictorConfig


@dataclass(frozen=True)
class Architecture:
    """An encoder, the masked predictor it is trained with, and where published weights of it are."""

    encoder: EncoderConfig
    predictor: PredictorConfig
    hub_id: str | None = None  # of weights in the Hugging Face layout


def _vit(
    size: int, width: int, depth: int, heads: int, predictor: PredictorConfig, hub_id: str | None = None
) -> Architecture:
    """A ViT over tubelets of 2 frames and 16x16 pixels; ViT-g's MLP is 48/11 as wide as the model, the others' 4."""
    ratio = 48 / 11 if width == 1408 else 4.0
    encoder = EncoderConfig((size, size), 16, tubelet=2, width=width, depth=depth, heads=heads, mlp_ratio=ratio)
    return Architecture(encoder, predictor, hub_id)


# V-JEPA 2 has one predictor for all encoders. It keeps ten mask tokens, most of which its training never chose.
_PUBLISHED = PredictorConfig(width=384, depth=12, heads=12, mask_tokens=10)

ARCHITECTURES: dict[str, Architecture] = {
    # arXiv 2506.09985, as the factory functions of its release build them
    "vit_large_16_256": _vit(256, 1024, 24, 16, _PUBLISHED, "facebook/vjepa2-vitl-fpc64-256"),
    "vit_huge_16_256": _vit(256, 1280, 32, 16, _PUBLISHED, "facebook/vjepa2-vith-fpc64-256"),
    "vit_giant_16_256": _vit(256, 1408, 40, 22, _PUBLISHED, "facebook/vjepa2-vitg-fpc64-256"),
    "vit_giant_16_384": _vit(384, 1408, 40, 22, _PUBLISHED, "facebook/vjepa2-vitg-fpc64-384"),
    # the same encoders at a size for which no pretraining weights were published
    "vit_large_16_384": _vit(384, 1024, 24, 16, _PUBLISHED),
    "vit_huge_16_384": _vit(384, 1280, 32, 16, _PUBLISHED),
    # small ones, to be trained here; the usual ViT widths
    "vit_base_16_224": _vit(224, 768, 12, 12, PredictorConfig(width=384, depth=12, heads=12)),
    "vit_small_16_224": _vit(224, 384, 12, 6, PredictorConfig(width=192, depth=6, heads=6)),
    "vit_tiny_16_224": _vit(224, 192, 12, 3, PredictorConfig(width=96, depth=4, heads=4)),
    "vit_laptop_8_64": Architecture(EncoderConfig(), PredictorConfig(width=48, depth=2, heads=2)),
}


def encoder_config(name: str) -> EncoderConfig:
    """The encoder of a named architecture.

    Raises:
        ConfigError: for a name that is not in `ARCHITECTURES`.
    """
    return architecture(name).encoder


def predictor_config(name: str) -> PredictorConfig:
    """The masked predictor of a named architecture; raises as `encoder_config` does."""
    return architecture(name).predictor


def architecture(name: str) -> Architecture:
    """Encoder and predictor of a named architecture; raises as `encoder_config` does."""
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, found {name!r}{hint}")
    return ARCHITECTURES[name]
