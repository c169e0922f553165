"""A frozen image backbone of timm as the frame encoder: any ViT, by name, with the normalisation of its weights."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BackboneConfig:
    """Which frozen backbone takes the place of the `VideoEncoder`, and what is read from it."""

    name: str  # timm:NAME or timm:NAME.TAG, as timm:vit_small_patch14_dinov2.lvd142m
    weights: str | None = None  # None: timm's pretrained, from the Hub; a .safetensors file; or random, for tests
    tokens: Literal["patch", "pooled"] = "patch"  # pooled: one token, as the backbone's own pretrained head pools
    image_size: tuple[int, int] | None = None  # height, width in pixels; None is the size of the pretraining
