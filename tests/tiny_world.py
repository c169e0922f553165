"""A world model, a batch and a recipe that take milliseconds: small enough for every test to make its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jepa_actions.data import ActionBounds, ActionCodec, Batch
from jepa_actions.models import (
    DynamicsConfig,
    EncoderConfig,
    InverseConfig,
    PoolerConfig,
    PredictorConfig,
    WorldModel,
    WorldModelConfig,
)
from jepa_actions.objectives import ForwardConfig, InverseLossConfig, SigRegConfig
from jepa_actions.training import ActionConfig, DataConfig, EnvConfig, ObjectivesConfig, OptimConfig, TrainConfig

TINY = WorldModelConfig(
    encoder=EncoderConfig(image_size=(16, 16), patch=4, width=24, depth=1, heads=2),
    pooler=PoolerConfig(dim=16, heads=2),
    predictor=PredictorConfig(width=24, depth=1, heads=2),
    dynamics=DynamicsConfig(width=24, depth=1),
    inverse=InverseConfig(width=24),
)


def tiny_codec(block: int = 1) -> ActionCodec:
    """Two raw dimensions with statistics that are neither 0 nor 1, in a box."""
    return ActionCodec(
        names=("dx", "dy"),
        block=block,
        mean=np.array([0.5, -0.25], np.float32),
        std=np.array([2.0, 0.5], np.float32),
        bounds=ActionBounds("box", low=(-3.0, -1.0), high=(3.0, 1.0)),
    )


def tiny_world(codec: ActionCodec | None = None, *, video_only: bool = False, **changes: Any) -> WorldModel:
    """A model in evaluation mode with the weights of seed 0; `changes` replace fields of `TINY`."""
    torch.manual_seed(0)
    return WorldModel(replace(TINY, **changes), None if video_only else codec or tiny_codec()).eval()


def random_frames(*shape: int, seed: int = 0) -> Tensor:
    """Noise, uint8."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def tiny_batch(
    b: int = 4, t: int = 4, *, known: Tensor | None = None, cameras: tuple[str, ...] = ("image",), size: int = 16
) -> Batch:
    """Noise frames with random actions of `tiny_codec()`; `known` (b, t-1) says where actions are."""
    known = torch.ones(b, t - 1, dtype=torch.bool) if known is None else known
    actions = torch.randn(b, t - 1, 2, generator=torch.Generator().manual_seed(1))
    return Batch(
        frames={camera: random_frames(b, t, 3, size, size, seed=i) for i, camera in enumerate(cameras)},
        episode=torch.arange(b),
        frame=torch.arange(t).repeat(b, 1),
        actions=actions.masked_fill(~known[..., None], 0.0),
        action_mask=known,
        provenance=torch.zeros(b, t - 1, dtype=torch.int64),
    )


ALL_TERMS = ObjectivesConfig(
    forward=ForwardConfig(), inverse=InverseLossConfig(weight=5.0), sigreg=SigRegConfig(directions=32)
)


def tiny_recipe(
    out: Path,
    objectives: ObjectivesConfig = ALL_TERMS,
    *,
    path: str = "env:two_room",
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **optim: Any,
) -> TrainConfig:
    """Two dozen short TwoRoom episodes at 64x64 in patches of 16; `optim` replaces fields of `train`."""
    encoder = EncoderConfig(image_size=(64, 64), patch=16, width=24, depth=1, heads=2)
    settings = {"steps": 20, "batch_size": 8, "log_every": 5, "checkpoint_every": 10, "lr": 2e-3} | optim
    clips = {"frames": 4, "block": 2, "action": ActionConfig(ball=True)} | (data or {})
    return TrainConfig(
        data=DataConfig(
            path=path, env=EnvConfig(episodes=24, steps=24, heldout_episodes=2, episodes_per_layout=4), **clips
        ),
        out=str(out),
        model=replace(TINY, **({"encoder": encoder} | (model or {}))),
        objectives=objectives,
        train=OptimConfig(**settings),
    )
