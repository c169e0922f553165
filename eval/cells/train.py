"""Train a cell for its time, stage by stage."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cells.clock import Clock
from cells.spec import Cell, Grid

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models import WorldModel
from jepa_actions.training import TrainConfig, train


@dataclass(frozen=True)
class Run:
    """A trained cell."""

    model: WorldModel
    config: TrainConfig  # of the last stage
    facts: dict[str, Any]  # steps and seconds of each stage, for a row


def train_cell(
    grid: Grid, cell: Cell, *, seed: int, trial: int, minutes: float, clock: Clock, out: Path, steps: int | None = None
) -> Run:
    """The cell's model after `minutes` of training in all, or `steps` per stage; a stage whose model lies in `out`
    already is taken from there."""
    torch.set_num_threads(clock.threads)
    facts: dict[str, Any] = {"steps": [], "seconds_per_step": [], "seconds_training": []}
    words, length = [], f"{minutes:g}min" if steps is None else f"{steps}steps"
    for number, stage in enumerate(cell.stages):
        config = grid.config(cell, number, trial, f"--seed={seed}", *words)
        count, per_step = steps, None
        if count is None:
            count, per_step = clock.steps(f"{cell.clock or cell.name}/{number}", config, 60 * minutes * stage.share)
        name = f"{cell.name.replace('/', '-')}-seed{seed}-trial{trial}-{length}-stage{number}"
        own = [f"--name={name}", f"--out={out}", f"--train.steps={count}", "--train.checkpoint_every=0"]
        config = grid.config(cell, number, trial, f"--seed={seed}", *words, *own)
        folder = out / name
        seconds = _train(config, folder)
        words = [f"--init={folder / 'model'}", "--init_parts=[encoder, predictor]"]
        for key, value in (("steps", count), ("seconds_per_step", per_step), ("seconds_training", seconds)):
            facts[key].append(value)
    model = WorldModel.from_pretrained(folder / "model")
    return Run(model, config, facts | {"threads": clock.threads, "commit": commit(), "hardware": hardware()})


def read_clock(grid: Grid, cell: Cell, clock: Clock) -> None:
    """How long a step of each stage takes; a stage that begins with another's weights takes as long with any."""
    torch.set_num_threads(clock.threads)
    for number in range(len(cell.stages)):
        _, per_step = clock.steps(f"{cell.clock or cell.name}/{number}", grid.config(cell, number, 0), 1.0)
        print(f"{cell.name}, stage {number}: {per_step:.3f} s per step", flush=True)


def _train(config: TrainConfig, folder: Path) -> float:
    """Train, unless that is done; processor seconds of the training thread."""
    note = folder / "seconds.json"
    if note.is_file() and (folder / "model" / "config.json").is_file():
        return float(json.loads(note.read_text()))
    began = time.thread_time()
    train(config, restart=True, quiet=True)  # what a kill left is no run to go on with
    seconds = time.thread_time() - began
    note.write_text(json.dumps(seconds))
    return seconds
