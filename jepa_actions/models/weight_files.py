"""A model's weights as one safetensors file, or as several with an index (`model.safetensors.index.json`)."""

import json
import os
import re
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from jepa_actions.errors import CheckpointError
from jepa_actions.hub.files import MAX_JSON, read_bytes, shown, strict_json
from jepa_actions.models.tensor_file import (
    MAX_TENSORS,
    TensorFacts,
    check_finite,
    check_names,
    read_header,
    read_tensors,
)

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def write_weights(tensors: dict[str, Tensor], folder: Path, max_shard_size: int | str) -> list[str]:
    """Write tensors as `model.safetensors`, or in shards where they are larger than `max_shard_size`.

    What an earlier model left in the folder under these names is removed. Returns the names of the files written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        split = split_torch_state_dict_into_shards(tensors, max_shard_size=max_shard_size)
    except ValueError as error:
        raise CheckpointError(f"max_shard_size: {error}") from error
    for old in folder.iterdir():
        if old.name in (WEIGHTS, INDEX) or _SHARD.fullmatch(old.name):
            old.unlink()
    for file, names in split.filename_to_tensors.items():
        draft = folder / f".{file}"
        draft.touch()
        mode = draft.stat().st_mode  # safetensors leaves its files to their owner alone
        save_file({name: tensors[name] for name in names}, draft, metadata={"format": "pt"})
        draft.chmod(mode)
        os.replace(draft, folder / file)
    written = list(split.filename_to_tensors)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        written.append(INDEX)
    return written


def weight_headers(folder: Path) -> dict[str, TensorFacts]:
    """What the headers say of all tensors of a model folder, in one file or in shards; each shard is held to the index.

    Raises:
        CheckpointError: for a file that is missing, damaged or outside the folder, an index that names another place,
            and a folder with both one file and an index.
    """
    index = folder / INDEX
    if not os.path.lexists(index):
        return read_header(folder / WEIGHTS)
    if os.path.lexists(folder / WEIGHTS):
        raise CheckpointError(f"{folder}: holds both {WEIGHTS} and {INDEX}, expected one of them")
    found = strict_json(read_bytes(folder, INDEX, MAX_JSON), str(index))
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not 0 < len(places) <= MAX_TENSORS:
        raise CheckpointError(f"{index}: expected an object 'weight_map' from tensor to file, found {shown(places)}")
    for name, file in places.items():  # a shard beside the index, nowhere else
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise CheckpointError(
                f"{index}: {shown(name)}: expected a name such as model-00001-of-00002.safetensors, found {shown(file)}"
            )
    facts: dict[str, TensorFacts] = {}
    for file in sorted(set(places.values())):
        header = read_header(folder / file)
        for name in header:
            if places.get(name) != file:
                raise CheckpointError(f"{folder / file}: tensor {shown(name)} is not placed here by {INDEX}")
        facts |= header
    for name, file in places.items():
        if name not in facts:
            raise CheckpointError(f"{folder / file}: tensor {shown(name)} is missing, though {INDEX} places it here")
    return facts


def load_weights_of(model: nn.Module, folder: Path, facts: dict[str, TensorFacts]) -> None:
    """Fill a model from the weight files of its folder, strictly; headers are compared before any tensor is read."""
    files = sorted({fact.path for fact in facts.values()})
    expected = model.state_dict()
    check_names(
        expected, facts, str(files[0] if len(files) == 1 else folder / INDEX), lambda name: str(facts[name].path)
    )
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_tensors(file)
    check_finite(tensors, lambda name: str(facts[name].path))
    model.load_state_dict(tensors)
