import numpy as np
import pytest
import torch
from tiny_world import tiny_batch, tiny_codec, tiny_world

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.errors import ConfigError
from jepa_actions.models import InverseConfig, InverseHead, MotionConfig, PoolerConfig
from jepa_actions.nn import Categorical, Gaussian, Mixed, OneHots

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


def mixed_codec(classes=(0, 3), block=2):
    names = tuple(f"a{k}" for k in range(len(classes)))
    high = tuple(float(k - 1) if k else 2.0 for k in classes)
    low = tuple(0.0 if k else -2.0 for k in classes)
    ones = np.ones(len(classes), np.float32)
    return ActionCodec(names, block, 0 * ones, ones, ActionBounds("box", low=low, high=high), classes=classes)


@pytest.mark.parametrize(("distribution", "numbers"), [("gaussian", Gaussian), ("categorical", Categorical)])
def test_a_mixed_codec_has_numbers_and_classes(distribution, numbers):
    codec = mixed_codec()
    config = InverseConfig(width=24, distribution=distribution, bins=5)
    model = tiny_world(codec, inverse=config)
    q = model.inverse(*pair(model))
    assert isinstance(q, Mixed)
    assert isinstance(q.rest, numbers)
    assert q.mean.shape == (3, codec.action_dim) == (3, 8)
    torch.testing.assert_close(q.mean[:, 1:4].sum(-1), torch.ones(3))
    sample = q.sample(torch.Generator().manual_seed(0))
    assert torch.equal(codec.encode(codec.decode(sample))[:, [1, 2, 3, 5, 6, 7]], sample[:, [1, 2, 3, 5, 6, 7]])
    q.loss(codec.encode(torch.zeros(3, 2, 2))).mean().backward()
    assert not [name for name, p in model.inverse.named_parameters() if p.grad is None]
    discrete = tiny_world(mixed_codec((4, 2)), inverse=config)
    assert isinstance(discrete.inverse(*pair(discrete)), OneHots)


def test_a_mixed_head_learns_and_beats_the_majority_class():
    """The change of z tells dx and, by its sign, one of three classes of which one is chosen in half of the steps."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    codec = mixed_codec(block=1)
    head = InverseHead(InverseConfig(width=48), latents=1, dim=8, codec=codec)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    ways = torch.randn(4, 8, generator=generator)

    def draw(count):
        dx = torch.randn(count, generator=generator)
        label = torch.multinomial(torch.tensor([0.5, 0.25, 0.25]), count, True, generator=generator)
        before = torch.randn(count, 1, 8, generator=generator)
        change = torch.stack([dx, *(label == k for k in range(3))], dim=-1).float() @ ways
        action = codec.encode(torch.stack([dx, label.float()], dim=-1)[:, None])
        return before, before + 0.05 * change[:, None], torch.ones(count, dtype=torch.int64), action

    for _ in range(150):
        *states, action = draw(128)
        optimizer.zero_grad()
        head(*states).loss(action).mean().backward()
        optimizer.step()
    *states, action = draw(2000)
    with torch.no_grad():
        q = head(*states)
    assert float(q.correct(action).float().mean()) > 0.9, "the majority class alone gives 0.5"
    error = (q.mean[:, 0] - action[:, 0]).square().mean() / action[:, 0].var()
    assert float(error) < 0.2
    raw = codec.decode(q.mean)
    assert float((raw[:, 0, 1] == codec.decode(action)[:, 0, 1]).float().mean()) > 0.9


def test_motion_refuses_classes():
    with pytest.raises(ConfigError, match=r"kind motion: found discrete actions \(a1\), expected numbers"):
        tiny_world(mixed_codec(), **HEADS["motion"])
