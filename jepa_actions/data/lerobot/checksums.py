"""`meta/checksums.json`: size and SHA-256 of every file of a data set, so that damage is named and not decoded."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepa_actions.data.lerobot.meta import inside, read_json
from jepa_actions.data.problems import Problem
from jepa_actions.errors import DataError

CHECKSUMS = "meta/checksums.json"
ALGORITHM = "sha256"
WORKERS = 4


@dataclass(frozen=True)
class Sum:
    """What a file should be."""

    sha256: str
    size: int


def data_files(root: Path) -> list[str]:
    """Every file of a data set by relative path, sorted, but the checksums themselves and what is hidden (`.git`,
    `.cache`, `.DS_Store`). Links to folders are followed, each folder once."""
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(folder).relative_to(root)
        found += [(here / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(name for name in found if name != CHECKSUMS)


def hash_file(path: Path) -> Sum:
    """Size and SHA-256 of a file. Raises DataError where it is not a file or cannot be read."""
    if not path.is_file():
        raise DataError(f"{path}: missing or not a plain file, expected one to hash")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, ALGORITHM).hexdigest()
            return Sum(digest, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def seal(root: str | Path) -> dict[str, Any]:
    """Write `meta/checksums.json` for every file there is now, and return what was written.

    Raises DataError where `root` is no data set folder, or a file cannot be read.
    """
    root = Path(root)
    if not (root / "meta").is_dir():
        raise DataError(f"{root}: no folder meta in it, expected a LeRobot data set to seal")
    names = data_files(root)
    with ThreadPoolExecutor(WORKERS) as pool:
        sums = list(pool.map(lambda name: hash_file(root / name), names))
    files = {name: {"sha256": item.sha256, "size": item.size} for name, item in zip(names, sums, strict=True)}
    content = {"algorithm": ALGORITHM, "files": files}
    draft = root / "meta" / ".checksums.json"  # hidden: a crash leaves nothing that counts as a file
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(root / CHECKSUMS)
    return content


def read_checksums(root: Path) -> dict[str, Sum] | None:
    """The checksums of a data set, `None` where it has none. Raises DataError where the file is not what it should
    be."""
    path = root / CHECKSUMS
    if not path.exists():
        return None
    raw = read_json(path)
    files = raw.get("files") if isinstance(raw, dict) else None
    if not isinstance(files, dict) or raw.get("algorithm") != ALGORITHM:
        raise DataError(f"{path}: damaged, expected algorithm {ALGORITHM!r} and files")
    for name, entry in files.items():
        inside(name, path)
        digest, size = (entry.get("sha256"), entry.get("size")) if isinstance(entry, dict) else (None, None)
        good = isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) is not None
        if not good or not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise DataError(f"{path}: entry of {name!r} is {str(entry)[:80]}, expected sha256 and size")
    return {name: Sum(entry["sha256"], entry["size"]) for name, entry in files.items()}


def size_fault(root: Path, name: str, expected: Sum) -> str | None:
    """What is wrong with a file's presence and size, `None` if nothing is; content is not read."""
    path = root / name
    if not path.is_file():
        return f"{path}: missing, expected {expected.size} bytes as in {CHECKSUMS}"
    size = path.stat().st_size
    if size != expected.size:
        return f"{path}: {size} bytes, expected {expected.size} as in {CHECKSUMS}"
    return None


def content_fault(root: Path, name: str, expected: Sum) -> str | None:
    """What is wrong with a file, its content included; `None` if nothing is."""
    fault = size_fault(root, name, expected)
    if fault is not None:
        return fault
    try:
        found = hash_file(root / name)
    except DataError as error:
        return str(error)
    if found != expected:
        digests = f"sha256 {found.sha256[:12]}..., expected {expected.sha256[:12]}..."
        return f"{root / name}: damaged, {digests} as in {CHECKSUMS}"
    return None


def verify_file(root: Path, name: str, sums: dict[str, Sum]) -> None:
    """Raise DataError unless a file is exactly the one that was sealed."""
    if name not in sums:
        raise DataError(f"{root / name}: not in {CHECKSUMS}, expected every file of the data set there")
    fault = content_fault(root, name, sums[name])
    if fault is not None:
        raise DataError(fault)


def faults(
    root: Path, names: Iterable[str], sums: dict[str, Sum], check: Callable[[Path, str, Sum], str | None]
) -> list[Problem]:
    """A problem for every named file that `check` finds fault with, several read at once."""
    names = list(names)
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda name: check(root, name, sums[name]), names))
    return [
        Problem(None, name, "", message, fatal=True, kind="checksum" if (root / name).is_file() else "missing")
        for name, message in zip(names, found, strict=True)
        if message is not None
    ]


def verify(root: str | Path) -> list[Problem]:
    """Every file that is missing, extra, of another size or of other content; empty where all is as sealed.

    Raises DataError where there are no checksums, or they cannot be read.
    """
    root = Path(root)
    sums = read_checksums(root)
    if sums is None:
        raise DataError(f"{root / CHECKSUMS}: missing, expected the checksums of the data set (seal it first)")
    extra = [
        Problem(None, name, "", f"{root / name}: not in {CHECKSUMS}, expected no file more", fatal=True, kind="extra")
        for name in data_files(root)
        if name not in sums
    ]
    return faults(root, sums, sums, content_fault) + extra
