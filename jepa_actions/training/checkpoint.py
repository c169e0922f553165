"""Training state as a folder of safetensors and JSON, written beside, checksummed and renamed.

`RUN/checkpoints/step-NNNNNNN` is there as a whole or not at all, whenever the process is killed: files are written into
`.writing-NNNNNNN`, forced to the disk and renamed; what is no longer kept is renamed before it is taken away.
"""

import errno
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from jepa_actions.errors import CheckpointError
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema
from jepa_actions.training.sharded import whole

STATE_VERSION = 2
CHECKSUMS = "checksums.json"
TENSORS = ("model", "ema", "optimizer")


def save_checkpoint(
    run: Path,
    step: int,
    config: TrainConfig,
    tensors: dict[str, dict[str, torch.Tensor]],
    keep: int,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write `run/checkpoints/step-NNNNNNN`; the oldest beyond `keep` go once it is whole.

    Args:
        tensors: by the names of `TENSORS`, as `training_tensors` makes them.
        facts: JSON-able, for `state.json`: where and on what it was trained.

    Raises:
        CheckpointError: if the disk is full or cannot be written; what was there before is untouched, and named.
    """
    root = run / "checkpoints"
    final, draft = root / f"step-{step:07d}", root / f".writing-{step:07d}"
    state = {"version": STATE_VERSION, "step": step, "config": asdict(config), **(facts or {})}
    try:
        root.mkdir(parents=True, exist_ok=True)
        _clear(root)
        draft.mkdir()
        for name in TENSORS:
            save_file(tensors[name], draft / f"{name}.safetensors")
        (draft / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        sums = {path.name: file_sha256(path) for path in sorted(draft.iterdir())}
        (draft / CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n")
        for path in (*draft.iterdir(), draft):
            _to_disk(path)
        if final.exists():
            os.replace(final, root / f".removing-{step:07d}")
        os.replace(draft, final)
        _to_disk(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(_not_written(final, error)) from error
    for old in checkpoint_folders(run)[:-keep]:
        os.replace(old, root / f".removing-{old.name.removeprefix('step-')}")
    _clear(root)
    return final


def checkpoint_folders(run: Path) -> list[Path]:
    """The folders `step-NNNNNNN` of a run, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdigit())


def _clear(root: Path) -> None:
    """Take away what a kill left half written or half removed."""
    for pattern in (".writing-*", ".removing-*"):
        for path in root.glob(pattern):
            shutil.rmtree(path)


def _not_written(final: Path, error: Exception) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    before = [path.name for path in checkpoint_folders(final.parents[1])]
    kept = f"the last whole one is {before[-1]}" if before else "there is none before it"
    reason = "the disk is full" if full else f"it cannot be written ({error})"
    return f"{final}: not saved, {reason}; {kept}. Make room and go on with --resume {final.parents[1]}"


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    """Force a file or a folder's entries to the disk, so that no rename is there before what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def training_tensors(
    model: nn.Module, ema: Ema | None, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, dict[str, torch.Tensor]]:
    """Everything that a step changes, by file and name: weights, EMA, moments. On the CPU; copied only where it must.

    There is no random state among it: data, masks and schedules are functions of (seed, step). Of a sharded run every
    process must ask; without `keep` it only helps, and gets nothing.
    """
    return {
        "model": _on_cpu(model.state_dict(), keep),
        "ema": _on_cpu({} if ema is None else ema.target.state_dict(), keep),
        "optimizer": _on_cpu(_optimizer_tensors(model, optimizer), keep),
    }


def _on_cpu(tensors: dict[str, Any], keep: bool) -> dict[str, torch.Tensor]:
    gathered = ((name, whole(tensor.detach())) for name, tensor in tensors.items())
    return {name: tensor.cpu().contiguous() for name, tensor in gathered if keep}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }
