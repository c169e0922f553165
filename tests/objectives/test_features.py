"""A latent state that must tell every patch's features keeps what no action moves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_world import tiny_batch, tiny_world

from jepa_actions.errors import ConfigError
from jepa_actions.models import FeatureHead, FeaturesConfig
from jepa_actions.nn import FlattenReadout, Share
from jepa_actions.objectives import Features, FeaturesLossConfig, Views
from jepa_actions.objectives.global_batch import GlobalBatch

PLACES, CHANNELS = 6, 8


def scenes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of frames with a large thing that moves and a faint one, a door, that stands somewhere, and the door."""
    numbers = torch.Generator().manual_seed(seed)
    look = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(1))
    mover, door = (torch.rand(count, generator=numbers) * 2 - 1 for _ in range(2))
    tokens = torch.zeros(count, PLACES, CHANNELS)
    tokens[:, 1] = 3.0 * mover[:, None] * look[0]
    tokens[:, 4] = 0.5 * door[:, None] * look[1]
    tokens += 0.1 * torch.randn(tokens.shape, generator=numbers)
    return tokens + 10.0 * torch.arange(PLACES)[:, None], door  # what is always there is large, and tells nothing


def fit(*, steps: int) -> tuple[FlattenReadout, FeatureHead, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    readout = FlattenReadout(CHANNELS, PLACES, 2, 32)
    head = FeatureHead(FeaturesConfig(width=32, rank=8), 1, 2, PLACES, CHANNELS)
    model = SimpleNamespace(features=head, config=SimpleNamespace(cameras=("image",)))
    optimizer = torch.optim.AdamW([*readout.parameters(), *head.parameters()], lr=5e-3)
    numbers = torch.Generator().manual_seed(0)
    logs: dict[str, torch.Tensor] = {}
    for step in range(steps):
        tokens, _ = scenes(128, seed=step)
        views = SimpleNamespace(
            batch=SimpleNamespace(z=None),
            whole=GlobalBatch(torch.ones(32, 4, dtype=torch.bool)),
            share=Share(),
            tokens={"image": tokens.unflatten(0, (32, 4))},
            z=readout(tokens).unflatten(0, (32, 4)),
        )
        loss, logs = Features(FeaturesLossConfig())(model, views, numbers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return readout.eval(), head.eval(), logs


def door_r2(readout: FlattenReadout) -> float:
    """How much of the door a linear probe reads off the state, on frames it was not fitted on."""
    with torch.no_grad():
        (fitted, door), (asked, true) = ((readout(t)[:, 0], d) for t, d in (scenes(512, 10_001), scenes(512, 10_002)))
    ones = torch.ones(512, 1)
    weights = torch.linalg.lstsq(torch.cat([fitted, ones], 1), door[:, None]).solution
    error = torch.cat([asked, ones], 1) @ weights - true[:, None]
    return float(1 - error.square().mean() / true.var())


def test_the_faint_door_is_in_the_state_once_features_are_asked_for():
    readout, _, logs = fit(steps=100)
    assert float(logs["explained"]) > 0.75
    assert door_r2(readout) > 0.9
    untrained, _, _ = fit(steps=1)
    assert door_r2(untrained) < 0.7, "else the test would pass without training"


def test_targets_weigh_what_varies_and_not_what_is_always_there():
    _, head, _ = fit(steps=100)
    tokens, _ = scenes(2000, seed=7)
    target = head.standardised(tokens)
    still, moving = target[:, [0, 2, 3, 5]], target[:, 1]
    assert float(still.var(0).mean()) < 0.05 * float(moving.var(0).mean()), "what is always there weighs nothing"
    assert float(target.var(0).mean()) == pytest.approx(1.0, abs=0.2)
    assert torch.equal(head.standardised(tokens[:1]), target[:1]), "in evaluation a target depends on its frame alone"


def test_what_is_missing_is_named():
    world, batch = tiny_world(), tiny_batch()
    with pytest.raises(ConfigError, match=r"needs model\.features, found null"):
        Features(FeaturesLossConfig())(world, Views(world, batch, None), torch.Generator())
    with pytest.raises(ConfigError, match="width 0 and rank 16"):
        FeaturesConfig(width=0)


def test_a_world_model_has_the_head_and_its_gradient_reaches_the_readout_but_not_the_target():
    world, batch = tiny_world(features=FeaturesConfig(width=16, rank=4)), tiny_batch()
    views = Views(world, batch, None)
    tokens = {camera: t.detach().requires_grad_() for camera, t in views.tokens.items()}
    views.__dict__["tokens"] = tokens
    views.__dict__["z"] = world.pooled({camera: t.detach() for camera, t in tokens.items()})
    loss, _ = Features(FeaturesLossConfig())(world, views, torch.Generator().manual_seed(0))
    loss.backward()
    assert all(t.grad is None for t in tokens.values())
    assert all(p.grad is not None for p in world.pooler.parameters() if p.requires_grad)
