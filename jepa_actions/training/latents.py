"""A model's encoder as what stored latents are made with: its hash, that of its transform, and the function itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.data import VideoDataset
from jepa_actions.data.latents.cache import Encode
from jepa_actions.data.latents.encode import encode_dataset
from jepa_actions.data.latents.store import LatentStore, open_latents
from jepa_actions.models import FrameBackbone, WorldModel


def encoder_key(model: WorldModel, *, pooled: bool = False) -> str:
    """sha256 of the encoder: its form, and name, dtype, shape and bytes of each of its weights; with `pooled` of its
    pooler, too. Neither where the weights came from nor what else the model holds matters."""
    encoder = model.encoder
    config = asdict(encoder.config)
    for field in ("weights", "tokens", "image_size"):  # where weights came from; the others are the transform's
        config.pop(field, None)
    digest = hashlib.sha256(_json([type(encoder).__name__, config]))
    tensors = dict(encoder.state_dict())
    if pooled:
        digest.update(_json(["pooled", asdict(model.config.pooler)]))
        tensors |= {f"pooler.{name}": tensor for name, tensor in model.pooler.state_dict().items()}
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(_json([name, str(values.dtype), list(values.shape)]))
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def transform_key(model: WorldModel) -> str:
    """sha256 of what is done to decoded frames before the encoder (size, resize, mean, standard deviation), of the
    cameras, and of which tokens are kept."""
    encoder, config = model.encoder, model.config
    facts: dict[str, Any] = {
        "cameras": list(config.cameras),
        "size": list(config.image_size),
        "image": asdict(config.image),
        "tokens": "patch",
    }
    if isinstance(encoder, FrameBackbone):
        facts |= {"tokens": encoder.config.tokens, "resize": f"{encoder.facts.interpolation}, antialias, clamp"}
    return hashlib.sha256(_json(facts)).hexdigest()


def encoder_of(model: WorldModel, *, pooled: bool = False) -> Encode:
    """Tokens of uint8 frames by the model's encoder where it lies: each frame alone, no gradient, in float32 whatever
    the precision of training. With `pooled` the latent states that its pooler makes of them, all cameras as `z`."""

    if pooled:
        model.pooler.eval()  # running statistics, not those of the frames that are encoded together

    @torch.no_grad()
    def encode(frames: dict[str, UInt8[Tensor, "b t c h w"]]) -> dict[str, Float[Tensor, "b t p d"]]:
        device = next(model.encoder.parameters()).device
        with torch.autocast(device.type, enabled=False):
            images = model.images({camera: image.to(device, non_blocking=True) for camera, image in frames.items()})
            tokens = model.tokens_of(images)
            return {"z": model.pooled(tokens)} if pooled else tokens

    return encode


def encode_latents(
    model: WorldModel,
    dataset: VideoDataset,
    out: str | Path,
    *,
    episodes: Iterable[int] | None = None,
    on_frames: Callable[[int, int], None] | None = None,
    pooled: bool = False,
) -> LatentStore:
    """Encode what is not encoded yet of a data set by the model's encoder, with `pooled` by its pooler, too, and open
    it; see `encode_dataset`."""
    return encode_dataset(
        dataset,
        encoder_of(model, pooled=pooled),
        out,
        encoder_key=encoder_key(model, pooled=pooled),
        transform_key=transform_key(model),
        episodes=episodes,
        on_frames=on_frames,
    )


def stored_latents(model: WorldModel, dataset: VideoDataset, root: str | Path) -> LatentStore:
    """The stored latents of a data set by the model's encoder. Raises DataError where there are none; see
    `open_latents`."""
    return open_latents(root, dataset, encoder_key=encoder_key(model), transform_key=transform_key(model))


def _json(facts: Any) -> bytes:
    return json.dumps(facts, sort_keys=True).encode()
