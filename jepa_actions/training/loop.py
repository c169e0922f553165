"""The one training loop: every recipe is data, a model and a weighted list of objectives for it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from jepa_actions.models import WorldModel
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.processes import batch_line
from jepa_actions.training.resume import Resume
from jepa_actions.training.run import Run
from jepa_actions.training.run_folder import locked, plain, prepare_folder, refuse_to_overwrite
from jepa_actions.training.schedules import learning_rate
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
        start_tracker(accelerator, config, plain(asdict(config)))
        training = Run(config, run, accelerator)
        start = 0 if asked is None else training.resume(asked)
        if accelerator.is_main_process:
            prepare_folder(run, config, start)
        end = config.train.steps if stop_after is None else min(stop_after, config.train.steps)
        watch = Watch(run, config, accelerator, start=start, end=end, on_log=on_log, quiet=quiet, clock=clock)
        training.prepare(watch.clock.lap)
        watch.say(batch_line(config, accelerator.num_processes))
        _steps(training, watch, start, end, rate or partial(learning_rate, config=config.train))
        model = training.finish(save=end == config.train.steps)
        if config.tracker is not None:
            accelerator.end_training()
        return model.eval()


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


def _steps(run: Run, watch: Watch, start: int, end: int, rate: Callable[[int], float]) -> None:
    """The steps from `start` to `end`, each logged and saved where it is due."""
    optim, lap = run.config.train, watch.clock.lap
    with StopRequest(run.accelerator).listening() as stop, watch:
        for step, batch in zip(range(start, end), watch.batches(run.loader.prefetch(start, end)), strict=True):
            last = step + 1 == end
            logged = last or (step + 1) % optim.log_every == 0
            measured = logged or watch.measures(step)
            batch = batch.to(run.accelerator.device)
            lap("move")
            if watch.flops.wants_copy:
                watch.flops.known(run.flops(batch, step))
            with watch.counting(measured):
                values = run.gradients(batch, step, measured)
            lr = rate(step)
            norm = run.update(step, lr)
            watch.add({**values, "grad_norm": norm}, logged=logged)
            lap("log")
            told = stop()
            if logged or told:
                watch.log(lr)
                lap("row")
            due = optim.checkpoint_every and (last or (step + 1) % optim.checkpoint_every == 0)
            if due or told:
                run.save(step + 1)
                lap("checkpoint")
            if told:
                run.accelerator.wait_for_everyone()
                raise TerminatedError(
                    f"{run.folder}: ended by SIGTERM, saved at step {step + 1}: --resume {run.folder} goes on"
                )
    if watch.clock.wants_memory:
        watch.clock.memory = run.memory(batch, end)
