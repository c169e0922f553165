"""One step over processes, and over the parts that each works through: what they compute together is what one would.

The global batch is cut into `processes x train.accumulate` equal parts. Every draw is made for the global batch, every
mean divides by its counts, and the mean over parts is the loss; DDP takes it over processes, this file over parts. So
gradient, clipping, EMA and learning rate are one process's, up to the rounding of sums in another order.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from jepa_actions.data import Batch
from jepa_actions.errors import ConfigError
from jepa_actions.nn import Share, process_of, set_share, sum_over_processes
from jepa_actions.objectives import TargetEncoder
from jepa_actions.objectives.global_batch import global_batch
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.sharded import average_whole_gradients, clip_shards


class GlobalStep:
    """Forward and backward pass of a step: leaves the global batch's gradients in the weights.

    Args:
        accelerator: of this process.
        trained: the `TrainingModule`, as `accelerator.prepare` gave it back, or sharded.
        config: the recipe.
        lap: told that a part of the step, `forward` or `backward`, has just been done.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        trained: nn.Module,
        config: TrainConfig,
        lap: Callable[[str], None] = lambda part: None,
    ) -> None:
        self.accelerator, self.trained, self.lap = accelerator, trained, lap
        self.seed, self.parts = config.seed, config.train.accumulate

    def __call__(
        self, batch: Batch, target: TargetEncoder | None, step: int, measure: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logs of the global batch, on every process the same.

        Args:
            batch: this process's clips, on its device.
            target: the EMA copy.
            step: from 0; with the seed, all that draws depend on.
            measure: whether to take the collapse meters; with several parts they look at the first of each process.
        """
        rank, processes = process_of()
        whole, size = global_batch(batch), batch.batch_size // self.parts
        sums: dict[str, Tensor] = {}
        for i in range(self.parts):
            share = Share(rank * self.parts + i, processes * self.parts)
            part = rows_of(batch, slice(i * size, (i + 1) * size))
            set_share(self.trained, share)
            torch.manual_seed(self.seed * 1_000_003 + step)  # for layers that draw on their own: all parts' rows
            with self._synchronised(i + 1 == self.parts):
                with self.accelerator.autocast():
                    loss, logs = self.trained(part, target, step, self.seed, measure and i == 0, share, whole)
                self.lap("forward")
                self.accelerator.backward(loss if self.parts == 1 else loss / self.parts)
                self.lap("backward")
            for name, value in {"loss": loss.detach(), **logs}.items():
                meter = name.startswith(("z/", "target/"))
                value = value if self.parts == 1 or meter else value.to(torch.float64) / self.parts
                sums[name] = sums[name] + value if name in sums else value
        if isinstance(self.trained, FSDPModule):
            average_whole_gradients(self.trained)
        means = mean_over_processes(sums, self.accelerator.device)
        return means.pop("loss"), means

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients meet those of the other processes once, after the last part."""
        if isinstance(self.trained, FSDPModule):
            self.trained.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(self.trained)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """The batch of these clips alone."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item[rows] for key, item in value.items()}
        return None if value is None else value[rows]

    if rows == slice(0, batch.batch_size):
        return batch
    return replace(batch, **{field.name: cut(getattr(batch, field.name)) for field in fields(batch)})


def mean_over_processes(values: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The mean of every process's values, in float64, in one message; the values as they are where there is one."""
    processes = process_of()[1]
    if processes == 1:
        return values
    together = torch.stack([value.detach().to(device, torch.float64) for value in values.values()])
    return dict(zip(values, sum_over_processes(together) / processes, strict=True))


def clip_gradients(accelerator: Accelerator, model: nn.Module, largest: float) -> Tensor:
    """Scale the gradients of the global batch to a norm of at most `largest`; returns the norm that they had."""
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return clip_shards(model, largest)
    return torch.as_tensor(accelerator.clip_grad_norm_(model.parameters(), largest))


def check_batch(config: TrainConfig, processes: int) -> None:
    """Refuse a batch that processes and parts cannot share equally, saying which sizes they can.

    Raises: ConfigError.
    """
    optim, scene = config.train, max(1, config.data.scene_clips)
    if optim.accumulate < 1:
        raise ConfigError(f"train.accumulate: found {optim.accumulate}, expected at least 1")
    unit = processes * optim.accumulate * scene
    if optim.batch_size % unit == 0 and optim.batch_size > 0:
        return
    below = optim.batch_size // unit * unit
    sizes = f"{below} or {below + unit}" if below else str(unit)
    scenes = f" x {scene} clips per scene" if scene > 1 else ""
    raise ConfigError(
        f"train.batch_size: found {optim.batch_size}, expected a multiple of {unit} ({processes} processes x "
        f"{optim.accumulate} parts{scenes}), such as {sizes}"
    )


def check_accumulation(config: TrainConfig) -> None:
    """Refuse `train.accumulate` where a part cannot know what the loss needs of the whole batch.

    Raises:
        ConfigError: naming the objective and why.
    """
    if config.train.accumulate == 1:
        return
    reason = _needs_whole_batch(config)
    if reason is not None:
        raise ConfigError(
            f"train.accumulate {config.train.accumulate}: {reason}; expected 1, more processes, or a smaller "
            "train.batch_size"
        )


MEANS_OVER_CLIPS = ("masked", "forward", "inverse", "temporal_similarity", "goal_inverse")  # what parts can add up
WHOLE = {
    "sigreg": "compares the distribution of the whole batch's latents with a normal one",
    "vicreg": "takes variances and covariances of the whole batch's latents",
    "distance": "follows a quantile over the steps of the whole batch (model.distance's reach)",
    "subgoal": "divides by the sum of its steps' weights over the whole batch",
    "features": "standardises by running statistics that follow the whole batch first",
}


def _needs_whole_batch(config: TrainConfig) -> str | None:
    """The first reason why a step of this recipe cannot be taken in parts, if there is one."""
    terms = config.objectives
    active = [field.name for field in fields(terms) if getattr(terms, field.name) is not None]
    for name in active:
        if name not in MEANS_OVER_CLIPS:
            return f"objectives.{name} {WHOLE.get(name, 'may look at the whole batch')}"
    if terms.masked is not None and terms.masked.spread > 0.0:
        return "objectives.masked.spread takes variances and covariances of the whole batch's tokens"
    if terms.goal_inverse is not None and terms.goal_inverse.stitched > 0.0:
        return (
            "objectives.goal_inverse.stitched divides by the sum of its steps' weights over the whole batch "
            "(0, hindsight alone, does not)"
        )
    pooler = config.model.pooler
    if pooler.kind != "patches" and "pooler" not in config.train.freeze and set(active) - {"masked"}:
        return (
            f"model.pooler {pooler.kind} standardises latents by statistics of the whole batch, for "
            f"objectives.{next(name for name in active if name != 'masked')}; model.pooler.kind patches does not, nor "
            "does a frozen pooler (train.freeze)"
        )
    return None


def batch_facts(config: TrainConfig, processes: int) -> dict[str, int]:
    """The effective batch and how it is shared, for a run's state."""
    parts = config.train.accumulate
    size = config.train.batch_size
    return {"clips": size, "processes": processes, "parts": parts, "clips_per_part": size // (processes * parts)}


def batch_line(config: TrainConfig, processes: int) -> str:
    """The effective batch in a line."""
    facts = batch_facts(config, processes)
    return (
        f"batch of {facts['clips']} clips of {config.data.frames} frames: {processes} "
        f"{'process' if processes == 1 else 'processes'} x {facts['parts']} "
        f"{'part' if facts['parts'] == 1 else 'parts'} x {facts['clips_per_part']} clips"
    )


def check_processes(config: TrainConfig, accelerator: Accelerator) -> None:
    """Refuse what would not be one process's step; accelerate's own FSDP too, on a CPU DDP without a word.

    Raises:
        ConfigError: for a batch that the processes and parts cannot share equally, a recipe that is not exact in
            parts, or another launcher than plain processes.
    """
    check_batch(config, accelerator.num_processes)
    check_accumulation(config)
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"accelerate launch: found {accelerator.distributed_type.value}, expected plain processes (MULTI_GPU or "
            "none); weights are sharded by train.shard true"
        )
