"""A model as a folder: `config.json` (typed, versioned), `model.safetensors`, `README.md`. Loading is strict."""

import copy
import dataclasses
import difflib
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from jepa_actions.data import ActionCodec
from jepa_actions.errors import CheckpointError, JepaActionsError
from jepa_actions.hub import resolve_folder
from jepa_actions.models.backbone import FrameBackbone
from jepa_actions.models.world_model import WorldModel
from jepa_actions.models.world_model_config import RolloutConfig, WorldModelConfig

FORMAT_VERSION = 5
# Fields of `WorldModelConfig` and of the codec that a format version added, with the value that keeps what older models
# compute. A field with a default needs a row here: `checkpoints/two_room` is format 1 and must load.
ADDED: dict[int, dict[str, Any]] = {
    2: {
        "model.backbone": None,
        "model.attention": "auto",
        "model.rollout": {"precision": "float32", "compile": False},
        "model.predictor.mlp_ratio": 4.0,
        "model.predictor.mask_tokens": 3,
        "model.dynamics.conditioning": "token",
        "model.dynamics.proprio": 0,
        "model.dynamics.extrinsics": 0,
        "model.dynamics.normalise": False,
        "model.dynamics.norm_eps": 1e-6,
        "model.pooler.normalise": False,
        "codec.rotation": "additive",
    },
    3: {
        "codec.poses": [],
        "codec.absolute": [],
        "codec.proprio_columns": None,
        "codec.lag": 0,
        "codec.classes": [],
        "codec.normalise": [],
    },
    4: {
        "model.distance": None,
        "model.goal_inverse": None,
        "model.subgoal": None,
        "model.inverse.history": 1,
        "model.pooler.hidden": 256,
    },
    5: {"model.features": None},
}
LIBRARY = "jepa_actions"
_FIELDS = {"library", "format_version", "model", "codec", "extra"}
T = TypeVar("T")


def save_model(
    model: WorldModel, folder: Path, *, card: str | None = None, extra: dict[str, Any] | None = None
) -> None:
    """Write a model folder.

    Args:
        model: weights are stored in their own dtype.
        folder: created where missing.
        card: text of `README.md`; left alone where None.
        extra: JSON-able facts that travel with the weights (scores, protocol, recipe), merged over `model.extra`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "library": LIBRARY,
        "format_version": FORMAT_VERSION,
        "model": dataclasses.asdict(model.config),
        "codec": None if model.codec is None else model.codec.to_dict(),
        "extra": model.extra | (extra or {}),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if card is not None:
        (folder / "README.md").write_text(card)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a model folder, its version and fields checked, in the fields of today.

    Raises:
        CheckpointError: if it is missing, not JSON, of another library, of a newer format, or has other fields.
    """
    path = folder / "config.json"
    if not path.is_file():
        found = sorted(p.name for p in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{path}: missing; a model folder has config.json and model.safetensors, found {found}")
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(config, dict) or config.get("library") != LIBRARY:
        raise CheckpointError(f"{path}: not a {LIBRARY} model (field 'library' is missing or different)")
    version = config.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(
            f"{path}: format_version: expected a whole number from 1 to {FORMAT_VERSION}, found {version!r}"
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version {version} is newer than {FORMAT_VERSION}, which this release "
            "reads: upgrade jepa-actions"
        )
    if set(config) != _FIELDS:
        odd = sorted(set(config) ^ _FIELDS)
        raise CheckpointError(f"{path}: expected the fields {sorted(_FIELDS)}; missing or unknown: {odd}")
    for later in range(version + 1, FORMAT_VERSION + 1):
        for field, value in ADDED[later].items():
            _add_field(config, field, value, f"{path}: {field}: not part of format_version {version}")
    return config


def _add_field(config: dict[str, Any], field: str, value: Any, present: str) -> None:
    """Add a field to an older config; where its object is not as expected, decoding says so later."""
    *parents, name = field.split(".")
    inner: Any = config
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        if name in inner:
            raise CheckpointError(present)
        inner[name] = copy.deepcopy(value)


def load_model(folder: str | Path, *, rollout: RolloutConfig | None = None) -> WorldModel:
    """Open a model folder or a Hub id, strictly; with another way to compute rollouts where one is given.

    Raises:
        CheckpointError: naming the file and field for anything missing, extra, of another shape, newer or not finite.
    """
    path = Path(folder)
    if not path.is_dir():
        path = resolve_folder(folder)
    config = read_config(path)
    where = f"{path / 'config.json'}: "
    model_config = decode(WorldModelConfig, config["model"], where + "model")
    if rollout is not None:
        model_config = dataclasses.replace(model_config, rollout=rollout)
    try:
        codec = None if config["codec"] is None else ActionCodec.from_dict(config["codec"])
        frozen = None if model_config.backbone is None else FrameBackbone(model_config.backbone, pretrained=False)
        model = WorldModel(model_config, codec, backbone=frozen)
    except (JepaActionsError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}{error}") from error
    load_weights(model, path / "model.safetensors")
    model.extra = config["extra"]
    return model.eval()


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file: the same names, shapes and finite values, or a `CheckpointError`."""
    fill_weights(model, read_tensors(path), str(path))


def fill_weights(model: torch.nn.Module, tensors: dict[str, torch.Tensor], path: str) -> None:
    """Fill a module from tensors: the same names, shapes, types and finite values, or a `CheckpointError` on `path`."""
    expected = model.state_dict()
    for name in sorted(set(expected) - set(tensors)):
        raise CheckpointError(f"{path}: tensor {name!r} is missing")
    for name in sorted(set(tensors) - set(expected)):
        raise CheckpointError(f"{path}: tensor {name!r} is not part of this model")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: tensor {name!r}: expected shape {tuple(expected[name].shape)}, found {tuple(tensor.shape)}"
            )
        if tensor.dtype != expected[name].dtype:
            raise CheckpointError(f"{path}: tensor {name!r}: expected {expected[name].dtype}, found {tensor.dtype}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: tensor {name!r} has values that are not finite")
    model.load_state_dict(tensors)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file; a missing or damaged file is a `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error


def decode(cls: type[T], data: object, where: str, *, partial: bool = False) -> T:
    """A (nested) configuration dataclass from parsed JSON, strictly: no unknown, missing or mistyped field.

    With `partial` a field that is missing takes its default, as it does in a recipe: what is decoded was written by a
    release that may not have known the field.
    """
    if not isinstance(data, dict):
        raise CheckpointError(f"{where}: expected an object, found {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    members = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in members]
    needed = [
        field.name
        for field in members
        if not partial or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
    ]
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise CheckpointError(f"{where}: unknown field {key!r}{hint}")
    for name in needed:
        if name not in data:
            raise CheckpointError(f"{where}: field {name!r} is missing")
    try:
        return cls(
            **{name: _value(hints[name], data[name], f"{where}.{name}", partial) for name in names if name in data}
        )
    except CheckpointError:
        raise
    except JepaActionsError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str, partial: bool) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where, partial=partial)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise CheckpointError(f"{where}: expected one of {typing.get_args(hint)}, found {value!r}")
        return value
    if origin is tuple and isinstance(value, list):
        kinds = typing.get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_value(kinds[0], item, where, partial) for item in value)
        if len(kinds) == len(value):
            return tuple(_value(kind, item, where, partial) for kind, item in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(hint)
        if value is None and type(None) in kinds:
            return None
        return _value(next(kind for kind in kinds if kind is not type(None)), value, where, partial)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise CheckpointError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {value!r}")
