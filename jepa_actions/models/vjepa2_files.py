"""V-JEPA 2's weights as files: the Hugging Face layout, and the `.pt` of the original release. Nothing in them runs."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError  # what torch's loader raises; nothing here unpickles
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from jepa_actions.errors import CheckpointError
from jepa_actions.hub import resolve_folder

PARTS = ("encoder", "predictor")
# Tables of fixed sine codes that old training code kept beside rotary weights, which do not use them.
_UNUSED = ("encoder.pos_embed", "predictor.predictor_pos_embed")


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of one published model, none of them read yet.

    `facts` is what the files say of the architecture: our field (`encoder.width`) -> what it is called there, and its
    value. `place` tells which file a tensor lies in, for messages.
    """

    where: Path
    layout: str
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    place: Callable[[str], Path]
    facts: dict[str, tuple[str, Any]]
    ignored: tuple[str, ...] = ()
    pos_embed: dict[str, int] = field(default_factory=dict)  # how many tokens an unused position table was made for


def open_weights(
    source: str | Path, which: str, revision: str | None = None, parts: tuple[str, ...] = PARTS
) -> WeightFiles:
    """Open a folder or Hub id in the Hugging Face layout, or a `.pt` of the original release.

    Args:
        source: where the weights are.
        which: `target_encoder` or `encoder`; a `.pt` holds both.
        revision: branch, tag or commit, for a Hub id.
        parts: which of `PARTS` to open; what belongs to the other is ignored, and listed.

    Raises:
        CheckpointError: naming the file, what was found and what was expected.
    """
    if which not in ("target_encoder", "encoder"):
        raise CheckpointError(f"{source}: which: expected 'target_encoder' or 'encoder', found {which!r}")
    path = Path(source)
    if not path.is_file():
        return _open_folder(resolve_folder(source, revision), parts)
    if revision is not None:
        raise CheckpointError(f"{path}: is a file, so it has no revision {revision!r}")
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: expected its folder, which also holds config.json, found the file alone")
    return _open_release(path, which, parts)


# -- the Hugging Face layout -------------------------------------------------------------------------------------------

_FIELDS = {  # our field -> the name in config.json
    "encoder.image_size": "crop_size",
    "encoder.patch": "patch_size",
    "encoder.tubelet": "tubelet_size",
    "encoder.width": "hidden_size",
    "encoder.depth": "num_hidden_layers",
    "encoder.heads": "num_attention_heads",
    "encoder.mlp_ratio": "mlp_ratio",
    "encoder.channels": "in_chans",
    "predictor.width": "pred_hidden_size",
    "predictor.depth": "pred_num_hidden_layers",
    "predictor.heads": "pred_num_attention_heads",
    "predictor.mask_tokens": "pred_num_mask_tokens",
    "predictor.mlp_ratio": "pred_mlp_ratio",
}
_FIXED = {"model_type": "vjepa2", "hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-6}


def _open_folder(folder: Path, parts: tuple[str, ...]) -> WeightFiles:
    facts = _facts(folder / "config.json")
    files = _shards(folder)
    handles: dict[Path, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, Path] = {}
    for path in sorted(set(files.values())):
        try:
            handles[path] = safe_open(path, "pt")
            names = list(handles[path].keys())
            sizes = {name: tuple(handles[path].get_slice(name).get_shape()) for name in names}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: missing or damaged ({error})") from error
        for name in names if files.keys() == {""} else [name for name, file in files.items() if file == path]:
            if name not in sizes:
                raise CheckpointError(f"{path}: tensor {name!r} is missing, though the index places it here")
            shapes[name], places[name] = sizes[name], path
    heads: tuple[str, ...] = tuple(f"{part}." for part in PARTS if part not in parts)
    if any(name.startswith("vjepa2.") for name in shapes):  # a classifier, whose head is not part of V-JEPA 2
        heads = (*(f"vjepa2.{head}" for head in heads), "pooler.", "classifier.")
    ignored = tuple(sorted(name for name in shapes if name.startswith(heads)))
    renamed = {name.removeprefix("vjepa2."): name for name in shapes if name not in ignored}
    return WeightFiles(
        where=folder,
        layout="hugging_face",
        shapes={ours: shapes[theirs] for ours, theirs in renamed.items()},
        read=lambda name: handles[places[renamed[name]]].get_tensor(renamed[name]),
        place=lambda name: places.get(renamed.get(name, ""), folder),
        facts={name: fact for name, fact in facts.items() if name.startswith(parts)},
        ignored=ignored,
    )


def _facts(path: Path) -> dict[str, tuple[str, Any]]:
    """The architecture in a `config.json` of `transformers`' V-JEPA 2."""
    config = _json(path)
    if config.get("library") == "jepa_actions":
        raise CheckpointError(f"{path}: is a model of this library: open its folder with WorldModel.from_pretrained")
    for name in (*_FIXED, *_FIELDS.values()):
        if name not in config:
            raise CheckpointError(f"{path}: field {name!r} is missing; expected a V-JEPA 2 configuration")
    for name, expected in _FIXED.items():
        if config[name] != expected:
            raise CheckpointError(f"{path}: {name}: expected {expected!r}, found {config[name]!r}")
    facts: dict[str, tuple[str, Any]] = {}
    for ours, theirs in _FIELDS.items():
        value = config[theirs]
        if theirs == "patch_size" and isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        real = theirs.endswith("mlp_ratio")
        if isinstance(value, bool) or not isinstance(value, (int, float) if real else int) or value <= 0:
            raise CheckpointError(f"{path}: {theirs}: expected a positive number, found {value!r}")
        facts[ours] = (theirs, float(value) if real else (value, value) if theirs == "crop_size" else value)
    return facts


def _shards(folder: Path) -> dict[str, Path]:
    """Tensor name -> file, from the index; `{"": file}` where one file holds all."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() or not index.is_file():
        return {"": single}
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index}: expected an object 'weight_map' from tensor to file, found {places!r:.60}")
    for name, file in places.items():  # a file beside the index, nowhere else
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", file):
            raise CheckpointError(f"{index}: {name}: expected the name of a *.safetensors file, found {file!r}")
    return {name: folder / file for name, file in places.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: missing or not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(value).__name__}")
    return value


# -- the original release's layout -------------------------------------------------------------------------------------


def _open_release(path: Path, which: str, parts: tuple[str, ...]) -> WeightFiles:
    content = _load_pt(path)
    taken = {part: which if part == "encoder" else part for part in parts}  # ours -> the release's
    for part in taken.values():
        if not isinstance(content.get(part), dict):
            held = ", ".join(map(str, content)) or "nothing"
            raise CheckpointError(f"{path}: expected a dictionary {part!r} of tensors, found {held}")
    tensors: dict[str, Tensor] = {}
    for prefix, part in taken.items():
        for key, value in content[part].items():
            name = f"{prefix}.{re.sub(r'^((module|backbone)[.])+', '', str(key))}"
            if not isinstance(value, Tensor):
                raise CheckpointError(f"{path}: {part}[{key!r}]: expected a tensor, found {type(value).__name__}")
            if name in tensors:
                raise CheckpointError(f"{path}: {part}[{key!r}]: stands there twice, with and without a prefix")
            tensors[name] = value
    unused = [name for name in _UNUSED if name in tensors]
    others = sorted(str(key) for key in content if key not in taken.values())
    pos_embed = {name: tensors.pop(name).shape[-2] for name in unused if tensors[name].dim() >= 2}
    return WeightFiles(
        where=path,
        layout="release",
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        read=tensors.__getitem__,
        place=lambda name: path,
        facts=_facts_of_shapes(tensors),
        ignored=(*others, *pos_embed),
        pos_embed=pos_embed,
    )


def _load_pt(path: Path) -> dict[Any, Any]:
    """The dictionary in a `.pt`, its tensors left on disk until they are used. What is not plain data is refused."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        text = " ".join(str(error).split()).rpartition("WeightsUnpickler error: ")[2]
        wanted = re.search(r"GLOBAL ([\w.]+)", text)
        why = f"it asks for {wanted.group(1)}" if wanted else text.partition(" Check the doc")[0][:120] or "it is empty"
        raise CheckpointError(f"{path}: refused by torch.load(weights_only=True): {why}") from error
    if not isinstance(content, dict):
        expected = "a dictionary with encoder, target_encoder, predictor"
        raise CheckpointError(f"{path}: expected {expected}, found {type(content).__name__}")
    return content


def _facts_of_shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[str, Any]]:
    """What shapes tell of the architecture. Heads and image size leave no trace in them."""
    facts: dict[str, tuple[str, Any]] = {}
    embed = "encoder.patch_embed.proj.weight"
    if embed in tensors and tensors[embed].dim() == 5:
        shape = tuple(tensors[embed].shape)
        for axis, name in enumerate(("width", "channels", "tubelet", "patch")):
            facts[f"encoder.{name}"] = (embed, shape[axis])
    embed = "predictor.predictor_embed.weight"
    if embed in tensors and tensors[embed].dim() == 2:
        facts["predictor.width"] = (embed, tensors[embed].shape[0])
    for ours, stem in (
        ("encoder.depth", "encoder.blocks"),
        ("predictor.depth", "predictor.predictor_blocks"),
        ("predictor.mask_tokens", "predictor.mask_tokens"),
    ):
        found = {int(m.group(1)) for name in tensors if (m := re.match(re.escape(stem) + r"\.(\d+)", name))}
        if found:
            facts[ours] = (f"{stem}.*", max(found) + 1)
    return facts
