"""One of several processes of a test of sharded training: `python sharded_worker.py OUT`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from tiny_world import ALL_TERMS, TINY, tiny_recipe
from torch.distributed.tensor import DTensor

from jepa_actions.models import DistanceConfig, EncoderConfig
from jepa_actions.objectives import ForwardConfig, MaskedConfig, TemporalDistanceConfig
from jepa_actions.training import TrainConfig, train
from jepa_actions.training.sharded import placed, whole

STEPS = 6


def recipe(out: Path, name: str, **optim: Any) -> TrainConfig:
    """Masked, forward, inverse, SIGReg and a distance, whose multiplier is a scalar."""
    terms = replace(
        ALL_TERMS,
        masked=MaskedConfig(),
        forward=ForwardConfig(target="ema"),
        distance=TemporalDistanceConfig(pairs=64),
    )
    settings = {"steps": STEPS, "log_every": 1, "checkpoint_every": 3, "lr": 3e-4} | optim
    encoder = EncoderConfig(image_size=(64, 64), patch=16, width=24, depth=2, heads=2)
    model = {"encoder": encoder, "distance": DistanceConfig(width=24, depth=1, directed=8, symmetric=4)}
    data = {"scene_clips": 2, "scenes": "episode"}
    assert TINY.predictor.depth == 1
    return replace(tiny_recipe(out, terms, model=model, data=data, **settings), name=name)


def main(out: Path) -> None:
    train(recipe(out, "sharded", shard=True), quiet=True)
    train(recipe(out, "stopped", shard=True), stop_after=3, quiet=True)
    train(recipe(out, "stopped", shard=True), resume=True, quiet=True)
    AcceleratorState._reset_state()  # it keeps the precision of the first run in a process
    memory = {"mixed_precision": "bf16", "gradient_checkpointing": True, "steps": 3, "log_every": 1}
    train(recipe(out, "bf16", shard=True, **memory), quiet=True)
    train(recipe(out, "plain_bf16", **memory), quiet=True)
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    rows = torch.arange(10.0).view(5, 2)
    parted = dist.tensor.distribute_tensor(rows, mesh, [dist.tensor.Shard(0)])
    again = placed(rows * 2, parted)
    found = {
        "local": parted.to_local().shape[0],
        "whole": whole(parted).tolist(),
        "again": whole(again).tolist(),
        "is_shard": isinstance(again, DTensor),
    }
    (out / f"rank-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
