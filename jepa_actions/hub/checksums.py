"""`checksums.json`: size and SHA-256 of every file that a model folder was written with, its card aside."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jepa_actions.errors import CheckpointError
from jepa_actions.hub.files import MAX_JSON, read_bytes, regular_file, shown, strict_json

CHECKSUMS = "checksums.json"


def file_facts(folder: Path, name: str) -> dict[str, Any]:
    """Bytes and SHA-256 of one file. Raises CheckpointError as `regular_file`."""
    path = regular_file(folder, name)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}
    except OSError as error:
        raise CheckpointError(f"{folder / name}: cannot be read ({error.strerror})") from error


def seal(folder: Path, names: Iterable[str]) -> None:
    """Write `checksums.json` of these files."""
    facts = {"algorithm": "sha256", "files": {name: file_facts(folder, name) for name in sorted(names)}}
    draft = folder / f".{CHECKSUMS}"
    draft.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(draft, folder / CHECKSUMS)


def read_checksums(folder: Path) -> dict[str, dict[str, Any]] | None:
    """File name to `bytes` and `sha256`; `None` where there is no `checksums.json`.

    Raises:
        CheckpointError: where it is not what `seal` writes.
    """
    path = folder / CHECKSUMS
    if not os.path.lexists(path):
        return None
    found = strict_json(read_bytes(folder, CHECKSUMS, MAX_JSON), str(path))
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or found.get("algorithm") != "sha256":
        raise CheckpointError(f"{path}: expected algorithm 'sha256' and an object 'files', found {shown(found)}")
    for name, facts in files.items():
        if (
            not isinstance(facts, dict)
            or type(facts.get("bytes")) is not int
            or not isinstance(facts.get("sha256"), str)
        ):
            raise CheckpointError(f"{path}: {shown(name)}: expected 'bytes' and 'sha256', found {shown(facts)}")
    return files


def changed_files(folder: Path) -> dict[str, str]:
    """What is wrong with each sealed file that is missing or not as it was written; empty where nothing is sealed.

    Raises:
        CheckpointError: where `checksums.json` itself is not valid.
    """
    wrong: dict[str, str] = {}
    for name, expected in (read_checksums(folder) or {}).items():
        try:
            found = file_facts(folder, name)
        except CheckpointError as error:
            wrong[name] = str(error)
            continue
        for fact in ("bytes", "sha256"):
            if found[fact] != expected[fact] and name not in wrong:
                wrong[name] = f"{folder / name}: {fact} {shown(expected[fact])} when written, now {found[fact]!r}"
    return wrong
