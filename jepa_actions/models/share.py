"""Whether a model folder is what it was when it was written, and sharing what is."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepa_actions.errors import CheckpointError
from jepa_actions.hub import changed_files, foreign_files, push_folder, read_checksums
from jepa_actions.models.golden import TOLERANCE, golden_differences
from jepa_actions.models.serialize import load_model, read_config, save_model
from jepa_actions.models.world_model import WorldModel
from jepa_actions.models.world_model_config import RolloutConfig


@dataclass(frozen=True)
class Verification:
    """What `verify_folder` found. `failed` is empty where everything that is stored agrees."""

    folder: Path
    format_version: int
    differences: dict[str, float] = field(default_factory=dict)  # output: largest, as a share of its largest value
    failed: list[str] = field(default_factory=list)  # what does not agree, one line each
    missing: list[str] = field(default_factory=list)  # what is not stored, so that nothing could be compared

    @property
    def ok(self) -> bool:
        """Everything is stored, and agrees."""
        return not self.failed and not self.missing


def verify_folder(folder: str | Path) -> Verification:
    """Open a model folder, hold its files against their checksums, and recompute its golden outputs in float32.

    An output agrees within `TOLERANCE` of its largest absolute value, whatever this machine is.

    Raises:
        CheckpointError: for a folder that does not open.
    """
    path = Path(folder)
    config, model = read_config(path), load_model(path, rollout=RolloutConfig())
    failed = list(changed_files(path).values())
    missing = []
    if read_checksums(path) is None:
        missing.append(f"{path}: no checksums.json: nothing tells whether its files were changed")
    differences: dict[str, float] = {}
    if config["golden"]:
        try:
            differences = golden_differences(model, path)
        except CheckpointError as error:
            failed.append(str(error))
        failed += [
            f"{path}: output {name!r} differs by {worst:.2g} of its largest value, expected at most {TOLERANCE:g}"
            for name, worst in differences.items()
            if not worst <= TOLERANCE
        ]
    else:
        version = config["format_version"]
        missing.append(f"{path}: no golden outputs are stored (format_version {version}): nothing could be recomputed")
    return Verification(path, config["format_version"], differences, list(dict.fromkeys(failed)), missing)


def share_folder(folder: str | Path, repo_id: str, *, private: bool = False, unverified: bool = False) -> str:
    """Push a model folder that verifies, and holds nothing else, to the Hub.

    Args:
        folder: as `save_model` wrote it.
        repo_id: `owner/name`; made where it does not exist.
        private: for a repository that is made.
        unverified: also a folder without golden outputs or checksums, as older formats are. What is stored and does
            not agree is never shared.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: naming what does not agree, what is no part of a model, or what the Hub refuses.
    """
    found = verify_folder(folder)
    if found.failed:
        raise CheckpointError(f"not shared: {found.failed[0]}{_more(found.failed)}")
    if foreign := foreign_files(found.folder):
        raise CheckpointError(
            f"not shared: {found.folder}: {', '.join(foreign)[:200]}: no part of a model folder, move it elsewhere"
        )
    if found.missing and not unverified:
        raise CheckpointError(f"not shared: {found.missing[0]}{_more(found.missing)}; save it again, or allow that")
    return push_folder(folder, repo_id, private=private)


def share_model(model: WorldModel, repo_id: str, *, private: bool = False, **saving: Any) -> str:
    """Push a model at hand: saved to a temporary folder first (`saving` as `save_model` takes it), then shared."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder), **saving)
        return share_folder(folder, repo_id, private=private)


def _more(lines: list[str]) -> str:
    return f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
