"""The one training loop: every recipe is data, a model and a weighted list of objectives for it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from tqdm import tqdm

from jepa_actions.models import WorldModel
from jepa_actions.nn import compile_blocks, set_gradient_checkpointing
from jepa_actions.training.build import build_model
from jepa_actions.training.checkpoint import load_checkpoint, save_checkpoint
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema
from jepa_actions.training.loaders import make_loader
from jepa_actions.training.metric_log import MetricLog
from jepa_actions.training.module import TrainingModule, check_finite
from jepa_actions.training.optimizer import make_optimizer
from jepa_actions.training.run_folder import plain, prepare_folder
from jepa_actions.training.schedules import learning_rate
from jepa_actions.training.sources import open_data


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    on_log: Callable[[int, dict[str, float]], None] | None = None,
    quiet: bool = False,
) -> WorldModel:
    """Train a recipe and return the model; the run's folder holds config, metrics, checkpoints and the saved model.

    The same configuration, thread count and process count give bit-identical weights on a CPU, whether or not the run
    was interrupted: data, masks and schedules are functions of (seed, step).

    Args:
        config: the recipe.
        resume: continue from the newest checkpoint in the run's folder.
        stop_after: leave after this many steps in all, with a checkpoint, before the schedule is over.
        on_log: called with the step and the mean of each logged value.
        quiet: no progress bar.

    Raises:
        ConfigError: for a recipe that does not fit its data.
        NonFiniteLossError: naming the term, step and clips.
    """
    optim = config.train
    accelerator = Accelerator(
        mixed_precision=optim.mixed_precision,
        log_with=config.tracker,
        project_dir=str(Path(config.out) / config.name),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    run = Path(config.out) / config.name
    if config.tracker is not None:
        accelerator.init_trackers(config.name, config=plain(asdict(config)))

    set_seed(config.seed)
    data = open_data(config.data, config.model.image_size, config.model.cameras)
    model = build_model(config, data)
    loader = make_loader(config, data, model, rank=accelerator.process_index, world_size=accelerator.num_processes)
    module = TrainingModule(model.to(accelerator.device), config)
    ema = Ema(model, optim.ema, optim.ema_final, optim.steps)
    ema.target.to(accelerator.device)
    optimizer = make_optimizer(model, config)
    start = load_checkpoint(run, config, model, ema, optimizer) if resume else 0
    if accelerator.is_main_process:
        prepare_folder(run, config, start)
    set_gradient_checkpointing(model, optim.gradient_checkpointing)
    if optim.compile:
        for part in (model, ema.target):
            compile_blocks(part)
    trained = accelerator.prepare(module)
    end = optim.steps if stop_after is None else min(stop_after, optim.steps)

    meters = MetricLog(run / "metrics.jsonl", accelerator, on_log)
    bar = tqdm(
        total=optim.steps,
        initial=start,
        disable=quiet or not accelerator.is_main_process,
        unit="step",
        desc=config.name,
    )
    module.train()
    for name in optim.freeze:  # running statistics, too, stay as they are
        getattr(model, name).eval()
    for step, batch in zip(range(start, end), loader.prefetch(start, end), strict=True):
        log_now = (step + 1) % optim.log_every == 0 or step + 1 == end
        torch.manual_seed(config.seed * 1_000_003 + step)  # for layers that draw on their own
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            loss, logs = trained(batch, ema.target, step, config.seed, log_now)
        check_finite(loss, logs, step, batch)
        lr = learning_rate(step, optim)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), optim.clip)
        optimizer.step()
        ema.update(step)
        meters.add({"loss": loss.detach(), "grad_norm": torch.as_tensor(norm), **logs})
        if log_now:
            bar.set_postfix(meters.flush(step + 1, lr, optim.batch_size), refresh=False)
        bar.update()
        due = optim.checkpoint_every and (step + 1) % optim.checkpoint_every == 0
        if accelerator.is_main_process and (due or (step + 1 == end and optim.checkpoint_every)):
            save_checkpoint(run, step + 1, config, model, ema, optimizer, optim.keep_checkpoints)
    bar.close()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and end == optim.steps:
        model.save_pretrained(run / "model", extra={"recipe": plain(asdict(config)), "data": data.notes})
    if config.tracker is not None:
        accelerator.end_training()
    return model.eval()
