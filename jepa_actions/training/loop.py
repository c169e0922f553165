"""The one training loop: every recipe is data, a model and a weighted list of objectives for it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor, nn
from tqdm import tqdm

from jepa_actions.data import Batch, VideoDataset
from jepa_actions.errors import ConfigError, JepaActionsError
from jepa_actions.models import WorldModel
from jepa_actions.nn import compile_blocks, set_gradient_checkpointing
from jepa_actions.objectives import (
    Features,
    Forward,
    GoalInverseObjective,
    Inverse,
    Masked,
    Objective,
    SigReg,
    SubgoalObjective,
    TargetEncoder,
    TemporalDistanceObjective,
    TemporalSimilarity,
    VicReg,
    Views,
)
from jepa_actions.training.checkpoint import load_checkpoint, save_checkpoint
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.ema import Ema
from jepa_actions.training.loaders import make_loader
from jepa_actions.training.meters import spread
from jepa_actions.training.schedules import active, learning_rate
from jepa_actions.training.sources import OpenData, open_data
from jepa_actions.training.start import GIVEN, start_model

OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "masked": Masked,
    "forward": Forward,
    "inverse": Inverse,
    "sigreg": SigReg,
    "vicreg": VicReg,
    "temporal_similarity": TemporalSimilarity,
    "distance": TemporalDistanceObjective,
    "goal_inverse": GoalInverseObjective,
    "subgoal": SubgoalObjective,
    "features": Features,
}
NEEDS_ACTIONS = ("forward", "inverse", "goal_inverse")


class NonFiniteLossError(JepaActionsError):
    """A loss became infinite or NaN; the message names the term, the step and the clips."""


class TrainingModule(nn.Module):
    """Model and objectives as one module whose forward is the total loss, so that DDP sees every use of a weight."""

    def __init__(self, model: WorldModel, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.terms: dict[str, tuple[Any, Objective]] = {}
        for name, build in OBJECTIVES.items():
            term = getattr(config.objectives, name)
            if term is not None:
                self.terms[name] = (term, build(term))
        if not self.terms:
            raise ConfigError("objectives: at least one term is needed, found none")
        self.steps = config.train.steps

    def forward(
        self, batch: Batch, target: TargetEncoder | None, step: int, seed: int, measure: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the active terms, and their logs as `term/name`; with `measure`, also the collapse meters."""
        views = Views(self.model, batch, target)
        total: Tensor | None = None
        logs: dict[str, Tensor] = {}
        for position, (name, (term, objective)) in enumerate(self.terms.items()):
            if not active(term.start, term.stop, step, self.steps):
                continue
            generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 17 + position)
            loss, details = objective(self.model, views, generator)
            logs[f"{name}/total"] = loss.detach()
            logs.update({f"{name}/{key}": value for key, value in details.items()})
            total = term.weight * loss if total is None else total + term.weight * loss
        if total is None:
            raise ConfigError(f"objectives: no term is active at step {step} (see start and stop)")
        if measure:
            logs.update(self._meters(views))
        return total, logs

    @torch.no_grad()
    def _meters(self, views: Views) -> dict[str, Tensor]:
        parts = (self.model.encoder, self.model.pooler)
        if not any(weight.requires_grad for part in parts for weight in part.parameters()):
            return {}  # frozen latents are what they are
        if "z" not in views.__dict__:  # no objective used z: measuring it must not move the pooler's running statistics
            self.model.pooler.eval()
            _ = views.z
            self.model.pooler.train(self.training)
        meters = {f"z/{key}": value for key, value in spread(views.z.detach().flatten(0, -2)).items()}
        if views.target is not None and "masked" in self.terms and len(views.clips):
            tokens = views.target_tokens(views.clips[:8]).flatten(0, 1)
            meters.update({f"target/{key}": value for key, value in spread(tokens).items()})
        return {key: torch.tensor(value) for key, value in meters.items()}


def build_model(config: TrainConfig, data: OpenData) -> WorldModel:
    """A new model for the recipe and its data, with the weights of `init` where one is given.

    Raises:
        ConfigError: for an objective that needs actions where there are none or an encoder that is not frozen,
            proprio that the data does not have, or an `init` of another architecture.
    """
    if config.model.backbone is not None and config.objectives.masked is not None:
        raise ConfigError(
            f"objectives.masked: model.backbone ({config.model.backbone.name}) is a frozen encoder of single frames, "
            "which has no masked pretraining; set objectives.masked to null"
        )
    if data.codec is None:
        for name in NEEDS_ACTIONS:
            if getattr(config.objectives, name) is not None:
                reason = "data.labels is false" if not config.data.labels else f"{data.dataset.name} has no actions"
                raise ConfigError(f"objectives.{name} needs actions, but {reason}")
    _check_proprio(config.model.dynamics.proprio, data.dataset)
    freeze = config.train.freeze
    if freeze and not config.train.freeze_encoder:
        raise ConfigError(f"train.freeze {', '.join(freeze)}: expected train.freeze_encoder true with it")
    random = [part for part in freeze if part in GIVEN and part not in config.init_parts]
    if random:
        raise ConfigError(f"train.freeze {', '.join(random)}: not part of init_parts, so it would stay as it was drawn")
    model = start_model(config.model, data.codec, config.init, freeze, config.init_parts)
    for part in ("encoder", *freeze) if config.train.freeze_encoder else ():
        frozen = getattr(model, part)
        if frozen is None:
            raise ConfigError(f"train.freeze: this model has no {part}")
        frozen.requires_grad_(False)
    return model


def _check_proprio(wanted: int, dataset: VideoDataset) -> None:
    """The dynamics reads the proprio that the data has, or none."""
    names = dataset.proprio_names or ()
    if wanted not in (0, len(names)):
        raise ConfigError(
            f"model.dynamics.proprio is {wanted}, but {dataset.name} has {len(names)}"
            f"{': ' + ', '.join(names) if names else ''}"
        )


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
        accelerator.init_trackers(config.name, config=_plain(asdict(config)))

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
        _prepare_folder(run, config, start)
    set_gradient_checkpointing(model, optim.gradient_checkpointing)
    if optim.compile:
        for part in (model, ema.target):
            compile_blocks(part)
    trained = accelerator.prepare(module)
    end = optim.steps if stop_after is None else min(stop_after, optim.steps)

    meters = _Meters(run / "metrics.jsonl", accelerator, on_log)
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
        _check_finite(loss, logs, step, batch)
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
        model.save_pretrained(run / "model", extra={"recipe": _plain(asdict(config)), "data": data.notes})
    if config.tracker is not None:
        accelerator.end_training()
    return model.eval()


class _Meters:
    """Means of the logged values since the last line of `metrics.jsonl`."""

    def __init__(
        self, path: Path, accelerator: Accelerator, on_log: Callable[[int, dict[str, float]], None] | None
    ) -> None:
        self.path, self.accelerator, self.on_log = path, accelerator, on_log
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.since = time.perf_counter()

    def add(self, values: dict[str, Tensor]) -> None:
        for key, value in values.items():
            value = value.detach().to(torch.float64)
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def flush(self, step: int, lr: float, batch_size: int) -> dict[str, str]:
        """Write one line; returns what the progress bar shows."""
        row = {key: float(total) / self.counts[key] for key, total in self.sums.items()}
        steps, now = self.counts["loss"], time.perf_counter()
        row |= {"lr": lr, "clips_per_second": steps * batch_size / (now - self.since)}
        self.sums, self.counts, self.since = {}, {}, now
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **row}) + "\n")
            self.accelerator.log(row, step=step)
            if self.on_log is not None:
                self.on_log(step, row)
        shown = ["loss", *(key for key in row if key.endswith("/total")), "z/rank"]
        return {key.removesuffix("/total"): f"{row[key]:.3g}" for key in shown if key in row}


def _prepare_folder(run: Path, config: TrainConfig, start: int) -> None:
    """Write the recipe, and take away what belongs to no step before `start`: rows of steps that will be done again,
    and, for a run that starts anew, the checkpoints of an older one, which a later resume would take for its own."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))
    metrics, kept = run / "metrics.jsonl", []
    for line in metrics.read_text().splitlines() if start and metrics.is_file() else []:
        try:
            step = json.loads(line)["step"]
        except json.JSONDecodeError:  # a kill while writing
            break
        if step > start:
            break
        kept.append(line + "\n")
    metrics.write_text("".join(kept))
    if not start:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)


def make_optimizer(model: WorldModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW without weight decay on biases, norms, tokens and embeddings; heads at `head_lr` times the rate."""
    optim = config.train
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, parameter in learned:
        matrix = parameter.dim() >= 2 and not any(word in name for word in ("mask_tokens", "queries", "slots", "gap"))
        scale = (
            optim.head_lr
            if name.startswith(("dynamics.", "inverse.", "distance.", "goal_inverse.", "subgoal."))
            else 1.0
        )
        groups.setdefault((optim.weight_decay if matrix else 0.0, scale), []).append(parameter)
    listed = [{"params": members, "weight_decay": decay, "scale": scale} for (decay, scale), members in groups.items()]
    return torch.optim.AdamW(listed, lr=optim.lr, betas=optim.betas, fused=True)


def _check_finite(loss: Tensor, logs: dict[str, Tensor], step: int, batch: Batch) -> None:
    if bool(torch.isfinite(loss)):
        return
    terms = [key for key, value in logs.items() if not bool(torch.isfinite(value).all())]
    clips = [f"{int(e)}:{int(f)}" for e, f in zip(batch.episode[:8], batch.frame[:8, 0], strict=True)]
    raise NonFiniteLossError(
        f"step {step}: the loss is {float(loss.detach())}; terms not finite: {', '.join(terms) or 'none alone'}; "
        f"clips (episode:first frame): {', '.join(clips)}{' ...' if batch.batch_size > 8 else ''}"
    )


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML and trackers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
