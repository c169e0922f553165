"""Weights of V-JEPA 2-AC's predictor as released (facebookresearch/vjepa2, `vjepa2-ac-vitg.pt`) in `LatentDynamics`.

Nothing is downloaded here. The released file is a pickle of tensors; it is read with `weights_only=True` and refused
where that refuses it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from jepa_actions.errors import CheckpointError
from jepa_actions.models.dynamics import make_dynamics
from jepa_actions.models.latent_dynamics import DynamicsConfig, LatentDynamics
from jepa_actions.models.vjepa2_files import _load_pt

PREFIXES = ("module.", "backbone.")
NAMES = {  # published name -> ours
    "predictor_embed": "latent_in",
    "action_encoder": "action_in",
    "state_encoder": "proprio_in",
    "extrinsics_encoder": "extrinsics_in",
    "predictor_blocks": "blocks",
    "predictor_norm": "norm",
    "predictor_proj": "out",
}
UNUSED = ("extrinsics_in.weight", "extrinsics_in.bias")  # published also where the model reads no extrinsics
HEAD_DIM = 64  # the released predictor's, 1024 / 16; weights do not tell


def load_ac_predictor(
    source: str | Path | Mapping[str, Tensor],
    *,
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    extrinsics: bool = False,
    normalise: bool = True,
    norm_eps: float = 1e-6,
) -> LatentDynamics:
    """The published predictor as a `LatentDynamics` of kind `ac`, its sizes read off the weights.

    Args:
        source: the released `.pt`, or a state dict; with or without the prefix `module.`.
        grid: rows and columns of patches: 16 x 16 for 256 x 256 pixels.
        heads: attention heads; None takes heads of 64 channels, as released.
        extrinsics: True reads the camera's pose too; the weights for it are left out otherwise.
        normalise: layer norm on predictions, as the released model was trained and is planned with. False gives the
            numbers of the published module alone.
        norm_eps: of the layer norms: 1e-6 in the release (its factory `vit_ac_predictor`); the published class by
            itself, `VisionTransformerPredictorAC()`, has torch's 1e-5.

    Raises:
        CheckpointError: naming file and tensor for anything missing, extra, of another shape or not finite.
    """
    tensors, where = _read(source)
    for name in ("latent_in.weight", "action_in.weight", "proprio_in.weight", "extrinsics_in.weight"):
        if name not in tensors or tensors[name].dim() != 2:
            raise CheckpointError(f"{where}: tensor {_published(name)!r}: expected a matrix, found none")
    width, dim = tensors["latent_in.weight"].shape
    config = DynamicsConfig(
        kind="ac",
        width=width,
        depth=_depth(tensors),
        heads=max(1, width // HEAD_DIM) if heads is None else heads,
        proprio=tensors["proprio_in.weight"].shape[1],
        extrinsics=tensors["extrinsics_in.weight"].shape[1] if extrinsics else 0,
        normalise=normalise,
        norm_eps=norm_eps,
    )
    dynamics = make_dynamics(config, grid[0] * grid[1], dim, tensors["action_in.weight"].shape[1], grid=grid)
    load_ac_weights(dynamics, source)
    return dynamics.eval()


def load_ac_weights(dynamics: LatentDynamics, source: str | Path | Mapping[str, Tensor]) -> None:
    """Fill a `LatentDynamics` of kind `ac` with published weights, strictly; `source` as in `load_ac_predictor`.

    Raises:
        CheckpointError: naming file and tensor for anything missing, extra, of another shape or not finite, and for a
            model of another kind.
    """
    if dynamics.config.kind != "ac":
        raise CheckpointError(f"dynamics.kind: expected ac for V-JEPA 2-AC's weights, found {dynamics.config.kind}")
    tensors, where = _read(source)
    expected = dynamics.state_dict()
    if not dynamics.config.extrinsics:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in UNUSED}
    if _depth(expected) != _depth(tensors):
        raise CheckpointError(
            f"{where}: dynamics.depth: expected {_depth(expected)} predictor_blocks, found {_depth(tensors)}"
        )
    for name in sorted(set(expected) - set(tensors)):
        raise CheckpointError(f"{where}: tensor {_published(name)!r} is missing")
    for name in sorted(set(tensors) - set(expected)):
        raise CheckpointError(f"{where}: tensor {_published(name)!r} is not part of V-JEPA 2-AC's predictor")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{where}: tensor {_published(name)!r}: expected shape {tuple(expected[name].shape)}, "
                f"found {tuple(tensor.shape)}"
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{where}: tensor {_published(name)!r} has values that are not finite")
    dynamics.load_state_dict(tensors)


def _read(source: str | Path | Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Tensors under our names, and what to call their source in an error."""
    where = "state dict" if isinstance(source, Mapping) else str(source)
    loaded: Any = source if isinstance(source, Mapping) else _load_pt(Path(source))
    if isinstance(loaded, Mapping) and isinstance(loaded.get("predictor"), Mapping):
        loaded = loaded["predictor"]  # beside encoder, opt, epoch and others
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{where}: expected named tensors, or such under 'predictor', found neither")
    tensors = {}
    for key, tensor in loaded.items():
        name = str(key)
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        first, _, rest = name.partition(".")
        if first not in NAMES:
            raise CheckpointError(f"{where}: tensor {name!r} is not part of V-JEPA 2-AC's predictor")
        tensors[f"{NAMES[first]}.{rest}"] = tensor
    return tensors, where


def _published(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{next((theirs for theirs, ours in NAMES.items() if ours == first), first)}.{rest}"


def _depth(tensors: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
