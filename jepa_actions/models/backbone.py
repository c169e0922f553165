"""A frozen image backbone of timm as the frame encoder: any ViT by name, with the normalisation of its own weights.

Frozen features as latents: DINO-WM (arXiv 2411.04983) plans on the patch tokens of DINOv2.
"""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import CheckpointError, ConfigError
from jepa_actions.hub import hub_errors

PREFIX = "timm:"
CHUNK = 64  # frames per pass


@dataclass(frozen=True)
class BackboneConfig:
    """Which frozen backbone takes the place of the `VideoEncoder`, and what is read from it."""

    name: str  # timm:NAME or timm:NAME.TAG, as timm:vit_small_patch14_dinov2.lvd142m
    weights: str | None = None  # None: timm's pretrained, from the Hub; a .safetensors file; or random, for tests
    tokens: Literal["patch", "pooled"] = "patch"  # pooled: one token, as the backbone's own pretrained head pools
    image_size: tuple[int, int] | None = None  # height, width in pixels; None is the size of the pretraining


@dataclass(frozen=True)
class BackboneFacts:
    """What timm says of a backbone's pretraining, without building it."""

    name: str  # architecture.tag
    image_size: tuple[int, int]  # height, width
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"]
    published: bool  # whether timm has weights of it
    classifier: tuple[str, ...]  # prefixes of the pretraining's classifier, which is not used


def backbone_facts(config: BackboneConfig) -> BackboneFacts:
    """The pretraining metadata of a backbone, with the picture size that is asked for.

    Raises:
        ConfigError: for a name that timm does not know.
    """
    import timm
    from timm.data.config import resolve_data_config

    card = timm.get_pretrained_cfg(_known_name(config.name))
    assert card is not None
    data: dict[str, Any] = resolve_data_config({}, pretrained_cfg=card.to_dict())  # type: ignore[no-untyped-call]
    classifier = card.classifier or ()
    height, width = config.image_size or data["input_size"][1:]
    return BackboneFacts(
        name=f"{card.architecture}.{card.tag}" if card.tag else str(card.architecture),
        image_size=(height, width),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation="bilinear" if data["interpolation"] == "bilinear" else "bicubic",
        published=card.has_weights,
        classifier=(classifier,) if isinstance(classifier, str) else tuple(classifier),
    )


def resolved_backbone(config: BackboneConfig) -> BackboneConfig:
    """The same backbone with its tag and picture size written out. Raises as `backbone_facts` does."""
    facts = backbone_facts(config)
    return replace(config, name=PREFIX + facts.name, image_size=facts.image_size)


class FrameBackbone(nn.Module):
    """A ViT of timm that never learns: no gradient, always in evaluation mode; each frame is encoded alone.

    Args:
        config: which one.
        pretrained: False leaves random weights, for a model whose own weights are about to be loaded.

    Raises:
        ConfigError: for a name that timm does not know, a model that is no ViT, or a picture size that is no multiple
            of its patch.
        CheckpointError: for weights that cannot be had, or are those of another model.
    """

    def __init__(self, config: BackboneConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = resolved_backbone(config)
        self.facts = backbone_facts(config)
        vit = _vit(self.facts.name)
        patch = vit.patch_embed.patch_size
        height, width = self.facts.image_size
        if height < 1 or width < 1 or height % patch[0] or width % patch[1]:
            raise ConfigError(
                f"model.backbone.image_size {height}x{width} is not a multiple of the patch of {self.facts.name}, "
                f"{patch[0]}x{patch[1]} pixels"
            )
        if pretrained and config.weights != "random":
            vit = _with_weights(vit, self.facts, config.weights)
        if tuple(vit.patch_embed.img_size) != (height, width):
            vit.set_input_size(img_size=(height, width))  # resamples the position embedding
        self.vit = vit.requires_grad_(False)
        self.eval()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of the pictures that are encoded."""
        return self.facts.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens per column and per row; a pooled frame is one token."""
        rows, columns = self.vit.patch_embed.grid_size
        return (1, 1) if self.config.tokens == "pooled" else (rows, columns)

    @property
    def patches(self) -> int:
        """Tokens per frame."""
        return self.grid[0] * self.grid[1]

    @property
    def width(self) -> int:
        """Channels of a token."""
        pooled = getattr(self.vit, "head_hidden_size", self.vit.num_features)
        return int(pooled if self.config.tokens == "pooled" else self.vit.embed_dim)

    def train(self, mode: bool = True) -> "FrameBackbone":
        """Stays in evaluation mode: dropout and the like are never on."""
        return super().train(False)

    def resize(self, frames: UInt8[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h2 w2"]:
        """The whole picture at the backbone's size, still from 0 to 255, by the interpolation of the pretraining."""
        if tuple(frames.shape[-2:]) == self.image_size:
            return frames.to(torch.float32)
        flat = frames.flatten(0, -4).to(torch.float32)
        sized = F.interpolate(
            flat, self.image_size, mode=self.facts.interpolation, align_corners=False, antialias=True
        ).clamp(0.0, 255.0)
        out: Tensor = sized.unflatten(0, frames.shape[:-3])
        return out

    @torch.no_grad()
    def encode_each(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t p d"]:
        """Normalised frames -> tokens, each frame alone, without gradient and in chunks."""
        chunks = frames.flatten(0, 1).split(CHUNK)
        out: Tensor = torch.cat([self._tokens(chunk) for chunk in chunks]).unflatten(0, frames.shape[:2])
        return out

    def _tokens(self, frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p d"]:
        features: Tensor = self.vit.forward_features(frames)  # (n, prefix + patches, d)
        if self.config.tokens == "pooled":
            pooled: Tensor = self.vit.forward_head(features, pre_logits=True)
            return pooled[:, None]
        return features[:, self.vit.num_prefix_tokens :]  # without class token and registers


def _known_name(name: str) -> str:
    """The name without its prefix. Raises ConfigError, with names that are near, where timm does not know it."""
    import timm

    bare = name.removeprefix(PREFIX)
    if bare == name:
        raise ConfigError(f"model.backbone.name: expected {PREFIX}NAME, found {name!r}")
    architecture, _, tag = bare.partition(".")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True) if timm.is_model(architecture) else []
    if timm.is_model(architecture) and (not tag or bare in tagged):
        return bare
    known = tagged or [*timm.list_models(), *timm.list_models(pretrained=True)]
    near = tagged or difflib.get_close_matches(bare, known, 3, 0.5)
    hint = f"; did you mean {', '.join(near[:4])}?" if near else ""
    raise ConfigError(f"model.backbone.name: timm {timm.__version__} has no model {bare!r}{hint}")


def _vit(name: str, **options: Any) -> Any:
    """The model at the size of its pretraining, without a classifier. Raises ConfigError where it is no ViT."""
    import timm

    model = timm.create_model(name, num_classes=0, **options)
    needs = ("forward_features", "forward_head", "num_prefix_tokens", "embed_dim", "set_input_size")
    missing = [need for need in needs if not hasattr(model, need)]
    if missing or not hasattr(getattr(model, "patch_embed", None), "grid_size"):
        raise ConfigError(
            f"model.backbone.name: {name} is a {type(model).__name__}, expected a ViT: a model whose features are "
            "class, register and patch tokens"
        )
    return model


def _with_weights(vit: Any, facts: BackboneFacts, weights: str | None) -> Any:
    from jepa_actions.models.serialize import fill_weights, read_tensors

    if weights is None:
        return _from_hub(facts)
    path = Path(weights)
    if path.suffix != ".safetensors":
        raise ConfigError(f"model.backbone.weights: expected null, random or a .safetensors file, found {weights!r}")
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in read_tensors(path).items()
        if not name.startswith(tuple(f"{prefix}." for prefix in facts.classifier))
    }
    try:
        fill_weights(vit, tensors, str(path))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; expected the weights of {facts.name} in timm's layout") from error
    return vit


def _from_hub(facts: BackboneFacts) -> Any:
    if not facts.published:
        raise ConfigError(
            f"model.backbone: timm has no pretrained weights of {facts.name}: name a tag (timm:NAME.TAG), or a "
            "safetensors file as model.backbone.weights"
        )
    unavailable: tuple[type[Exception], ...] = (RuntimeError, *hub_errors())
    try:
        return _vit(facts.name, pretrained=True)
    except unavailable as error:
        raise CheckpointError(
            f"model.backbone: the weights of {facts.name} are not in the local cache and cannot be downloaded "
            f"({type(error).__name__}): connect once, or give a safetensors file as model.backbone.weights"
        ) from error
