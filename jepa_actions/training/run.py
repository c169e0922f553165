"""A training under way: everything that a recipe builds, one step of it, and what of it is saved."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from jepa_actions.data import Batch
from jepa_actions.models import WorldModel
from jepa_actions.nn import compile_blocks, set_gradient_checkpointing
from jepa_actions.training.build import build_model
from jepa_actions.training.checkpoint import save_checkpoint, training_tensors
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema
from jepa_actions.training.facts import data_facts, machine_facts, model_facts
from jepa_actions.training.flops import flops_of_copy
from jepa_actions.training.loaders import make_loader
from jepa_actions.training.memory import MemoryReport, memory_report
from jepa_actions.training.module import TrainingModule, check_finite
from jepa_actions.training.optimizer import make_optimizer
from jepa_actions.training.processes import GlobalStep, batch_facts, check_processes, clip_gradients
from jepa_actions.training.resume import (
    Resume,
    check_same,
    fill_training,
    find_checkpoint,
    not_exact,
    read_state,
    set_aside,
)
from jepa_actions.training.run_folder import plain
from jepa_actions.training.sharded import shard_training, whole_model
from jepa_actions.training.sources import open_data


class Run:
    """Data, model, objectives, optimiser and EMA of a recipe on this process, at a step.

    Args:
        config: the recipe.
        folder: of the run.
        accelerator: device and processes.
    """

    def __init__(self, config: TrainConfig, folder: Path, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        optim, device = config.train, accelerator.device
        check_processes(config, accelerator)
        set_seed(config.seed)
        self.data = open_data(config.data, config.model.image_size, config.model.cameras)
        self.model = build_model(config, self.data).to(getattr(torch, optim.dtype))
        rank, world_size = accelerator.process_index, accelerator.num_processes
        self.loader = make_loader(config, self.data, self.model, rank=rank, world_size=world_size)
        self.module = TrainingModule(self.model.to(device), config)
        self.ema = Ema(self.model, optim.ema, optim.ema_final, optim.steps)
        self.ema.target.to(device)
        self.optimizer = make_optimizer(self.model, config)
        self.facts: dict[str, Any] = {
            "machine": machine_facts(accelerator) | {"parts": optim.accumulate, "sharded": optim.shard},
            "data": data_facts(self.data),
            "model": model_facts(self.model, self.data),
            "batch": batch_facts(config, world_size),
        }

    def resume(self, asked: Resume) -> int:
        """Fill everything from a checkpoint and return the step to go on with; what is not exact is said, and kept for
        later checkpoints.

        Raises: CheckpointError, as `find_checkpoint`, `check_same` and `fill_training`.
        """
        folder = find_checkpoint(self.folder, asked.step)
        if folder is None:
            self.accelerator.print(
                f"{self.folder}: it was ended before its first checkpoint, so it begins again at step 0"
            )
            return 0
        state = read_state(folder)
        changed = check_same(folder, state, self.config, self.facts["data"], allow_changes=asked.allow_changes)
        fill_training(folder, self.model, self.ema, self.optimizer)
        start = int(state["step"])
        elsewhere = not_exact(state, self.facts["machine"])
        notes = [f"other weights than an uninterrupted run: {text}" for text in changed]
        notes += [f"equal to an uninterrupted run up to rounding: {text}" for text in elsewhere]
        self.facts["notes"] = [*state.get("notes", ()), *(f"resumed at step {start}, {note}" for note in notes)]
        for note in notes:
            self.accelerator.print(f"{self.folder}, resumed at step {start}: {note}")
        if self.accelerator.is_main_process:
            for place in set_aside(self.folder, start):
                self.accelerator.print(
                    f"{self.folder}: {place.name} is of a later step and was moved to {place.parent}"
                )
        return start

    def prepare(self, lap: Callable[[str], None]) -> None:
        """Make ready to train: gradient checkpointing, compilation, shards, processes; what is frozen stays so.

        Args:
            lap: told after each part of a step, by name.
        """
        optim, module = self.config.train, self.module
        set_gradient_checkpointing(self.model, optim.gradient_checkpointing)
        if optim.compile:
            for part in (self.model, self.ema.target):
                compile_blocks(part)
        if optim.shard:
            self.optimizer = shard_training(module, self.ema, self.optimizer, self.accelerator.device)
        self._trained = module if optim.shard else self.accelerator.prepare(module)
        module.lap = self._lap = lap
        self._global_step = GlobalStep(self.accelerator, self._trained, self.config, lap)
        module.train()
        for name in optim.freeze:  # running statistics, too, stay as they are
            getattr(self.model, name).eval()

    def gradients(self, batch: Batch, step: int, measure: bool) -> dict[str, Tensor]:
        """The gradients of the global batch, and `loss` with what the objectives log; `measure` adds collapse meters.

        Raises: NonFiniteLossError.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss, logs = self._global_step(batch, self.ema.target, step, measure)
        check_finite(loss, logs, step, batch)
        return {"loss": loss.detach(), **logs}

    def update(self, step: int, lr: float) -> Tensor:
        """Move weights and EMA; returns the norm that the gradients had."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        self._lap("other")
        norm = clip_gradients(self.accelerator, self.model, self.config.train.clip)
        self._lap("clip")
        self.optimizer.step()
        self._lap("optimiser")
        self.ema.update(step)
        self._lap("ema")
        return norm

    def save(self, step: int) -> None:
        """Write the checkpoint after so many steps: by the first process, where shards are gathered from all."""
        main = self.accelerator.is_main_process
        if main or self.config.train.shard:
            tensors = training_tensors(self.model, self.ema, self.optimizer, keep=main)
            if main:
                keep = self.config.train.keep_checkpoints
                save_checkpoint(self.folder, step, self.config, tensors, keep, self.facts)

    def flops(self, batch: Batch, step: int) -> int | None:
        """Of a step, counted on a copy of the module."""
        take = partial(GlobalStep, self.accelerator, config=self.config)
        return flops_of_copy(self.module, lambda twin: take(twin)(batch, self.ema.target, step, False))

    def memory(self, batch: Batch, step: int) -> MemoryReport:
        """What a step keeps; every process must ask."""
        again = GlobalStep(self.accelerator, self._trained, self.config)
        return memory_report(
            self.module,
            self.ema.target,
            self.optimizer,
            lambda: again(batch, self.ema.target, step, False),
            self.accelerator.device,
        )

    def finish(self, *, save: bool) -> WorldModel:
        """The model as it is, whole; with `save` also as `model` in the run's folder."""
        self.accelerator.wait_for_everyone()
        model = whole_model(self.model) if self.config.train.shard else self.model
        if save and self.accelerator.is_main_process:
            save_model(model.float(), self.folder, {"recipe": plain(asdict(self.config)), "data": self.data.notes})
        return model


def save_model(model: WorldModel, run: Path, extra: dict[str, Any]) -> None:
    """Write `run/model` beside and rename it: a kill leaves no half model."""
    final, draft, old = run / "model", run / ".writing-model", run / ".removing-model"
    for path in (draft, old):
        shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(draft, extra=extra)
    if final.exists():
        final.rename(old)
    draft.rename(final)
    shutil.rmtree(old, ignore_errors=True)
