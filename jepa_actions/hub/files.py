"""Files of a model folder that somebody else wrote: read within bounds, and never from outside the folder."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from jepa_actions.errors import CheckpointError

CONFIG = "config.json"
CARD = "README.md"
PATTERNS = (CONFIG, "checksums.json", "*.safetensors", "*.safetensors.index.json", CARD)  # what a model folder holds
MAX_JSON = 4 << 20  # bytes of any JSON; parsed, the worst of that size takes some 100 MB
MAX_PARTS = 200_000  # lists and objects in a JSON; a header of 10000 tensors has 30000
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_OWN = re.compile(
    r"config\.json|checksums\.json|README\.md|golden\.safetensors|model\.safetensors(\.index\.json)?"
    r"|model-\d{5}-of-\d{5}\.safetensors"
)
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
}


def regular_file(folder: Path, name: str) -> Path:
    """Where `folder/name` really lies.

    A link is followed as long as it stays inside the folder; one of a Hub snapshot, which is made of links, inside the
    cache of its repository. The folder itself may be reached through a link: whoever opens it chose that.

    Raises:
        CheckpointError: for a name that is more than a name, and for what is missing, no regular file, or elsewhere.
    """
    path = folder / name if _PLAIN.fullmatch(name) else folder
    if path is folder:
        raise CheckpointError(f"{folder}: expected the name of a file of this folder, found {shown(name)}")
    try:
        real = Path(os.path.realpath(path, strict=True))
        mode = stat.S_IFMT(real.stat().st_mode)
        inside = [Path(os.path.realpath(root, strict=True)) for root in _roots(folder)]
    except FileNotFoundError as error:
        dangling = f"; it is a link to {os.readlink(path)}" if path.is_symlink() else ""
        raise CheckpointError(f"{path}: missing{dangling}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if not any(real.is_relative_to(root) for root in inside):
        raise CheckpointError(f"{path}: is a link to {real}, which is outside the model folder")
    if mode != stat.S_IFREG:
        raise CheckpointError(f"{path}: is {_KINDS.get(mode, 'something else')}, expected a file")
    return real


def _roots(folder: Path) -> list[Path]:
    """Where files of a folder may lie: in it, and for a snapshot in the cache of the Hub, among its repository's."""
    cache = folder.absolute().parent
    if cache.name == "snapshots" and cache.parent.name.startswith("models--"):
        return [folder, cache.parent / "blobs"]
    return [folder]


def read_bytes(folder: Path, name: str, limit: int) -> bytes:
    """The content of a file, of at most `limit` bytes. Raises CheckpointError as `regular_file`, and for a larger one.

    Its size is looked at before it is read, and no more than that is read.
    """
    path = regular_file(folder, name)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > limit else file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"{folder / name}: cannot be read ({error.strerror})") from error
    if max(size, len(data)) > limit:
        raise CheckpointError(f"{folder / name}: {max(size, len(data))} bytes, expected at most {limit}")
    return data


def strict_json(data: bytes, where: str) -> Any:
    """Parsed JSON, in which every number is finite, every key stands once and all text can be written down again.

    Raises:
        CheckpointError: for anything else, beginning with `where`.
    """
    if (parts := data.count(b"[") + data.count(b"{")) > MAX_PARTS:  # each takes more memory and time than its text
        raise CheckpointError(f"{where}: {parts} lists and objects, expected at most {MAX_PARTS}")
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite)
        if "\\u" in text:  # half a surrogate pair passes the parser, and no message with it could be printed
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, a number of 5000 digits
        raise CheckpointError(f"{where}: not valid JSON ({' '.join(str(error).split()):.120})") from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    seen: set[str] = set()
    for key, _ in pairs if len(made) < len(pairs) else []:
        if key in seen:
            raise ValueError(f"the key {shown(key)} stands there twice")
        seen.add(key)
    return made


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text:.20} is too large")
    return number


def shown(value: object) -> str:
    """A value for an error message, however large it is."""
    if isinstance(value, (list, tuple, dict, set)) and len(value) > 12:
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 90 else f"{text[:87]}..."


def foreign_files(folder: Path) -> list[str]:
    """Names in a folder that are no part of a model, hidden ones aside: those are never uploaded."""
    names = [path.name for path in folder.iterdir()]
    return sorted(name for name in names if not name.startswith(".") and not _OWN.fullmatch(name))
