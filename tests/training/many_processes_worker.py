"""Loss, logs and gradients of one step of every kind of recipe, of one process or of one of several.

Started with the variables that torchrun sets; `python many_processes_worker.py OUT` writes `OUT/rank-R.safetensors`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from safetensors.torch import save_file
from tiny_world import TINY, tiny_batch, tiny_codec
from torch import Tensor

from jepa_actions.data import Batch
from jepa_actions.models import (
    DistanceConfig,
    FeaturesConfig,
    InverseConfig,
    MotionConfig,
    PoolerConfig,
    SubgoalConfig,
    WorldModel,
)
from jepa_actions.objectives import (
    FeaturesLossConfig,
    ForwardConfig,
    GoalInverseLossConfig,
    InverseLossConfig,
    MaskedConfig,
    SigRegConfig,
    SubgoalLossConfig,
    TemporalDistanceConfig,
    TemporalSimilarityConfig,
    VicRegConfig,
)
from jepa_actions.objectives.augment import AugmentConfig
from jepa_actions.training import DataConfig, Ema, ObjectivesConfig, OptimConfig, TrainConfig, TrainingModule
from jepa_actions.training.processes import GlobalStep, rows_of

CAMERAS = ("front", "wrist")
CLIPS = 8
STEP = 3
KNOWN = torch.zeros(CLIPS, 3, dtype=torch.bool)  # most labels with the first process, one with the second
KNOWN[0], KNOWN[2, 1:], KNOWN[3, 0], KNOWN[6, 2] = True, True, True, True
REAL = torch.ones(CLIPS, 4, dtype=torch.bool)  # one whole clip in the first half
REAL[1, 3], REAL[2, 2:], REAL[3, 1:], REAL[6, 3] = False, False, False, False
POOLED = replace(
    TINY,
    cameras=CAMERAS,
    inverse=InverseConfig(width=24, max_gap=3),
    distance=DistanceConfig(width=24, depth=1, directed=8, symmetric=4),
    goal_inverse=InverseConfig(width=24, max_gap=8, history=2),
    subgoal=SubgoalConfig(width=24, depth=1),
    features=FeaturesConfig(width=24, rank=4),
)
PATCHES = replace(
    TINY,
    cameras=CAMERAS,
    pooler=PoolerConfig(kind="patches", dim=24),
    inverse=InverseConfig(kind="motion", motion=MotionConfig(hidden=16, dropout=0.5)),
)
NONE = ObjectivesConfig(masked=None)
AUGMENT = AugmentConfig(crop=0.6, mirror=True, reverse=True, colour=0.2)
HINDSIGHT = GoalInverseLossConfig(pairs=64, stitched=0.0, detach=False)
CASES: dict[str, tuple[Any, ObjectivesConfig]] = {
    "masked": (POOLED, ObjectivesConfig(masked=MaskedConfig(augment=AUGMENT))),
    "masked_spread": (POOLED, ObjectivesConfig(masked=MaskedConfig(spread=0.5, share=0.5))),
    "masked_packed": (POOLED, ObjectivesConfig(masked=MaskedConfig(packed=True, share=0.2))),
    "masked_unsplit": (POOLED, ObjectivesConfig(masked=MaskedConfig(split=False, kinds=("short", "long")))),
    "forward": (POOLED, replace(NONE, forward=ForwardConfig(target="ema"))),
    "forward_patches": (PATCHES, replace(NONE, forward=ForwardConfig())),
    "inverse": (POOLED, replace(NONE, inverse=InverseLossConfig())),
    "inverse_motion": (PATCHES, replace(NONE, inverse=InverseLossConfig())),
    "sigreg": (POOLED, replace(NONE, sigreg=SigRegConfig(directions=16))),
    "vicreg": (POOLED, replace(NONE, vicreg=VicRegConfig())),
    "temporal_similarity": (POOLED, replace(NONE, temporal_similarity=TemporalSimilarityConfig())),
    "similarity_patches": (PATCHES, replace(NONE, temporal_similarity=TemporalSimilarityConfig())),
    "distance": (POOLED, replace(NONE, distance=TemporalDistanceConfig(pairs=64, detach=False))),
    "goal_inverse": (POOLED, replace(NONE, goal_inverse=replace(HINDSIGHT, stitched=0.5))),
    "hindsight_patches": (
        replace(PATCHES, goal_inverse=InverseConfig(width=24, max_gap=8)),
        replace(NONE, goal_inverse=HINDSIGHT),
    ),
    "subgoal": (POOLED, replace(NONE, subgoal=SubgoalLossConfig(pairs=64))),
    "features": (POOLED, replace(NONE, features=FeaturesLossConfig(frames=9))),
}


def whole_batch() -> Batch:
    """Eight clips of two cameras and two scenes, some padded, few labelled, and neither evenly."""
    batch = tiny_batch(b=CLIPS, known=KNOWN & REAL[:, 1:], cameras=CAMERAS)
    return replace(batch, frame_mask=REAL, scene=torch.arange(CLIPS) // 4)


def recipe(case: str, **optim: Any) -> TrainConfig:
    model, objectives = CASES[case]
    settings = OptimConfig(**({"steps": 10, "batch_size": CLIPS, "dtype": "float64"} | optim))
    return TrainConfig(data=DataConfig(path="none"), model=model, objectives=objectives, train=settings)


def one_step(case: str, **optim: Any) -> dict[str, Tensor]:
    """Loss, logs, gradients and running statistics of a step on this process's part of the batch."""
    config = recipe(case, **optim)
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    torch.manual_seed(0)
    model = WorldModel(config.model, tiny_codec()).to(getattr(torch, config.train.dtype)).train()
    for parameter in model.parameters():  # nothing that hides an error because it begins at zero
        torch.nn.init.normal_(parameter, std=0.2) if not parameter.any() else None
    module, ema = TrainingModule(model, config).train(), Ema(model, 0.9, 0.9, 10)
    part, size = accelerator.process_index, CLIPS // accelerator.num_processes
    batch = rows_of(whole_batch(), slice(part * size, (part + 1) * size))
    loss, logs = GlobalStep(accelerator, accelerator.prepare(module), config)(batch, ema.target, STEP, True)
    found = {"loss": loss, **{f"log {name}": value for name, value in logs.items()}}
    found |= {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    found |= {f"buffer {name}": b for name, b in model.named_buffers() if "standardise" in name or "reach" in name}
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def main(out: Path) -> None:
    found = {f"{case} | {name}": value for case in CASES for name, value in one_step(case).items()}
    for case in ("masked", "forward_patches", "inverse_motion", "similarity_patches", "hindsight_patches"):
        found |= {f"{case} in parts | {name}": value for name, value in one_step(case, accumulate=2).items()}
    save_file(found, out / f"rank-{dist.get_rank()}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
