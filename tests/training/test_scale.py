"""What is worked out for large hardware, against what is counted on a small model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_world import TINY, tiny_batch

from jepa_actions.errors import ConfigError
from jepa_actions.models import EncoderConfig, PredictorConfig, WorldModel
from jepa_actions.objectives import MaskedConfig, SigRegConfig
from jepa_actions.training import DataConfig, Ema, ObjectivesConfig, OptimConfig, TrainConfig, TrainingModule
from jepa_actions.training.flops import ModelFlops
from jepa_actions.training.memory import LivingBytes
from jepa_actions.training.scale import estimate

MODEL = replace(
    TINY,
    encoder=EncoderConfig(image_size=(64, 64), patch=8, tubelet=2, width=96, depth=3, heads=3),
    predictor=PredictorConfig(width=48, depth=2, heads=2),
)
CONFIG = TrainConfig(
    data=DataConfig(path="none", frames=8),
    model=MODEL,
    objectives=ObjectivesConfig(masked=MaskedConfig(split=False, kinds=("short", "long"))),
    train=OptimConfig(steps=1000, batch_size=8),
)


def counted(config: TrainConfig) -> tuple[float, float]:
    """FLOPs and kept bytes of a clip, of real steps."""
    torch.manual_seed(0)
    model = WorldModel(config.model).train()
    module, ema = TrainingModule(model, config), Ema(model, 0.9, 0.9, 10)
    batch = tiny_batch(b=8, t=config.data.frames, size=64)
    flops, kept = 0.0, 0.0
    for step in range(4):
        with LivingBytes() as living:
            loss, _ = module(batch, ema.target, step, 0, False)
            kept += living.now / 4 / batch.batch_size
        with ModelFlops() as counter:
            loss, _ = module(batch, ema.target, step, 0, False)
            loss.backward()
        flops += counter.total() / 4 / batch.batch_size
    return flops, kept


@pytest.mark.parametrize("packed", [False, True])
def test_flops_and_memory_of_a_clip_are_those_of_a_real_step(packed):
    masked = MaskedConfig(split=False, kinds=("short", "long"), packed=packed)
    config = replace(CONFIG, objectives=ObjectivesConfig(masked=masked))
    flops, kept = counted(config)
    found = estimate(config, devices=1)
    assert found.clip_flops == pytest.approx(flops, rel=0.1)
    assert found.activations_per_clip == pytest.approx(kept, rel=0.25)
    model = WorldModel(MODEL)
    assert found.parameters == sum(p.numel() for part in (model.encoder, model.predictor) for p in part.parameters())


def test_sharding_checkpointing_and_parts_count():
    plain = estimate(CONFIG, devices=4)
    sharded = estimate(replace(CONFIG, train=replace(CONFIG.train, shard=True)), devices=4)
    again = estimate(replace(CONFIG, train=replace(CONFIG.train, gradient_checkpointing=True)), devices=4)
    parts = estimate(replace(CONFIG, train=replace(CONFIG.train, accumulate=2)), devices=4)
    assert sharded.states == plain.states / 4
    assert again.activations_per_clip < 0.6 * plain.activations_per_clip  # of three blocks, one is whole at a time
    assert plain.days < again.days < 4 / 3 * plain.days
    assert (plain.clips, parts.clips) == (2, 1)
    assert parts.days == plain.days
    assert estimate(CONFIG, devices=8).days == pytest.approx(plain.days / 2)
    assert estimate(CONFIG, "a100", devices=4).days == pytest.approx(plain.days * 989 / 312)


def test_what_it_cannot_tell_is_refused():
    with pytest.raises(ConfigError, match=r"expected one of h100, a100, found 'abacus'"):
        estimate(CONFIG, "abacus")
    with pytest.raises(ConfigError, match=r"batch_size 8: expected a multiple of 3"):
        estimate(CONFIG, devices=3)
    with pytest.raises(ConfigError, match=r"objectives\.masked alone"):
        estimate(replace(CONFIG, objectives=replace(CONFIG.objectives, sigreg=SigRegConfig())))
