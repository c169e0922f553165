"""What a training step, an encoding and a plan cost at named sizes: milliseconds, model evaluations, utilisation.

Model-FLOP utilisation is the FLOPs of the model's matrix products, convolutions and attention (counted by
`torch.utils.flop_counter` while the operation runs once, without what a fused attention's gradient computes again),
per second, over those of a large matrix product in the same precision, measured in the same run.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jepa_actions.config import load_config
from jepa_actions.data import ActionBounds, ActionCodec, Batch
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.models import ARCHITECTURES, WorldModel, WorldModelConfig
from jepa_actions.nn import compile_blocks
from jepa_actions.objectives import MaskedConfig
from jepa_actions.planning import CEM, PRESETS, CEMConfig, LatentCost, PlannerPreset, Problem
from jepa_actions.resources import recipe_path
from jepa_actions.training import DataConfig, Ema, ObjectivesConfig, TrainConfig, TrainingModule
from jepa_actions.training.flops import (
    FLOPS_NOTE,
    ModelFlops,
    Precision,
    eagerly,
    matrix_product_rate,
    seconds_of,
)
from jepa_actions.training.optimizer import make_optimizer

DEFAULT_SIZES = ("laptop", "vit_small", "vit_base")


@dataclass(frozen=True)
class Size:
    """A model, the recipe it is trained with, and how it is planned with."""

    config: TrainConfig
    planner: PlannerPreset
    batch: dict[str, int]  # clips per training step, by device type
    action: tuple[tuple[float, ...], tuple[float, ...]]  # bounds of a raw action


@dataclass(frozen=True)
class Row:
    """One operation at one size."""

    size: str
    what: str
    batch: int
    milliseconds: float  # median over the repeats
    evaluations: int  # clips encoded under masks or trained on, frames encoded, or model steps imagined
    flops: int
    peak_mb: float | None  # of the device's memory, on CUDA


def latency_size(name: str) -> Size:
    """A named size.

    `laptop` is the TwoRoom recipe; `vit_*` are masked pretraining on 16 frames at 224 as V-JEPA 2 does it, planned with
    by the default pooled dynamics; `ac` is V-JEPA 2-AC as published, trained on a frozen encoder.

    Raises:
        ConfigError: for another name.
    """
    planner = PlannerPreset(CEMConfig(), LatentCost(), horizon=5, execute=1)
    seven = ((-1.0,) * 7, (1.0,) * 7)
    if name == "laptop":
        config = load_config(TrainConfig, ["--config", str(recipe_path("vjepa/two_room"))], prog="latency")
        clips = config.train.batch_size
        return Size(config, planner, {"cpu": clips, "cuda": clips}, ((-2.0,) * 2, (2.0,) * 2))
    if name == "ac":
        argv = ["--config", str(recipe_path("vjepa/droid_ac")), "--preset", "gpu", "--data.path", "noise"]
        config = load_config(TrainConfig, [*argv, "--data.block", "1"], prog="latency")
        published = PRESETS["vjepa2_ac"]
        assert published.low is not None
        assert published.high is not None
        return Size(config, published, {"cpu": 1, "cuda": 8}, (published.low, published.high))
    if f"{name}_16_224" in ARCHITECTURES or name == "vit_large":
        form = ARCHITECTURES["vit_large_16_256" if name == "vit_large" else f"{name}_16_224"]
        model = WorldModelConfig(encoder=replace(form.encoder, image_size=(224, 224)), predictor=form.predictor)
        masked = MaskedConfig(kinds=("short", "long"), split=False)
        config = TrainConfig(
            data=DataConfig(path="noise", frames=16), model=model, objectives=ObjectivesConfig(masked=masked)
        )
        return Size(config, planner, {"cpu": 2, "cuda": 24}, seven)
    raise ConfigError(f"sizes: expected some of laptop, vit_tiny, vit_small, vit_base, vit_large, ac, found {name!r}")


def measure_latency(
    sizes: dict[str, Size],
    device: torch.device,
    *,
    repeats: int = 5,
    precision: Precision | None = None,
    compiled: bool = False,
    batch: int | None = None,
) -> dict[str, Any]:
    """Measure every size.

    Args:
        sizes: by the name they have in the report, see `latency_size`.
        device: the CPU or a CUDA device.
        repeats: timed runs of each operation, after one to warm up and one that is counted.
        precision: None is bf16 (autocast) on CUDA and float32 on a CPU.
        compiled: with `torch.compile` on every transformer block.
        batch: clips per training step, in place of the size's own.

    Returns:
        a report for JSON; `metrics` are flat, `{size}_{operation}_{ms | evaluations | gflop | mfu}`.

    Raises:
        ConfigError: for a device that is not there, or fewer than one repeat.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: found cuda, but torch sees no CUDA device here; expected cpu")
    if repeats < 1 or (batch is not None and batch < 1):
        raise ConfigError(f"repeats {repeats} and batch {batch}: expected at least 1")
    began = time.perf_counter()
    precision = precision or ("bf16" if device.type == "cuda" else "float32")
    peak = matrix_product_rate(device, precision)
    rows: list[Row] = []
    for name, size in sizes.items():
        rows += measure_size(name, size, device, repeats, precision, compiled, batch)
    metrics = {"matrix_product_tflops": peak / 1e12}
    for row in rows:
        key = f"{row.size}_{row.what}"
        metrics |= {
            f"{key}_ms": row.milliseconds,
            f"{key}_evaluations": row.evaluations,
            f"{key}_gflop": row.flops / 1e9,
            f"{key}_mfu": row.flops / (row.milliseconds / 1e3) / peak,
        }
        if row.peak_mb is not None:
            metrics[f"{key}_peak_mb"] = row.peak_mb
    return {
        "metrics": metrics,
        "rows": [vars(row) for row in rows],
        "precision": precision,
        "compiled": compiled,
        "flops": FLOPS_NOTE,
        "repeats": repeats,
        "hardware": hardware(device),
        "seconds_total": time.perf_counter() - began,
        "commit": commit(),
    }


def latency_table(report: dict[str, Any]) -> str:
    """The report as text."""
    metrics = report["metrics"]
    lines = [
        f"{report['precision']}, matrix product {metrics['matrix_product_tflops']:.3g} TFLOP/s",
        f"{'size':10} {'operation':9} {'batch':>5} {'ms':>10} {'evaluations':>11} {'GFLOP':>10} {'MFU':>6}  peak MB",
    ]
    for row in report["rows"]:
        key, memory = f"{row['size']}_{row['what']}", "" if row["peak_mb"] is None else f"{row['peak_mb']:8.0f}"
        lines.append(
            f"{row['size']:10} {row['what']:9} {row['batch']:5} {row['milliseconds']:10.1f} {row['evaluations']:11} "
            f"{row['flops'] / 1e9:10.4g} {metrics[f'{key}_mfu']:6.1%}  {memory}".rstrip()
        )
    return "\n".join(lines)


def measure_size(
    name: str,
    size: Size,
    device: torch.device,
    repeats: int,
    precision: Precision = "float32",
    compiled: bool = False,
    batch: int | None = None,
) -> list[Row]:
    """The encoding of one clip, a plan from one frame to another, and a training step, in this order: the optimiser's
    memory comes last."""
    config, count = size.config, size.batch[device.type] if batch is None else batch
    torch.manual_seed(0)
    model = WorldModel(config.model, _codec(size)).to(device).eval()
    if compiled:
        compile_blocks(model)
    given = _noise(model, count, config.data.frames, device)
    clip = model.images({camera: frames[:1] for camera, frames in given.frames.items()})[config.model.cameras[0]]
    rows = []
    with torch.no_grad(), autocast(device, precision):
        rows.append(_measure(lambda: model.encoder(clip), device, repeats, compiled))
        rows.append(_measure(lambda: _plan(model, size.planner, given, device), device, repeats, compiled))
    rows.append(_measure(_training_step(model, config, given, precision), device, repeats, compiled))
    labels = (("encode", 1, clip.shape[1]), ("plan", 1, _evaluations(size.planner)), ("train", count, count))
    return [
        Row(name, what, clips, seconds * 1e3, evaluations, flops, peak)
        for (what, clips, evaluations), (seconds, flops, peak) in zip(labels, rows, strict=True)
    ]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """bf16 where it is asked for, as `train.mixed_precision` does."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _measure(
    run: Callable[[], object], device: torch.device, repeats: int, compiled: bool
) -> tuple[float, int, float | None]:
    """Median seconds, FLOPs, and on CUDA the peak of memory in MB."""
    run()
    with eagerly() if compiled else nullcontext(), ModelFlops() as counter:
        run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(seconds_of(run, device) for _ in range(repeats))
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return seconds, counter.total(), peak


def _training_step(model: WorldModel, config: TrainConfig, batch: Batch, precision: Precision) -> Callable[[], object]:
    """Loss, gradient, clipping, AdamW and EMA, as `training.train` has them."""
    if config.train.freeze_encoder:
        model.encoder.requires_grad_(False)
    module, optim = TrainingModule(model, config).train(), config.train
    ema, optimizer = Ema(model, optim.ema, optim.ema_final, optim.steps), make_optimizer(model, config)
    device = batch.frame.device

    def step() -> None:
        with autocast(device, precision):
            loss, _ = module(batch, ema.target, 0, 0, False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(0)

    return step


def _plan(model: WorldModel, planner: PlannerPreset, batch: Batch, device: torch.device) -> Tensor:
    """One decision: the present frame and the goal are encoded, then CEM searches."""
    pictures = {camera: frames[:1, :1] for camera, frames in batch.frames.items()}
    proprio = () if batch.proprio is None else (batch.proprio[:1, :1],)
    context = model.encode(pictures, *proprio)
    goal = model.goal({camera: frames[:1, -1] for camera, frames in batch.frames.items()})
    problem = Problem(model, context, goal, planner.cost, planner.horizon, [0], device=device)
    return CEM(planner.cem)(problem).actions


def _evaluations(planner: PlannerPreset) -> int:
    cem = planner.cem
    return planner.horizon * (cem.samples * cem.iterations + (cem.returns == "mean"))


def _codec(size: Size) -> ActionCodec:
    low, high = size.action
    zero, one = np.zeros(len(low), np.float32), np.ones(len(low), np.float32)
    names = tuple(f"a{i}" for i in range(len(low)))
    return ActionCodec(names, size.config.data.block, zero, one, ActionBounds("box", low=low, high=high))


def _noise(model: WorldModel, count: int, frames: int, device: torch.device) -> Batch:
    """A batch of noise in the form that the model takes."""
    height, width = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    shape = (count, frames, 3, height, width)
    pictures: Sequence[Tensor] = [
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in model.config.cameras
    ]
    proprio = model.config.dynamics.proprio
    batch = Batch(
        frames=dict(zip(model.config.cameras, pictures, strict=True)),
        episode=torch.arange(count),
        frame=torch.arange(frames).repeat(count, 1),
        actions=0.1 * torch.randn(count, frames - 1, model.action_dim, generator=generator),
        action_mask=torch.ones(count, frames - 1, dtype=torch.bool),
        provenance=torch.zeros(count, frames - 1, dtype=torch.int64),
        proprio=torch.randn(count, frames, proprio, generator=generator) if proprio else None,
    )
    return batch.to(device)
