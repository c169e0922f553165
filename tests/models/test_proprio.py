"""A world model whose dynamics reads proprio: the planning protocol, its errors, its saving."""

import copy

import numpy as np
import pytest
import torch
from tiny_world import random_frames, tiny_world

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.models import DynamicsConfig, PoolerConfig, RolloutConfig, WorldModel, frame_block
from jepa_actions.models.frame_block import FrameBlock

PROPRIO = 3
CODEC = ActionCodec(
    ("x", "yaw"),
    2,
    np.array([0.5, 0.0], np.float32),
    np.array([2.0, 0.5], np.float32),
    ActionBounds("box", low=(-3.0, -1.0), high=(3.0, 1.0)),
    source="proprio_difference",
    columns=(0, 2),
    angles=(1,),
)
KINDS = [
    {"kind": "ac"},
    {"kind": "transformer", "conditioning": "adaln", "history": 2},
    {"kind": "transformer", "history": 2},
]


def world(codec=CODEC, **dynamics) -> WorldModel:
    settings = {"kind": "ac", "width": 24, "depth": 2, "heads": 2, "proprio": PROPRIO, **dynamics}
    model = tiny_world(codec, pooler=PoolerConfig(kind="patches", dim=24), dynamics=DynamicsConfig(**settings))
    with torch.no_grad():
        for parameter in model.dynamics.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def inputs(problems=2, frames=2, candidates=3, horizon=4):
    generator = torch.Generator().manual_seed(0)
    return (
        random_frames(problems, frames, 3, 16, 16),
        torch.randn(problems, frames, PROPRIO, generator=generator),
        torch.randn(problems, frames - 1, CODEC.action_dim, generator=generator),
        torch.randn(problems, candidates, horizon, CODEC.action_dim, generator=generator),
    )


@pytest.mark.parametrize("settings", KINDS)
def test_proprio_is_integrated_along_a_rollout(settings):
    model = world(**settings)
    frames, proprio, past, actions = inputs()
    with torch.no_grad():
        found = model.rollout(model.encode(frames, proprio, past), actions).z
        z = model.encode_frames({"image": frames})
        cache = model.dynamics.start(z[:, :1], past, proprio[:, :1])
        for p in range(2):
            for s in range(3):
                pose, path = proprio[p, 1], []
                for action in actions[p, s]:
                    path.append(pose)
                    pose = model.codec.integrate(pose, action)
                own = type(cache)(tuple(type(k)(k.key[p : p + 1], k.value[p : p + 1]) for k in cache.layers), 1)
                one = model.dynamics.rollout(z[p : p + 1, 1], actions[p : p + 1, s], own, torch.stack(path)[None])
                torch.testing.assert_close(found[p, s], one[0], rtol=1e-4, atol=1e-4)


def test_where_actions_are_commands_proprio_is_held():
    commands = ActionCodec(("a", "b"), 2, CODEC.mean, CODEC.std, CODEC.bounds)
    proprio = torch.randn(2, PROPRIO)
    path = world(commands).proprio_path(proprio, torch.randn(2, 5, 4))
    assert torch.equal(path, proprio[:, None].expand(-1, 5, -1))


def test_proprio_changes_what_is_imagined_and_a_model_without_it_looks_at_none():
    frames, proprio, past, actions = inputs()
    for reads in (PROPRIO, 0):
        model = world(proprio=reads)
        one, other = (model.rollout(model.encode(frames, p, past), actions).z for p in (proprio, proprio + 1))
        assert torch.equal(one, other) == (reads == 0)


@pytest.mark.parametrize(
    ("proprio", "found"), [(None, "none"), (torch.zeros(2, 2, 4), r"\(2, 2, 4\)"), (torch.zeros(2, 3), r"\(2, 3\)")]
)
def test_proprio_that_is_missing_or_of_another_width_is_named(proprio, found):
    frames, _, past, _ = inputs()
    with pytest.raises(
        ShapeError, match=rf"^proprio: expected \(2, 2, 3\), the proprio of every frame, found {found}$"
    ):
        world().encode(frames, proprio, past)


def test_extrinsics_are_not_for_a_world_model():
    with pytest.raises(ConfigError, match=r"dynamics\.extrinsics 6: .* expected 0"):
        world(extrinsics=6)


def test_patches_are_needed_for_the_ac_predictor():
    with pytest.raises(ConfigError, match=r"dynamics\.kind ac needs the patches"):
        tiny_world(CODEC, dynamics=DynamicsConfig(kind="ac", width=24, heads=2))


def test_latents_are_layer_normed_where_asked_for():
    frames = {"image": random_frames(2, 3, 3, 16, 16)}
    plain, normed = (
        tiny_world(pooler=PoolerConfig(kind="patches", dim=16, normalise=n)).encode_frames(frames)
        for n in (False, True)
    )
    torch.testing.assert_close(normed, torch.nn.functional.layer_norm(plain, (16,)))
    assert not torch.allclose(normed, plain, atol=1e-2)
    with pytest.raises(ConfigError, match=r"pooler\.normalise is for pooler\.kind patches, found kind attention"):
        PoolerConfig(normalise=True)


def test_saved_and_loaded_it_imagines_the_same(tmp_path):
    model, (frames, proprio, past, actions) = world(normalise=True), inputs()
    model.save_pretrained(tmp_path / "model")
    again = WorldModel.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    one, other = (m.rollout(m.encode(frames, proprio, past), actions).z for m in (model, again))
    assert torch.equal(one, other)


@pytest.mark.parametrize("settings", KINDS)
def test_bf16_is_a_setting_of_rollouts_and_rounds(settings, tmp_path):
    model, (frames, proprio, past, actions) = world(**settings), inputs()
    model.save_pretrained(tmp_path / "model")
    rounded = WorldModel.from_pretrained(tmp_path / "model", rollout=RolloutConfig(precision="bf16"))
    with torch.no_grad():
        context = rounded.encode(frames, proprio, past)
        assert context.cache.layers[0].key.dtype == torch.bfloat16
        exact, found = (m.rollout(m.encode(frames, proprio, past), actions).z for m in (model, rounded))
    assert found.dtype == torch.float32
    error = (found - exact).abs().mean() / exact.abs().mean()
    assert 1e-5 < error < 0.05


def test_a_compiled_rollout_leaves_training_and_copies_alone(monkeypatch):
    """What is compiled is counted, not compiled: the real thing takes half a minute (the slow test below)."""
    calls = []

    def counted(block, *rest):
        calls.append(block)
        return FrameBlock.project(block, *rest)

    monkeypatch.setattr(frame_block, "_compiled_halves", lambda: (counted, FrameBlock.finish))
    model, (frames, proprio, past, actions) = world(), inputs()
    with torch.no_grad():
        expected = model.rollout(model.encode(frames, proprio, past), actions).z
        assert not calls
        model.dynamics.compile_rollouts()
        twin = copy.deepcopy(model)
        assert torch.equal(twin.rollout(twin.encode(frames, proprio, past), actions).z, expected)
    assert set(map(id, calls)) == set(map(id, twin.dynamics.blocks))
    calls.clear()
    model.rollout(model.encode(frames, proprio, past), actions)
    assert not calls  # a gradient is recorded


@pytest.mark.slow
@pytest.mark.parametrize("settings", KINDS)
def test_a_compiled_rollout_is_the_same(settings):
    model, (frames, proprio, past, actions) = world(**settings), inputs()
    with torch.no_grad():
        expected = model.rollout(model.encode(frames, proprio, past), actions).z
        model.dynamics.compile_rollouts()
        found = model.rollout(model.encode(frames, proprio, past), actions).z
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [*KINDS, {"kind": "mlp", "history": 3, "proprio": 0}, {"kind": "mlp", "proprio": 0}]
)
def test_branches_that_advance_step_by_step_are_a_rollout(settings):
    """Who decides on the way imagines every step once, and sees what it has left behind."""
    model = world(**settings)
    frames, proprio, past, actions = inputs()
    given = (proprio,) if settings.get("proprio", PROPRIO) else (None,)
    with torch.no_grad():
        context = model.encode(frames, *given, past)
        rollout, present = model.rollout(context, actions), model.branch(context, 3)
        assert torch.equal(present.before, context.before.repeat_interleave(3, 0))
        for step in range(4):
            last, present = present, model.advance(present, actions[:, :, step].flatten(0, 1))
            torch.testing.assert_close(present.z.unflatten(0, (2, 3)), rollout.z[:, :, step], rtol=1e-4, atol=1e-4)
            assert present.before is last.z
        if context.proprio is not None:
            path = model.proprio_path(context.proprio[:, None].expand(-1, 3, -1), actions)
            expected = CODEC.integrate(path[:, :, -1], actions[:, :, -1]).flatten(0, 1)
            torch.testing.assert_close(present.proprio, expected)
