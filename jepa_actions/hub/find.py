"""The folder of a saved model: one on disk, or a pinned and checked snapshot of a Hub repository."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jepa_actions.errors import CheckpointError
from jepa_actions.hub.checksums import CHECKSUMS, file_facts, read_checksums
from jepa_actions.hub.files import CONFIG, MAX_JSON, PATTERNS, read_bytes, shown, strict_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKEN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Source:
    """Where on the Hub a folder of its cache comes from."""

    repo_id: str
    commit: str  # 40 hexadecimal digits


def source_of(folder: Path) -> Source | None:
    """What a snapshot in the Hub's cache is a snapshot of; `None` for any other folder."""
    cache = folder.absolute().parent
    kind, _, repo = cache.parent.name.partition("--")
    if cache.name != "snapshots" or kind != "models" or not re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return None
    return Source(repo.replace("--", "/"), folder.name)


def resolve_folder(id_or_path: str | Path, revision: str | None = None, library: str | None = None) -> Path:
    """The folder of a saved model: an existing one, or a snapshot of a Hub repository (downloaded once, then cached).

    What comes from the Hub is held against the checksums it was written with, every time; what does not agree leaves
    the cache. With HF_HUB_OFFLINE set, or without a network, a snapshot that is whole in the cache is used.

    Args:
        id_or_path: a folder, or a Hub id such as `owner/name` or `owner/name@REVISION`. A folder wins.
        revision: branch, tag or commit on the Hub; not for folders.
        library: refuse a repository whose `config.json` names another, before its weights are downloaded.

    Raises:
        CheckpointError: it is neither, the Hub does not give it, or it holds no `config.json` or no `*.safetensors`.
    """
    folder = Path(id_or_path)
    if os.path.isdir(folder):
        if revision is not None:
            raise CheckpointError(f"{folder}: is a folder, so it has no revision {revision!r}")
        check_is_model(folder, str(id_or_path))
        return folder
    if os.path.lexists(folder):
        raise CheckpointError(
            f"{folder}: is {'a link to nowhere' if folder.is_symlink() else 'a file'}, expected a model folder"
        )
    repo_id, _, pinned = str(id_or_path).partition("@")
    if pinned and revision not in (None, pinned):
        raise CheckpointError(f"{id_or_path}: names revision {pinned!r}, found revision {revision!r} beside it")
    if not HUB_ID.fullmatch(repo_id) or (str(id_or_path).endswith("@")):
        raise CheckpointError(f"{id_or_path}: no such folder, and not a Hub id (owner/name, or owner/name@REVISION)")
    return _download(repo_id, pinned or revision, library)


def _download(repo_id: str, revision: str | None, library: str | None) -> Path:
    from huggingface_hub import snapshot_download

    with _named(repo_id, revision):
        # The configuration first: it tells whose model this is, and pins the commit that the rest is taken from.
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=[CONFIG]))
    _check_library(folder, repo_id, library)
    with _named(repo_id, revision, begun=True):
        folder = Path(snapshot_download(repo_id, revision=folder.name, allow_patterns=list(PATTERNS)))
    check_is_model(folder, repo_id)
    _check_snapshot(folder, repo_id)
    return folder


def _check_library(folder: Path, repo_id: str, library: str | None) -> None:
    if not os.path.lexists(folder / CONFIG):
        raise CheckpointError(f"{repo_id}: not a saved model, the Hub has no {CONFIG} in it")
    found = strict_json(read_bytes(folder, CONFIG, MAX_JSON), f"{repo_id}: {CONFIG}")
    if library is None or (isinstance(found, dict) and found.get("library") == library):
        return
    kind = (
        found.get("library") or found.get("model_type") or found.get("architectures") if isinstance(found, dict) else ""
    )
    hint = f"; it looks like one of {shown(kind)}" if kind else ""
    raise CheckpointError(f"{repo_id}: not a {library} model (config.json, field 'library'){hint}")


@contextmanager
def _named(repo_id: str, revision: str | None, begun: bool = False) -> Iterator[None]:
    """What the Hub's client raises, as one error of this library that says what to do. `begun`: some of it is here."""
    from huggingface_hub import errors

    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{repo_id}: is gated: ask for access on its page, then {_TOKEN}") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repo_id}: no such folder and no such repository on the Hub (or it is private: {_TOKEN})"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: has no revision {revision!r} on the Hub") from error
    except errors.RemoteEntryNotFoundError as error:
        named = re.search(r"/resolve/[^/]+/(\S+?)[.]?(\s|$)", str(error))
        raise CheckpointError(
            f"{repo_id}: not a saved model, the Hub has no {named.group(1) if named else CONFIG} in it{at}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if begun or isinstance(error, errors.IncompleteSnapshotError):
            raise CheckpointError(
                f"{repo_id}: the cache holds only a part of it{at}, and {_no_network()}: pull it again with a network"
            ) from error
        raise CheckpointError(
            f"{repo_id}: no such folder, not in the cache{at}, and {_no_network()} ({one_line(error)})"
        ) from error
    except hub_errors() as error:
        raise CheckpointError(
            f"{repo_id}: no such folder, and cannot be downloaded from the Hub: {one_line(error)}"
        ) from error


def _no_network() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return f"the Hub ({constants.ENDPOINT}) cannot be reached"


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: a refusal, a bad name, no token, no network (an error of its HTTP library)."""
    from huggingface_hub.errors import HfHubHTTPError

    # ValueError: a bad id, or the name of a file that would lie outside the cache.
    return (*HfHubHTTPError.__bases__, ValueError, OSError, RuntimeError)


def check_is_model(folder: Path, place: str) -> None:
    """Raise CheckpointError unless a folder has a `config.json` and some `*.safetensors`."""
    if not folder.is_dir():
        raise CheckpointError(f"{place}: no such folder")
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read ({error.strerror})") from error
    missing = [] if CONFIG in names else [CONFIG]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("*.safetensors")
    if missing:
        pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")))
        hint = f"; pickles such as {pickles[0]} are never opened" if pickles else ""
        raise CheckpointError(f"{place}: not a saved model, missing {' and '.join(missing)}{hint}")


def _check_snapshot(folder: Path, repo_id: str) -> None:
    """Hold every file against its checksum, where one is known: in `checksums.json`, or as the name of its blob."""
    sealed: dict[str, str] = {}
    try:
        sealed = {name: facts["sha256"] for name, facts in (read_checksums(folder) or {}).items()}
    except CheckpointError:
        _forget(folder / CHECKSUMS)
        raise
    for path in sorted(folder.iterdir()):
        blob = Path(os.path.realpath(path)).name
        known = {sealed.pop(path.name, None), blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None} - {None}
        if known and {file_facts(folder, path.name)["sha256"]} != known:
            _forget(path)
            raise CheckpointError(
                f"{repo_id}: {path.name}: damaged on its way or on the Hub, SHA-256 is not "
                f"{' or '.join(sorted(map(str, known)))}; it was removed from the cache: pull again"
            )
    if sealed:
        raise CheckpointError(f"{repo_id}: {CHECKSUMS} names {min(sealed)}, which the repository does not have")


def _forget(pointer: Path) -> None:
    """Remove a file of a snapshot, and the blob it is a link to, so that neither is taken for whole later."""
    blob = Path(os.path.realpath(pointer))
    if blob != pointer and blob.parent == Path(os.path.realpath(pointer.parent.parent.parent / "blobs")):
        blob.unlink(missing_ok=True)
    pointer.unlink(missing_ok=True)


def one_line(error: Exception) -> str:
    """The beginning of an error's text."""
    return " ".join(str(error).split())[:200]
