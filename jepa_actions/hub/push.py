"""A model folder to the Hub, as one commit, and what arrived held against what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepa_actions.errors import CheckpointError
from jepa_actions.hub.checksums import file_facts
from jepa_actions.hub.files import PATTERNS
from jepa_actions.hub.find import HUB_ID, check_is_model, hub_errors, one_line

_TOKEN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def push_folder(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Uploads a saved model, creating the repository where it is missing; weights of an earlier push that are no part
    of this one are removed from it, in the same commit. `models.share.share_folder` looks first whether it may be
    shared.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the folder is not a saved model, the Hub refuses, or what arrived there is not what was sent.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise CheckpointError(f"{repo_id}: not a Hub id, expected owner/name")
    folder = Path(folder)
    check_is_model(folder, str(folder))
    from huggingface_hub import HfApi, errors

    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=list(PATTERNS),
            delete_patterns=["*.safetensors", "*.safetensors.index.json", "checksums.json"],
        )
        arrived = {entry.path: entry for entry in api.list_repo_tree(repo_id, revision=commit.oid)}
    except errors.OfflineModeIsEnabled as error:
        raise CheckpointError(f"{repo_id}: cannot be pushed: HF_HUB_OFFLINE is set") from error
    except hub_errors() as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = f"; {_TOKEN}" if status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError) else ""
        raise CheckpointError(f"{repo_id}: cannot be pushed: {one_line(error)}{hint}") from error
    _check_arrived(folder, repo_id, arrived)
    return str(commit.commit_url)


def _check_arrived(folder: Path, repo_id: str, arrived: dict[str, Any]) -> None:
    for path in sorted(folder.iterdir()):
        if not any(path.match(pattern) for pattern in PATTERNS):
            continue
        sent, there = file_facts(folder, path.name), arrived.get(path.name)
        size, lfs = getattr(there, "size", None), getattr(there, "lfs", None)
        if (size, sent["sha256"] if lfs is None else lfs.sha256) != (sent["bytes"], sent["sha256"]):
            found = "none" if there is None else f"{size} bytes{' with another checksum' if lfs else ''}"
            raise CheckpointError(
                f"{repo_id}: {path.name}: {sent['bytes']} bytes were sent, the Hub holds {found}: push again"
            )
