"""safetensors files: what a header says, read within bounds before anything else; tensors only if it holds together.

The layout: 8 bytes, the length of the header; the header, JSON from tensor name to dtype, shape and place; the bytes.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from jepa_actions.errors import CheckpointError
from jepa_actions.hub.files import MAX_JSON, regular_file, shown, strict_json

MAX_TENSORS = 10_000  # in a model's files; V-JEPA 2's largest has about 1000
_BYTES = {
    "BOOL": (torch.bool, 1),
    "U8": (torch.uint8, 1),
    "I8": (torch.int8, 1),
    "I16": (torch.int16, 2),
    "U16": (torch.uint16, 2),
    "F16": (torch.float16, 2),
    "BF16": (torch.bfloat16, 2),
    "I32": (torch.int32, 4),
    "U32": (torch.uint32, 4),
    "F32": (torch.float32, 4),
    "I64": (torch.int64, 8),
    "U64": (torch.uint64, 8),
    "F64": (torch.float64, 8),
}


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of one tensor."""

    path: Path  # the file it lies in
    dtype: torch.dtype
    shape: tuple[int, ...]
    bytes: int


def read_header(path: Path) -> dict[str, TensorFacts]:
    """Name to facts of every tensor in a file. Nothing but the header is read, and of that no more than 4 MiB.

    Raises:
        CheckpointError: for a file that is missing, no regular one, or whose header does not hold together.
    """
    real = regular_file(path.parent, path.name)
    try:
        with real.open("rb") as file:
            found = os.fstat(file.fileno())
            begin = file.read(8)
            if begin == b"version ":
                raise CheckpointError(f"{path}: is a pointer of git LFS, not the file it stands for: `git lfs pull`")
            length = int.from_bytes(begin, "little")
            if found.st_size < 8 or length > found.st_size - 8:
                raise CheckpointError(
                    f"{path}: damaged (a header of {length} bytes was expected, the file has {found.st_size})"
                )
            if length > MAX_JSON:
                raise CheckpointError(f"{path}: damaged (a header of {length} bytes, expected at most {MAX_JSON})")
            data = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if 0 < found.st_blocks * 512 < found.st_size // 16:  # zeros that were never written: a download that stopped
        raise CheckpointError(
            f"{path}: damaged ({found.st_size} bytes, of which the disk holds {found.st_blocks * 512})"
        )
    header = strict_json(data, f"{path}: damaged (header)")
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: damaged (header: expected an object, found {shown(header)})")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise CheckpointError(f"{path}: damaged (header: __metadata__ is {shown(notes)}, expected text)")
    return _places(path, header, found.st_size - 8 - length)


def _places(path: Path, header: dict[str, Any], payload: int) -> dict[str, TensorFacts]:
    """Facts of every entry; together they fill the payload, one after the other."""
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{path}: {len(header)} tensors, expected at most {MAX_TENSORS}")
    facts: dict[str, TensorFacts] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise CheckpointError(f"{path}: damaged (tensor {shown(name)}: found {shown(entry)})")
        kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in _BYTES:
            known = ", ".join(_BYTES)
            raise CheckpointError(f"{path}: tensor {shown(name)}: dtype {shown(kind)}, expected one of {known}")
        for value, what in ((shape, "shape"), (span, "data_offsets")):
            if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
                raise CheckpointError(f"{path}: damaged (tensor {shown(name)}: {what} {shown(value)})")
        dtype, size = _BYTES[kind]
        needed = math.prod(shape[:64]) * size
        if len(shape) > 64 or len(span) != 2 or span[1] - span[0] != needed:
            raise CheckpointError(
                f"{path}: damaged (tensor {shown(name)}: shape {shown(shape)} of {kind} is {needed} bytes, "
                f"found data_offsets {shown(span)})"
            )
        facts[name] = TensorFacts(path, dtype, tuple(shape), needed)
        spans.append((span[0], span[1], name))
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise CheckpointError(f"{path}: damaged (tensor {shown(name)} begins at byte {start}, expected {end})")
        end = stop
    if end != payload:
        raise CheckpointError(f"{path}: damaged (its tensors are {end} bytes, the file holds {payload})")
    return facts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; a missing or damaged file is a `CheckpointError`."""
    read_header(path)
    try:
        return load_file(regular_file(path.parent, path.name))
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file: the same names, shapes and finite values, or a `CheckpointError`."""
    check_names(model.state_dict(), read_header(path), str(path), lambda name: str(path))
    fill_weights(model, read_tensors(path), str(path))


def fill_weights(model: nn.Module, tensors: dict[str, Tensor], path: str) -> None:
    """Fill a module from tensors: the same names, shapes, types and finite values, or a `CheckpointError` on `path`."""
    check_names(model.state_dict(), tensors, path, lambda name: path)
    check_finite(tensors, lambda name: path)
    model.load_state_dict(tensors)


def check_names(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor] | Mapping[str, TensorFacts],
    path: str,
    place: Callable[[str], str],
) -> None:
    """Raise CheckpointError unless there are the same names, of the same shapes and types.

    Args:
        expected: of a model.
        found: tensors, or what headers say of them.
        path: what a missing tensor is missing in.
        place: the file a tensor lies in.
    """
    for name in expected:
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name!r} is missing")
    for name, tensor in found.items():
        if name not in expected:
            raise CheckpointError(f"{place(name)}: tensor {shown(name)} is not part of this model")
        wanted = expected[name]
        if tuple(tensor.shape) != tuple(wanted.shape):
            raise CheckpointError(
                f"{place(name)}: tensor {name!r}: expected shape {tuple(wanted.shape)}, found {tuple(tensor.shape)}"
            )
        if tensor.dtype != wanted.dtype:
            raise CheckpointError(f"{place(name)}: tensor {name!r}: expected {wanted.dtype}, found {tensor.dtype}")


def check_finite(tensors: Mapping[str, Tensor], place: Callable[[str], str]) -> None:
    """Raise CheckpointError for a tensor with a value that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{place(name)}: tensor {name!r} has values that are not finite")
