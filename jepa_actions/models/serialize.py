"""A model as a folder: `config.json` (typed, versioned), weights, golden outputs, checksums, card; loaded strictly."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from jepa_actions.data import ActionCodec
from jepa_actions.errors import CheckpointError
from jepa_actions.hub import CONFIG, MAX_JSON, read_bytes, resolve_folder, seal, strict_json
from jepa_actions.hub.files import shown
from jepa_actions.models.backbone import FrameBackbone
from jepa_actions.models.budget import Budget, check_memory
from jepa_actions.models.card_file import check_card
from jepa_actions.models.decode import decode
from jepa_actions.models.golden import GOLDEN, write_golden
from jepa_actions.models.migrations import FORMAT_VERSION, migrate
from jepa_actions.models.saved_codec import decode_codec
from jepa_actions.models.tensor_file import TensorFacts, fill_weights, load_weights, read_tensors
from jepa_actions.models.weight_files import load_weights_of, weight_headers, write_weights
from jepa_actions.models.world_model import WorldModel
from jepa_actions.models.world_model_config import RolloutConfig, WorldModelConfig

__all__ = [
    "FORMAT_VERSION",
    "LIBRARY",
    "decode",
    "fill_weights",
    "load_model",
    "load_weights",
    "read_config",
    "read_tensors",
    "save_model",
]

LIBRARY = "jepa_actions"
MAX_SHARD_SIZE = "5GB"
_FIELDS = {"library", "format_version", "model", "codec", "golden", "extra"}
_MAX_CAMERAS = 64


def save_model(
    model: WorldModel,
    folder: Path,
    *,
    card: str | None = None,
    extra: dict[str, Any] | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    golden: bool = True,
) -> None:
    """Write a model folder. `config.json` comes last but for the checksums: what is half written is no model.

    Args:
        model: weights are stored in their own dtype.
        folder: created where missing.
        card: text of `README.md`; left alone where None.
        extra: JSON-able facts that travel with the weights (scores, protocol, recipe), merged over `model.extra`.
        max_shard_size: bytes, or text such as `5GB`; weights beyond it are written in shards, with an index.
        golden: whether to compute and store golden outputs, by which others verify what they opened.

    Raises:
        CheckpointError: for facts that no reader would take: not JSON, not finite, or of more than 4 MiB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "library": LIBRARY,
        "format_version": FORMAT_VERSION,
        "model": dataclasses.asdict(model.config),
        "codec": None if model.codec is None else model.codec.to_dict(),
        "golden": golden,
        "extra": model.extra | (extra or {}),
    }
    _written(config, folder)
    for name in (CONFIG, "checksums.json", GOLDEN):
        (folder / name).unlink(missing_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    names = write_weights(tensors, folder, max_shard_size)
    config["golden"] = golden and write_golden(model, folder)
    names += [GOLDEN] if config["golden"] else []
    draft = folder / f".{CONFIG}"
    draft.write_text(_written(config, folder))
    os.replace(draft, folder / CONFIG)
    seal(folder, [*names, CONFIG])
    if card is not None:
        (folder / "README.md").write_text(card)


def _written(config: dict[str, Any], folder: Path) -> str:
    """The text of `config.json`, which `read_config` takes."""
    where = folder / CONFIG
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: cannot be written ({error})") from error
    if len(text.encode()) > MAX_JSON:
        raise CheckpointError(
            f"{where}: would be {len(text)} bytes, expected at most {MAX_JSON}; is `extra` that large?"
        )
    return text


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a model folder, its version and fields checked, in the fields of today.

    Raises:
        CheckpointError: if it is missing, not JSON, of another library, of a newer format, or has other fields.
    """
    path = folder / CONFIG
    if not os.path.lexists(path):
        found = sorted(p.name for p in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{path}: missing; a model folder has config.json and model.safetensors, found {found}")
    config = strict_json(read_bytes(folder, CONFIG, MAX_JSON), str(path))
    if not isinstance(config, dict) or config.get("library") != LIBRARY:
        kind = config.get("library") or config.get("model_type") if isinstance(config, dict) else None
        hint = f"; it looks like one of {shown(kind)}" if kind else ""
        raise CheckpointError(f"{path}: not a {LIBRARY} model (field 'library' is missing or different){hint}")
    version = config.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(
            f"{path}: format_version: expected a whole number from 1 to {FORMAT_VERSION}, found {shown(version)}"
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version {shown(version)} is newer than {FORMAT_VERSION}, which this release "
            "reads: upgrade jepa-actions"
        )
    migrate(config, version, str(path))
    if set(config) != _FIELDS:
        odd = shown(sorted(set(config) ^ _FIELDS))
        raise CheckpointError(f"{path}: expected the fields {sorted(_FIELDS)}; missing or unknown: {odd}")
    for field, kind_of in (("golden", bool), ("extra", dict)):
        if not isinstance(config[field], kind_of):
            raise CheckpointError(f"{path}: {field}: expected {kind_of.__name__}, found {shown(config[field])}")
    return config


def load_model(folder: str | Path, *, revision: str | None = None, rollout: RolloutConfig | None = None) -> WorldModel:
    """Open a model folder or a Hub id, strictly; with another way to compute rollouts where one is given.

    Nothing in the folder is executed, and nothing is allocated that its weights have no use for.

    Raises:
        CheckpointError: naming the file and field for anything missing, extra, of another shape, newer or not finite.
    """
    path = Path(folder)
    if revision is not None or not os.path.isdir(path):
        path = resolve_folder(folder, revision, library=LIBRARY)
    config = read_config(path)
    where = f"{path / CONFIG}: "
    model_config = decode(WorldModelConfig, config["model"], where + "model")
    _check_inputs(model_config, where)
    if rollout is not None:
        model_config = dataclasses.replace(model_config, rollout=rollout)
    codec = decode_codec(config["codec"], where + "codec")
    check_card(path)
    facts = weight_headers(path)
    model = _built(model_config, codec, facts, where)
    load_weights_of(model, path, facts)
    model.extra = config["extra"]
    return model.eval()


def _built(
    config: WorldModelConfig, codec: ActionCodec | None, facts: dict[str, TensorFacts], where: str
) -> WorldModel:
    """The model of a configuration, with random weights, within what its weight files justify."""
    _check_depths(dataclasses.asdict(config), len(facts), f"{where}model")
    size = sum(fact.bytes for fact in facts.values())
    check_memory(size, f"{where}model")
    try:
        with Budget(size, len(facts), f"{where}model"):
            frozen = None if config.backbone is None else FrameBackbone(config.backbone, pretrained=False)
            return WorldModel(config, codec, backbone=frozen)
    except CheckpointError:
        raise
    except ImportError:
        raise
    except Exception as error:  # whatever a constructor trips over, the configuration is what asked for it
        text = " ".join(str(error).split()).partition(" Exception raised from")[0]  # torch adds its stack
        raise CheckpointError(f"{where}{text:.400}") from error


def _check_depths(config: dict[str, Any], tensors: int, where: str) -> None:
    """Every layer has a tensor; how many layers there are is looked at before any list of them is made."""
    for name, value in config.items():
        if isinstance(value, dict):
            _check_depths(value, tensors, f"{where}.{name}")
        elif name == "depth" and value > tensors:
            raise CheckpointError(f"{where}.depth: {shown(value)} layers, the weights beside it are {tensors} tensors")


def _check_inputs(config: WorldModelConfig, where: str) -> None:
    """What no constructor looks at, because no parameter depends on it."""
    cameras = config.cameras
    if not 0 < len(cameras) <= _MAX_CAMERAS or len(set(cameras)) < len(cameras):
        raise CheckpointError(
            f"{where}model.cameras: expected 1 to {_MAX_CAMERAS} different names, found {shown(cameras)}"
        )
    if not all(0 < std < 1e6 for std in config.image.std) or not all(abs(mean) < 1e6 for mean in config.image.mean):
        raise CheckpointError(
            f"{where}model.image: expected std above 0, found mean {config.image.mean} and std {config.image.std}"
        )
