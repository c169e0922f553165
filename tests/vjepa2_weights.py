"""Small V-JEPA 2 weights in both published layouts, written without the package's table of names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from jepa_actions.models import Architecture, EncoderConfig, MaskedPredictor, PredictorConfig, VideoEncoder

SMALL = Architecture(
    EncoderConfig(image_size=(16, 16), patch=4, tubelet=2, width=24, depth=2, heads=2),
    PredictorConfig(width=16, depth=1, heads=2, mask_tokens=4),
)


def modules(architecture: Architecture = SMALL, seed: int = 0) -> tuple[VideoEncoder, MaskedPredictor]:
    """Encoder and predictor with every parameter away from where it starts."""
    torch.manual_seed(seed)
    made = VideoEncoder(architecture.encoder), MaskedPredictor(architecture.predictor, architecture.encoder)
    with torch.no_grad():
        for module in made:
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made[0].eval(), made[1].eval()


def hugging_face_tensors(encoder: VideoEncoder, predictor: MaskedPredictor) -> dict[str, Tensor]:
    """The names of `transformers.VJEPA2Model`: queries, keys and values apart, mask tokens stacked."""
    out: dict[str, Tensor] = {"predictor.embeddings.mask_tokens": torch.stack(list(predictor.mask_tokens)).detach()}
    for prefix, module in (("encoder.", encoder), ("predictor.", predictor)):
        for name, tensor in module.state_dict().items():
            if "mask_tokens" in name:
                continue
            name = name.replace("patch_embed.", "embeddings.patch_embeddings.").replace("blocks.", "layer.")
            name = name.replace("predictor_embed.", "embeddings.predictor_embeddings.").replace("attn.", "attention.")
            name = name.replace("predictor_proj.", "proj.")
            name = "layernorm." + name.removeprefix("norm.") if name.startswith("norm.") else name
            if ".qkv." in name:
                for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    out[prefix + name.replace("qkv", part)] = rows.clone()
            else:
                out[prefix + name] = tensor
    return out


def hugging_face_config(architecture: Architecture = SMALL) -> dict[str, Any]:
    encoder, predictor = architecture.encoder, architecture.predictor
    return {
        "architectures": ["VJEPA2Model"],
        "crop_size": encoder.image_size[0],
        "frames_per_clip": 4,
        "hidden_act": "gelu",
        "hidden_size": encoder.width,
        "in_chans": encoder.channels,
        "layer_norm_eps": 1e-06,
        "mlp_ratio": encoder.mlp_ratio,
        "model_type": "vjepa2",
        "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.depth,
        "patch_size": encoder.patch,
        "pred_hidden_size": predictor.width,
        "pred_mlp_ratio": predictor.mlp_ratio,
        "pred_num_attention_heads": predictor.heads,
        "pred_num_hidden_layers": predictor.depth,
        "pred_num_mask_tokens": predictor.mask_tokens,
        "qkv_bias": True,
        "tubelet_size": encoder.tubelet,
    }


def write_hugging_face(folder: Path, *, shards: int = 1, architecture: Architecture = SMALL) -> Path:
    """`config.json`, and one `model.safetensors` or several with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hugging_face_config(architecture)))
    tensors = hugging_face_tensors(*modules(architecture))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def release_content(architecture: Architecture = SMALL) -> dict[str, Any]:
    """What the training code of the release saves: three networks as its wrappers name them, and its own state.

    `encoder` has the weights of seed 1, `target_encoder` and `predictor` those of seed 0.
    """
    target, predictor = modules(architecture)
    encoder, _ = modules(architecture, seed=1)
    renamed = {
        name.replace("blocks.", "predictor_blocks.") if name.startswith("blocks.") else name: tensor
        for name, tensor in predictor.state_dict().items()
    }
    renamed = {"predictor_" + name if name.startswith("norm.") else name: tensor for name, tensor in renamed.items()}
    return {
        "encoder": {f"module.backbone.{name}": tensor for name, tensor in encoder.state_dict().items()},
        "predictor": {f"module.backbone.{name}": tensor for name, tensor in renamed.items()},
        "opt": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
        "scaler": None,
        "target_encoder": {f"module.backbone.{name}": tensor for name, tensor in target.state_dict().items()},
        "epoch": 3,
        "loss": 0.5,
        "batch_size": 24,
        "world_size": 128,
        "lr": 1e-3,
    }


def write_release(path: Path, **changes: Any) -> Path:
    """The `.pt`; `changes` replace top-level entries."""
    torch.save(release_content() | changes, path)
    return path
