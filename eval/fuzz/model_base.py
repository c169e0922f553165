"""A small model folder to damage, and what a case of `eval/hostile_folders.py` is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.models import (
    DynamicsConfig,
    EncoderConfig,
    InverseConfig,
    PoolerConfig,
    PredictorConfig,
    WorldModel,
    WorldModelConfig,
)

# Makes, in an empty workspace, the folder to open. `workspace/outside` is what no folder may reach.
Make = Callable[[Path], Path]
SMALL = WorldModelConfig(
    encoder=EncoderConfig(image_size=(16, 16), patch=4, width=24, depth=1, heads=2),
    pooler=PoolerConfig(dim=16, heads=2),
    predictor=PredictorConfig(width=24, depth=1, heads=2),
    dynamics=DynamicsConfig(width=24, depth=1),
    inverse=InverseConfig(width=24),
)
CARD = "---\nlicense: apache-2.0\ntags: [world-model]\n---\n# A card\n"


@dataclass(frozen=True)
class Case:
    """One folder."""

    kind: str
    name: str
    make: Make


def codec(**changes: Any) -> ActionCodec:
    """Two raw dimensions in a box."""
    made = ActionCodec(
        names=("dx", "dy"),
        block=1,
        mean=np.array([0.5, -0.25], np.float32),
        std=np.array([2.0, 0.5], np.float32),
        bounds=ActionBounds("box", low=(-3.0, -1.0), high=(3.0, 1.0)),
    )
    return replace(made, **changes)


def world(actions: ActionCodec | None, **changes: Any) -> WorldModel:
    """A model with the weights of seed 0."""
    torch.manual_seed(0)
    return WorldModel(replace(SMALL, **changes), actions).eval()


def base(workspace: Path) -> Path:
    """The valid folder that hostile ones begin as; written once beside the workspaces, then copied."""
    template = workspace.parent / ".template"
    if not template.is_dir():
        draft = template.with_name(".template-draft")
        world(codec()).save_pretrained(draft, card=CARD, extra={"scores": {"r2": 0.5}})
        draft.rename(template)
    shutil.copytree(template, workspace / "model")
    (workspace / "outside").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(template / name, workspace / "outside" / name)
    return workspace / "model"


def config_of(folder: Path) -> dict[str, Any]:
    """Its parsed configuration."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def damaged(kind: str, name: str, change: Callable[[Path], Path | None]) -> Case:
    """A case that is the valid folder with one change; a change may name another folder to open."""

    def make(workspace: Path) -> Path:
        folder = base(workspace)
        return change(folder) or folder

    return Case(kind, name, make)


def written(file: str, data: bytes | str) -> Callable[[Path], None]:
    """A change: this is the file's content."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes(data.encode() if isinstance(data, str) else data)

    return change


def edited(*keys: str | int, value: Any) -> Callable[[Path], None]:
    """A change: this field of the configuration has this value."""

    def change(folder: Path) -> None:
        config = config_of(folder)
        inner: Any = config
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def with_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """A change of the weights, written as a valid file."""

    def changed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        change(copies)
        save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def holes(path: Path, size: int, data: bytes = b"") -> None:
    """A file of `size` bytes that takes no room on disk, beginning with `data`."""
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
