"""Going on with a run: which checkpoint, whether it is whole, whether the recipe and the data are still the same."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from jepa_actions.errors import CheckpointError
from jepa_actions.models.serialize import load_weights, read_tensors
from jepa_actions.training.checkpoint import CHECKSUMS, STATE_VERSION, TENSORS, checkpoint_folders, file_sha256
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema
from jepa_actions.training.metric_log import read_rows

# Keys that change nothing that is computed.
FREE = {"name", "out", "evaluate", "tracker", "train.log_every", "train.checkpoint_every", "train.keep_checkpoints"}
FREE |= {"data.workers", "data.latents", "data.disk_limit"}
FREE |= {"train.accumulate", "train.shard"}  # sums in another order: said as a difference of machines (`not_exact`)
LARGEST_JSON = 16 << 20  # bytes; a state is a few thousand


@dataclass(frozen=True)
class Resume:
    """How to go on.

    step: of the checkpoint; None takes the newest.
    allow_changes: True goes on with a recipe or data that would give other weights, and says what differs.
    """

    step: int | None = None
    allow_changes: bool = False


def find_checkpoint(run: Path, step: int | None = None) -> Path | None:
    """The folder to continue from, whole; None for a run that was ended before its first checkpoint.

    Raises:
        CheckpointError: if there is no such run or step, or files are damaged: naming each, and the newest checkpoint
            before it that is whole. Another one than asked for is never taken.
    """
    found = checkpoint_folders(run)
    if not found and step is None and _had_none_yet(run):
        return None
    if not found:
        raise CheckpointError(f"{run}: nothing to resume, no folder checkpoints/step-*")
    folder = found[-1] if step is None else run / "checkpoints" / f"step-{step:07d}"
    if folder not in found:
        steps = ", ".join(str(int(path.name[5:])) for path in found)
        raise CheckpointError(f"{run}: no checkpoint of step {step}, found {steps}")
    faults = faults_of(folder)
    if faults:
        whole = [path for path in found if path < folder and not faults_of(path)]
        offer = "no checkpoint before it is whole"
        if whole:
            step = int(whole[-1].name[5:])
            offer = f"the newest whole one before it is {whole[-1].name}: --resume {run} --resume_step {step}"
        raise CheckpointError(f"{folder}: damaged, {'; '.join(faults)}. {offer}")
    return folder


def _had_none_yet(run: Path) -> bool:
    """Whether the run was ended before its first checkpoint was written, so that it begins again and loses nothing.

    One whose checkpoints were taken away has gone further than that.
    """
    if not (run / "config.yaml").is_file() or (run / "model").exists() or (run / "checkpoints" / "set_aside").exists():
        return False
    every = yaml.safe_load((run / "config.yaml").read_text())["train"]["checkpoint_every"]
    rows = read_rows(run / "metrics.jsonl")
    return every > 0 and (not rows or rows[-1]["step"] <= every)


def faults_of(folder: Path) -> list[str]:
    """What is wrong with the files of a checkpoint: each missing or changed one, by name. Empty where it is whole.

    A checkpoint of version 1 has no checksums: only missing files are seen.
    """
    names = [*(f"{name}.safetensors" for name in TENSORS), "state.json"]
    missing = [f"{name}: missing" for name in names if not (folder / name).is_file()]
    if not (folder / CHECKSUMS).is_file():
        return missing or _older(folder)
    try:
        sums = _read_json(folder / CHECKSUMS)
    except CheckpointError as error:
        return [*missing, str(error).removeprefix(f"{folder}/")]
    if not isinstance(sums, dict) or sorted(sums) != sorted(names):
        return [*missing, f"{CHECKSUMS}: damaged (expected the sums of {', '.join(names)})"]
    changed = [
        f"{name}: damaged (its SHA-256 is not the one in {CHECKSUMS})"
        for name in names
        if (folder / name).is_file() and file_sha256(folder / name) != sums[name]
    ]
    return missing + changed


def _older(folder: Path) -> list[str]:
    """A checkpoint without checksums is version 1, or has lost them."""
    try:
        state = _read_json(folder / "state.json")
    except CheckpointError as error:
        return [str(error).removeprefix(f"{folder}/")]
    first = isinstance(state, dict) and state.get("version") == 1
    return [] if first else [f"{CHECKSUMS}: missing"]


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path}: damaged (larger than {LARGEST_JSON >> 20} MiB)")
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error})") from error


def read_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a whole checkpoint: `version`, `step`, `config`, and what `run_facts` told.

    Raises: CheckpointError for another version or missing fields.
    """
    path = folder / "state.json"
    state = _read_json(path)
    version = state.get("version") if isinstance(state, dict) else None
    if version not in (1, STATE_VERSION) or not {"step", "config"} <= set(state):
        raise CheckpointError(f"{path}: expected version 1 to {STATE_VERSION} with step and config, found {version!r}")
    found: dict[str, Any] = state
    return found


def check_same(
    folder: Path, state: dict[str, Any], config: TrainConfig, data: dict[str, Any], *, allow_changes: bool
) -> list[str]:
    """What would give other weights than an uninterrupted run, by key: of the recipe and of the data.

    Raises: CheckpointError for any, unless they are allowed.
    """
    changed = _differences(state["config"], json.loads(json.dumps(asdict(config))))
    if "data" in state:
        before, now = state["data"], json.loads(json.dumps(data))
        changed += [
            f"the data set's {key} was {before.get(key)!r}, now {now.get(key)!r}"
            for key in sorted(set(before) | set(now))
            if before.get(key) != now.get(key)
        ]
    if changed and not allow_changes:
        raise CheckpointError(
            f"{folder}: the recipe has changed since this checkpoint: {'; '.join(changed)}. "
            "It would give other weights than either run by itself: --allow_changes goes on all the same"
        )
    return changed


def not_exact(state: dict[str, Any], machine: dict[str, Any]) -> list[str]:
    """What differs in where it ran, so that sums come in another order and weights are equal to rounding only."""
    before = state.get("machine") or {"threads": state.get("threads")}
    return [
        f"{key} was {before[key]}, now {machine[key]}"
        for key in machine
        if before.get(key) is not None and before[key] != machine[key]
    ]


def fill_training(folder: Path, model: nn.Module, ema: Ema | None, optimizer: torch.optim.Optimizer) -> None:
    """Fill model, EMA and optimiser from a checkpoint, strictly.

    Raises: CheckpointError for tensors that are missing, of another model, shape or type, or not finite.
    """
    load_weights(model, folder / "model.safetensors")
    if ema is not None:
        load_weights(ema.target, folder / "ema.safetensors")
    _load_optimizer(model, optimizer, folder / "optimizer.safetensors")


def _load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    parameters = dict(model.named_parameters())
    for key, tensor in read_tensors(path).items():
        name, _, field = key.rpartition("/")
        if name not in parameters:
            raise CheckpointError(f"{path}: optimiser state of {name!r}, which is not part of this model")
        parameter = parameters[name]
        if field != "step" and tensor.shape != parameter.shape:
            raise CheckpointError(
                f"{path}: {key!r}: expected shape {tuple(parameter.shape)}, found {tuple(tensor.shape)}"
            )
        moved = tensor if field == "step" else tensor.to(parameter)
        optimizer.state[parameter][field] = moved


def set_aside(run: Path, step: int) -> list[Path]:
    """Move checkpoints of later steps to `checkpoints/set_aside`: those steps will be done again, and nothing is lost.

    Returns where they went.
    """
    moved = []
    for folder in checkpoint_folders(run):
        if int(folder.name[5:]) > step:
            place = run / "checkpoints" / "set_aside" / folder.name
            place.parent.mkdir(exist_ok=True)
            if place.exists():
                shutil.rmtree(place)  # of an older attempt at the same steps
            folder.rename(place)
            moved.append(place)
    return moved


def _differences(saved: Any, now: Any, where: str = "") -> list[str]:
    """Keys that differ between two nested mappings, but for those that do not change what is computed."""
    if isinstance(saved, dict) and isinstance(now, dict):
        keys = sorted(set(saved) | set(now))
        return [
            text
            for key in keys
            for text in _differences(saved.get(key), now.get(key), f"{where}.{key}" if where else key)
        ]
    if saved == now or where in FREE:
        return []
    return [f"{where} was {saved!r}, now {now!r}"]
