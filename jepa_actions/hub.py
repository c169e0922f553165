"""Model folders from and to the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from jepa_actions.errors import CheckpointError

_CONFIG = "config.json"
_PATTERNS = [_CONFIG, "*.safetensors", "*.safetensors.index.json", "README.md"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_folder(id_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder of a saved model: an existing one, or a snapshot of a Hub repository (downloaded once, then cached).

    Args:
        id_or_path: a folder, or a Hub id such as `owner/name`. A folder wins.
        revision: branch, tag or commit on the Hub; not for folders.

    Raises:
        CheckpointError: it is neither, the Hub does not give it, or it holds no `config.json` or no `*.safetensors`.
    """
    folder = Path(id_or_path)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{folder}: is a folder, so it has no revision {revision!r}")
    elif folder.exists():
        raise CheckpointError(f"{folder}: is a file, expected a model folder")
    elif _HUB_ID.fullmatch(str(id_or_path)):
        folder = _download(str(id_or_path), revision)
    else:
        raise CheckpointError(f"{id_or_path}: no such folder, and not a Hub id (owner/name)")
    _check(folder, str(id_or_path))
    return folder


def push_folder(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Uploads a saved model, creating the repository where it is missing.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the folder is not a saved model, or the Hub refuses.
    """
    if not _HUB_ID.fullmatch(repo_id):
        raise CheckpointError(f"{repo_id}: not a Hub id, expected owner/name")
    folder = Path(folder)
    _check(folder, str(folder))
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=_PATTERNS)
    except hub_errors() as error:
        raise CheckpointError(f"{repo_id}: cannot be pushed: {_one_line(error)}") from error
    return str(commit.commit_url)


def _download(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=_PATTERNS))
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repo_id}: no such folder and no such repository on the Hub (or it is private)"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: has no revision {revision!r} on the Hub") from error
    except hub_errors() as error:
        raise CheckpointError(
            f"{repo_id}: no such folder, and cannot be downloaded from the Hub: {_one_line(error)}"
        ) from error


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: a refusal, a bad name, no token, no network (an error of its HTTP library)."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    return (*HfHubHTTPError.__bases__, HFValidationError, OSError)


def _check(folder: Path, place: str) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{place}: no such folder")
    names = {path.name for path in folder.iterdir()}
    missing = [] if _CONFIG in names else [_CONFIG]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("*.safetensors")
    if missing:
        raise CheckpointError(f"{place}: not a saved model, missing {' and '.join(missing)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
