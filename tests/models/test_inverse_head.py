import pytest
import torch
from tiny_world import tiny_batch, tiny_codec, tiny_world

from jepa_actions.errors import ConfigError
from jepa_actions.models import InverseConfig, InverseHead, MotionConfig, PoolerConfig
from jepa_actions.nn import Categorical, Gaussian

MOTION = InverseConfig(kind="motion", motion=MotionConfig(radius=1, pool=(2, 2), match_dim=16, hidden=16, scene=4))
HEADS = {
    "mlp": {"inverse": InverseConfig(width=24, max_gap=3)},
    "categorical": {"inverse": InverseConfig(width=24, distribution="categorical", bins=5)},
    "motion": {"inverse": MOTION, "pooler": PoolerConfig(kind="patches", dim=24)},
}


def pair(model):
    z = model.encode_frames(tiny_batch(b=3, t=2).frames)
    return z[:, 0], z[:, 1], torch.ones(3, dtype=torch.int64)


@pytest.mark.parametrize("name", HEADS)
def test_the_gradient_reaches_the_head_and_the_encoder(name):
    model = tiny_world(**HEADS[name]).train()
    z, later, gap = pair(model)
    model.inverse(z, later, gap).loss(torch.ones(3, 2)).mean().backward()
    for part in (model.encoder.patch_embed.proj, model.encoder.blocks[0].attn.qkv):
        assert float(part.weight.grad.norm()) > 1e-8
    without = [name for name, p in model.inverse.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize("name", HEADS)
def test_both_states_count(name):
    model = tiny_world(**HEADS[name])
    torch.nn.init.normal_((model.inverse.trunk.fc2 if name == "motion" else model.inverse.trunk.out).weight)
    z, later, gap = pair(model)
    mean = model.inverse(z, later, gap).mean
    for other in (model.inverse(z.roll(1, 0), later, gap), model.inverse(z, later.roll(1, 0), gap)):
        assert not torch.allclose(other.mean, mean, atol=1e-4)


def test_the_mlp_is_told_how_many_steps_lie_between():
    model = tiny_world(**HEADS["mlp"])
    torch.nn.init.normal_(model.inverse.trunk.out.weight)
    z, later, gap = pair(model)
    assert not torch.allclose(model.inverse(z, later, gap).mean, model.inverse(z, later, gap * 3).mean, atol=1e-3)


def test_distributions_are_those_asked_for():
    gaussian, categorical = (tiny_world(**HEADS[name]) for name in ("mlp", "categorical"))
    assert isinstance(gaussian.inverse(*pair(gaussian)), Gaussian)
    q = categorical.inverse(*pair(categorical))
    assert isinstance(q, Categorical)
    assert q.logits.shape == (3, 2, 5)
    bounds = tiny_codec().model_bounds
    assert torch.equal(q.centres[:, 0], bounds.low)
    assert torch.equal(q.centres[:, -1], bounds.high)
    torch.testing.assert_close(q.centres.diff(dim=1), ((bounds.high - bounds.low) / 4)[:, None].expand(2, 4))


def test_a_small_change_on_a_large_standing_scene_is_read_at_once():
    """The direction of the change at full size is what lets a head learn before the encoder exaggerates motion."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    head = InverseHead(InverseConfig(width=32), latents=1, dim=16, codec=tiny_codec())
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    way = torch.randn(2, 16, generator=generator)

    def draw():
        action = torch.randn(128, 2, generator=generator)
        scene = torch.randn(128, 1, 16, generator=generator)
        return action, scene, scene + 1e-3 * (action @ way)[:, None]

    for _ in range(120):
        action, before, after = draw()
        optimizer.zero_grad()
        head(before, after, torch.ones(128, dtype=torch.int64)).loss(action).mean().backward()
        optimizer.step()
    action, before, after = draw()
    with torch.no_grad():
        error = (head(before, after, torch.ones(128, dtype=torch.int64)).mean - action).square().sum()
    assert float(1 - error / action.square().sum()) > 0.4


@pytest.mark.parametrize(
    "wrong", [{"distribution": "categorical"}, {"max_gap": 2}], ids=["categorical", "several steps"]
)
def test_motion_says_what_it_cannot_do(wrong):
    with pytest.raises(ConfigError, match="kind motion needs distribution gaussian and max_gap 1"):
        InverseConfig(kind="motion", **wrong)


def test_motion_needs_patches():
    with pytest.raises(ConfigError, match=r"pooler.kind patches\): expected 16, found 1"):
        tiny_world(inverse=MOTION)


def test_motion_cells_must_fit_the_grid():
    with pytest.raises(ConfigError, match=r"inverse.motion.pool: found \(5, 1\), expected at most the patch grid"):
        tiny_world(
            inverse=InverseConfig(kind="motion", motion=MotionConfig(pool=(5, 1))),
            pooler=PoolerConfig(kind="patches", dim=24),
        )
