"""The one training loop: every recipe is data, a model and a weighted list of objectives for it."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed

from jepa_actions.models import WorldModel
from jepa_actions.nn import compile_blocks, set_gradient_checkpointing
from jepa_actions.training.build import build_model
from jepa_actions.training.checkpoint import save_checkpoint, training_tensors
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema
from jepa_actions.training.facts import data_facts, machine_facts, model_facts
from jepa_actions.training.flops import flops_of_copy
from jepa_actions.training.loaders import make_loader
from jepa_actions.training.memory import memory_report
from jepa_actions.training.module import TrainingModule, check_finite
from jepa_actions.training.optimizer import make_optimizer
from jepa_actions.training.processes import GlobalStep, batch_facts, batch_line, check_processes, clip_gradients
from jepa_actions.training.resume import (
    Resume,
    check_same,
    fill_training,
    find_checkpoint,
    not_exact,
    read_state,
    set_aside,
)
from jepa_actions.training.run_folder import locked, plain, prepare_folder, refuse_to_overwrite
from jepa_actions.training.schedules import learning_rate
from jepa_actions.training.sharded import shard_training, whole_model
from jepa_actions.training.sources import open_data
from jepa_actions.training.step_clock import StepClock
from jepa_actions.training.stop import StopRequest, TerminatedError
from jepa_actions.training.trackers import check_tracker, start_tracker
from jepa_actions.training.watch import Watch


def train(
    config: TrainConfig,
    *,
    resume: Resume | bool = False,
    restart: bool = False,
    stop_after: int | None = None,
    on_log: Callable[[int, dict[str, float]], None] | None = None,
    quiet: bool = False,
    clock: StepClock | None = None,
    rate: Callable[[int], float] | None = None,
) -> WorldModel:
    """Train a recipe and return the model; the run's folder holds config, metrics, checkpoints and the saved model.

    The same configuration, thread count and process count give bit-identical weights on a CPU, whether or not the run
    was interrupted, at whatever moment: data, masks and schedules are functions of (seed, step).

    Args:
        config: the recipe.
        resume: continue from the newest checkpoint in the run's folder, or as `Resume` says.
        restart: take away what an older run of this name left, and begin again.
        stop_after: leave after this many steps in all, with a checkpoint, before the schedule is over.
        on_log: called with the step and the mean of each logged value.
        quiet: no progress line.
        clock: one that the caller reads, too.
        rate: the learning rate at a step, in place of the recipe's schedule.

    Raises:
        ConfigError: for a recipe that does not fit its data, a folder that has a run already, or one that is in use.
        CheckpointError: for a run that cannot be resumed, or a checkpoint that cannot be written.
        NonFiniteLossError: naming the term, step and clips.
        TerminatedError: after SIGTERM, when the step has been finished and saved.
    """
    asked = (resume if isinstance(resume, Resume) else Resume()) if resume else None
    accelerator = make_accelerator(config)
    run = Path(config.out) / config.name
    with locked(run) if accelerator.is_main_process else nullcontext():
        if asked is None and not restart:
            refuse_to_overwrite(run)
        watching = partial(Watch, run, config, accelerator, on_log=on_log, quiet=quiet, clock=clock)
        rate = rate or partial(learning_rate, config=config.train)
        return _train(config, run, accelerator, asked, stop_after, watching, rate)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Devices, processes, precision and tracker of a recipe. Raises: ConfigError for a tracker that is not
    installed."""
    check_tracker(config.tracker)
    return Accelerator(
        mixed_precision=config.train.mixed_precision,
        log_with=config.tracker,
        project_dir=str(Path(config.out) / config.name),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def _train(
    config: TrainConfig,
    run: Path,
    accelerator: Accelerator,
    asked: Resume | None,
    stop_after: int | None,
    watching: Callable[..., Watch],
    rate: Callable[[int], float],
) -> WorldModel:
    optim = config.train
    check_processes(config, accelerator)
    start_tracker(accelerator, config, plain(asdict(config)))
    set_seed(config.seed)
    data = open_data(config.data, config.model.image_size, config.model.cameras)
    model = build_model(config, data).to(getattr(torch, optim.dtype))
    loader = make_loader(config, data, model, rank=accelerator.process_index, world_size=accelerator.num_processes)
    module = TrainingModule(model.to(accelerator.device), config)
    ema = Ema(model, optim.ema, optim.ema_final, optim.steps)
    ema.target.to(accelerator.device)
    optimizer = make_optimizer(model, config)
    facts: dict[str, Any] = {"machine": machine_facts(accelerator), "data": data_facts(data)}
    facts["model"] = model_facts(model, data)
    facts["machine"] |= {"parts": optim.accumulate, "sharded": optim.shard}
    facts["batch"] = batch_facts(config, accelerator.num_processes)
    start = 0 if asked is None else _continue(run, config, asked, facts, model, ema, optimizer, accelerator)
    if accelerator.is_main_process:
        prepare_folder(run, config, start)
    set_gradient_checkpointing(model, optim.gradient_checkpointing)
    if optim.compile:
        for part in (model, ema.target):
            compile_blocks(part)
    if optim.shard:
        optimizer = shard_training(module, ema, optimizer, accelerator.device)
    trained = module if optim.shard else accelerator.prepare(module)
    end = optim.steps if stop_after is None else min(stop_after, optim.steps)
    watch = watching(start=start, end=end)
    lap, flops = watch.clock.lap, watch.flops
    module.lap = lap
    global_step = GlobalStep(accelerator, trained, config, lap)
    watch.say(batch_line(config, accelerator.num_processes))
    module.train()
    for name in optim.freeze:  # running statistics, too, stay as they are
        getattr(model, name).eval()
    with StopRequest(accelerator).listening() as stop, watch:
        for step, batch in zip(range(start, end), watch.batches(loader.prefetch(start, end)), strict=True):
            log_now = (step + 1) % optim.log_every == 0 or step + 1 == end
            measured = log_now or watch.measures(step)
            batch = batch.to(accelerator.device)
            lap("move")
            if flops.wants_copy:
                take = partial(GlobalStep, accelerator, config=config)
                flops.known(flops_of_copy(module, lambda twin: take(twin)(batch, ema.target, step, False)))  # noqa: B023
            optimizer.zero_grad(set_to_none=True)
            with watch.counting(measured):
                loss, logs = global_step(batch, ema.target, step, measured)
            check_finite(loss, logs, step, batch)
            lr = rate(step)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["scale"]
            lap("other")
            norm = clip_gradients(accelerator, model, optim.clip)
            lap("clip")
            optimizer.step()
            lap("optimiser")
            ema.update(step)
            lap("ema")
            watch.add({"loss": loss.detach(), "grad_norm": norm, **logs}, logged=log_now)
            lap("log")
            told = stop()
            if log_now or told:
                watch.log(lr)
                lap("row")
            due = optim.checkpoint_every and ((step + 1) % optim.checkpoint_every == 0 or step + 1 == end)
            main = accelerator.is_main_process
            if (due or told) and (main or optim.shard):  # shards are gathered from every process
                tensors = training_tensors(model, ema, optimizer, keep=main)
                if main:
                    save_checkpoint(run, step + 1, config, tensors, optim.keep_checkpoints, facts)
                lap("checkpoint")
            if told:
                accelerator.wait_for_everyone()
                raise TerminatedError(f"{run}: ended by SIGTERM, saved at step {step + 1}: --resume {run} goes on")
    if watch.clock.wants_memory:
        again = GlobalStep(accelerator, trained, config)
        watch.clock.memory = memory_report(
            module, ema.target, optimizer, lambda: again(batch, ema.target, end, False), accelerator.device
        )
    accelerator.wait_for_everyone()
    if optim.shard:
        model = whole_model(model)
    if accelerator.is_main_process and end == optim.steps:
        _save_model(model.float(), run, {"recipe": plain(asdict(config)), "data": data.notes})
    if config.tracker is not None:
        accelerator.end_training()
    return model.eval()


def _continue(
    run: Path,
    config: TrainConfig,
    asked: Resume,
    facts: dict[str, Any],
    model: WorldModel,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
) -> int:
    """Fill everything from a checkpoint and return the step to go on with; what is not exact is said, and kept in
    `facts`."""
    folder = find_checkpoint(run, asked.step)
    if folder is None:
        accelerator.print(f"{run}: it was ended before its first checkpoint, so it begins again at step 0")
        return 0
    state = read_state(folder)
    changed = check_same(folder, state, config, facts["data"], allow_changes=asked.allow_changes)
    fill_training(folder, model, ema, optimizer)
    start = int(state["step"])
    elsewhere = not_exact(state, facts["machine"])
    notes = [f"other weights than an uninterrupted run: {text}" for text in changed]
    notes += [f"equal to an uninterrupted run up to rounding: {text}" for text in elsewhere]
    facts["notes"] = [*state.get("notes", ()), *(f"resumed at step {start}, {note}" for note in notes)]
    for note in notes:
        accelerator.print(f"{run}, resumed at step {start}: {note}")
    if accelerator.is_main_process:
        for place in set_aside(run, start):
            accelerator.print(f"{run}: {place.name} is of a later step and was moved to {place.parent}")
    return start


def _save_model(model: WorldModel, run: Path, extra: dict[str, Any]) -> None:
    """Write `run/model` beside and rename it: a kill leaves no half model."""
    final, draft, old = run / "model", run / ".writing-model", run / ".removing-model"
    for path in (draft, old):
        shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(draft, extra=extra)
    if final.exists():
        final.rename(old)
    draft.rename(final)
    shutil.rmtree(old, ignore_errors=True)
