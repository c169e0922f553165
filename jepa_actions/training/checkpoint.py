"""Training state as a folder of safetensors and JSON, written beside and renamed: a kill leaves the last one whole."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from jepa_actions.errors import CheckpointError
from jepa_actions.models.serialize import load_weights, read_tensors
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema

STATE_VERSION = 1


def save_checkpoint(
    run: Path,
    step: int,
    config: TrainConfig,
    model: nn.Module,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    keep: int,
) -> Path:
    """Write `run/checkpoints/step-NNNNNNN`; the oldest beyond `keep` go once it is whole."""
    root = run / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    final, draft = root / f"step-{step:07d}", root / f".writing-{step:07d}"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir()
    _save(model.state_dict(), draft / "model.safetensors")
    if ema is not None:
        _save(ema.target.state_dict(), draft / "ema.safetensors")
    _save(_optimizer_tensors(model, optimizer), draft / "optimizer.safetensors")
    state = {"version": STATE_VERSION, "step": step, "threads": torch.get_num_threads(), "config": asdict(config)}
    (draft / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    if final.exists():
        shutil.rmtree(final)
    os.replace(draft, final)
    for old in sorted(root.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return final


def load_checkpoint(
    run: Path, config: TrainConfig, model: nn.Module, ema: Ema | None, optimizer: torch.optim.Optimizer
) -> int:
    """Fill everything from the run's newest checkpoint and return the step to continue with.

    Raises:
        CheckpointError: if the run has none, or it is damaged, or the recipe has changed (naming the keys).
    """
    found = sorted((run / "checkpoints").glob("step-*"))
    if not found:
        raise CheckpointError(f"{run}: nothing to resume, no folder checkpoints/step-*")
    folder = found[-1]
    try:
        state = json.loads((folder / "state.json").read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / 'state.json'}: missing or damaged ({error})") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION or not {"step", "config"} <= set(state):
        raise CheckpointError(f"{folder / 'state.json'}: expected version {STATE_VERSION} with step and config")
    changed = _differences(state["config"], json.loads(json.dumps(asdict(config))))
    if changed:
        raise CheckpointError(f"{folder}: the recipe has changed since this checkpoint: {'; '.join(changed)}")
    load_weights(model, folder / "model.safetensors")
    if ema is not None:
        load_weights(ema.target, folder / "ema.safetensors")
    _load_optimizer(model, optimizer, folder / "optimizer.safetensors")
    return int(state["step"])


def _save(tensors: dict[str, Any], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    parameters = dict(model.named_parameters())
    for key, tensor in read_tensors(path).items():
        name, _, field = key.rpartition("/")
        if name not in parameters:
            raise CheckpointError(f"{path}: optimiser state of {name!r}, which is not part of this model")
        parameter = parameters[name]
        moved = tensor if field == "step" else tensor.to(parameter)
        optimizer.state[parameter][field] = moved


def _differences(saved: Any, now: Any, where: str = "") -> list[str]:
    """Keys that differ between two nested mappings, but for those that do not change what is computed."""
    if isinstance(saved, dict) and isinstance(now, dict):
        keys = sorted(set(saved) | set(now))
        return [
            text
            for key in keys
            for text in _differences(saved.get(key), now.get(key), f"{where}.{key}" if where else key)
        ]
    free = {"name", "out", "evaluate", "tracker", "train.log_every", "train.checkpoint_every", "train.keep_checkpoints"}
    free |= {"data.workers", "data.latents", "data.disk_limit"}
    if saved == now or where in free:
        return []
    return [f"{where} was {saved!r}, now {now!r}"]
