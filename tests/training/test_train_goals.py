"""Heads trained on a finished world model: what is frozen stays to the bit, and the rest learns from scenes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_world import random_frames, tiny_recipe

from jepa_actions.errors import ConfigError, DataError
from jepa_actions.models import BackboneConfig, DistanceConfig, InverseConfig, PoolerConfig, WorldModel
from jepa_actions.objectives import (
    ForwardConfig,
    GoalInverseLossConfig,
    InverseLossConfig,
    TemporalDistanceConfig,
)
from jepa_actions.training import ObjectivesConfig, TrainConfig, train

WORLD = ObjectivesConfig(masked=None, forward=ForwardConfig(), inverse=InverseLossConfig())
GOALS = ObjectivesConfig(
    masked=None,
    distance=TemporalDistanceConfig(pairs=64),
    goal_inverse=GoalInverseLossConfig(pairs=64, stitched=0.5, start=0.25),
)
HEADS = {"distance": DistanceConfig(width=16, depth=1), "goal_inverse": InverseConfig(width=16, max_gap=6)}
EVERYTHING = ("pooler", "predictor", "dynamics", "inverse")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished world model."""
    out = tmp_path_factory.mktemp("world")
    train(tiny_recipe(out, WORLD, steps=6), quiet=True)
    return out / "run" / "model"


def goals(
    out: Path, init: Path | None, objectives: ObjectivesConfig = GOALS, *, freeze=EVERYTHING, model=None, **data
) -> TrainConfig:
    clips = {"scene_clips": 4, "frames": 6} | data
    recipe = tiny_recipe(
        out,
        objectives,
        model=HEADS | (model or {}),
        data=clips,
        steps=8,
        log_every=1,
        checkpoint_every=4,
        freeze_encoder=True,
        freeze=freeze,
    )
    pushed = replace(recipe.data, env=replace(recipe.data.env, push=0.5))
    return replace(recipe, data=pushed, init=None if init is None else str(init))


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def parts_that_differ(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> set[str]:
    return {name.split(".")[0] for name in two if name not in one or not torch.equal(one[name], two[name])}


def test_what_is_frozen_stays_to_the_bit_and_the_rest_learns(world, tmp_path):
    train(goals(tmp_path, world), quiet=True)
    before = load_file(world / "model.safetensors")
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert parts_that_differ(before, after) == {"distance", "goal_inverse"}
    checkpoints = [
        load_file(tmp_path / "run" / "checkpoints" / f"step-000000{n}" / "model.safetensors") for n in (4, 8)
    ]
    assert parts_that_differ(*checkpoints) == {"distance", "goal_inverse"}
    assert not torch.equal(checkpoints[0]["distance.reach"], checkpoints[1]["distance.reach"])
    assert not torch.equal(checkpoints[0]["distance.multiplier"], checkpoints[1]["distance.multiplier"])


def test_the_model_has_the_codec_that_its_dynamics_know(world, tmp_path):
    """Pushes change the statistics of actions; frozen dynamics read those of their own data."""
    kept = train(goals(tmp_path / "kept", world), quiet=True)
    source = WorldModel.from_pretrained(world)
    np.testing.assert_array_equal(kept.codec.mean, source.codec.mean)
    np.testing.assert_array_equal(kept.codec.std, source.codec.std)
    fitted = train(goals(tmp_path / "fitted", world, freeze=("pooler",)), quiet=True)
    assert not np.array_equal(fitted.codec.mean, source.codec.mean)
    z = torch.randn(2, 1, source.dim)
    actions = torch.randn(2, 3, 2, kept.action_dim)
    context = kept.encode(random_frames(2, 1, 3, 64, 64))
    torch.testing.assert_close(kept.dynamics.imagine(z, actions), source.dynamics.imagine(z, actions))
    assert kept.goal_actions(context.z, z).mean.shape == (2, kept.action_dim)


def test_dynamics_that_are_not_frozen_go_on_learning_on_frozen_latents(world, tmp_path):
    objectives = replace(GOALS, forward=ForwardConfig(), inverse=InverseLossConfig())
    train(goals(tmp_path, world, objectives, freeze=("pooler", "predictor")), quiet=True)
    before = load_file(world / "model.safetensors")
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert parts_that_differ(before, after) == {"distance", "goal_inverse", "dynamics", "inverse"}


@pytest.mark.parametrize("stride", [1, 2])
def test_cached_latent_states_give_the_same_losses(world, tmp_path, stride):
    """Also where clips begin whole blocks apart, so that only every other frame is encoded."""
    objectives = replace(GOALS, forward=ForwardConfig(), inverse=InverseLossConfig())
    found = []
    for cache in ("none", "latents"):
        recipe = goals(tmp_path, world, objectives, freeze=("pooler", "predictor"), cache=cache, stride=stride)
        train(replace(recipe, name=cache), quiet=True)
        found.append([row["loss"] for row in rows(tmp_path / cache)])
    assert len(set(found[0])) == 8
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("cache", ["none", "latents"])
def test_a_run_resumes_exactly(world, tmp_path, cache):
    whole = replace(goals(tmp_path, world, cache=cache), name="whole")
    train(whole, quiet=True)
    stopped = replace(whole, name="stopped")
    train(stopped, quiet=True, stop_after=4)
    train(stopped, quiet=True, resume=True)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert one.keys() == two.keys()
    assert not parts_that_differ(one, two)
    untimed = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "stopped")]
    assert untimed[0] == untimed[1]


def test_terms_begin_where_their_schedule_says_and_log_what_they_say(world, tmp_path):
    train(goals(tmp_path, world), quiet=True)
    found = rows(tmp_path / "run")
    assert [("goal_inverse/total" in row) for row in found] == [False] * 2 + [True] * 6
    assert {"distance/pairs", "distance/steps", "distance/violation", "distance/multiplier"} <= set(found[0])
    assert {"goal_inverse/stitched", "goal_inverse/hindsight", "goal_inverse/weight"} <= set(found[-1])


def test_a_saved_model_answers_as_it_did(world, tmp_path):
    model = train(goals(tmp_path, world), quiet=True)
    loaded = WorldModel.from_pretrained(tmp_path / "run" / "model")
    frames = random_frames(2, 1, 3, 64, 64)
    for ask in (
        lambda m: m.temporal_distance(m.encode(frames).z, m.encode(frames.flip(0)).z),
        lambda m: m.goal_actions(m.encode(frames).z, m.encode(frames.flip(0)).z).mean,
        lambda m: m.distance.reach,
    ):
        assert torch.equal(ask(model), ask(loaded))


# -- what cannot be ----------------------------------------------------------------------------------------------------


def refused(recipe: TrainConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(recipe, quiet=True)


def test_freezing_more_needs_a_frozen_encoder(world, tmp_path):
    recipe = goals(tmp_path, world, freeze=("pooler",))
    loose = replace(recipe, train=replace(recipe.train, freeze_encoder=False))
    refused(loose, r"train\.freeze pooler: expected train\.freeze_encoder true with it")


@pytest.mark.parametrize("init", [None, "vjepa2:somewhere"])
def test_what_was_learned_must_come_from_a_model_folder(tmp_path, init):
    recipe = replace(goals(tmp_path, None, freeze=("dynamics",)), init=init)
    refused(recipe, rf"train\.freeze dynamics: found init {init}, expected a model folder with them")


def test_a_part_that_is_missing_there(world, tmp_path):
    refused(
        goals(tmp_path, world, freeze=("distance",)),
        r"init: model\.distance is None there, DistanceConfig\(width=16.* in the recipe, expected the same",
    )


def test_a_part_that_is_missing_here(world, tmp_path):
    hindsight = replace(GOALS, distance=None, goal_inverse=GoalInverseLossConfig(pairs=8, stitched=0.0))
    recipe = goals(tmp_path, world, hindsight, freeze=("distance",), model={"distance": None})
    refused(recipe, r"init: model\.distance is None there, None in the recipe")


def test_a_part_that_differs(world, tmp_path):
    recipe = goals(tmp_path, world, freeze=("inverse",), model={"inverse": InverseConfig(width=32)})
    refused(recipe, r"init: model\.inverse is .*width=24.* there, .*width=32.* in the recipe, expected the same")


def test_a_pooler_that_differs(world, tmp_path):
    recipe = goals(tmp_path, world, model={"pooler": PoolerConfig(dim=8, heads=2)})
    refused(recipe, r"init: model\.pooler\.dim is 16 there, 8 in the recipe")


def test_parts_of_a_model_on_a_frozen_backbone_come_along(tmp_path):
    """Dynamics that are frozen are those of `init`, not new ones."""
    backbone = {
        "backbone": BackboneConfig("timm:test_vit", "random", image_size=(32, 32)),
        "pooler": PoolerConfig(kind="attention", dim=16, heads=2),
    }
    train(tiny_recipe(tmp_path / "world", WORLD, model=backbone, steps=2), quiet=True)
    there = tmp_path / "world" / "run" / "model"
    train(goals(tmp_path / "goals", there, freeze=("pooler", "dynamics", "inverse"), model=backbone), quiet=True)
    before = load_file(there / "model.safetensors")
    after = load_file(tmp_path / "goals" / "run" / "model" / "model.safetensors")
    assert parts_that_differ(before, after) == {"distance", "goal_inverse"}


def test_scenes_are_needed(world, tmp_path):
    with pytest.raises(DataError, match=r"expected data\.scene_clips"):
        train(goals(tmp_path, world, scene_clips=0), quiet=True)


def test_actions_are_needed_for_the_inverse_and_not_for_the_distance(world, tmp_path):
    refused(
        goals(tmp_path, world, labels=False, freeze=("pooler",), model={"goal_inverse": None}),
        r"objectives\.goal_inverse needs actions, but data\.labels is false",
    )
    video = replace(GOALS, goal_inverse=None)
    model = train(
        goals(tmp_path, world, video, labels=False, freeze=("pooler",), model={"goal_inverse": None}), quiet=True
    )
    assert model.codec is None
    assert model.distance is not None


def test_a_readout_of_another_form_starts_anew_on_the_same_encoder(world, tmp_path):
    other = {"pooler": PoolerConfig(kind="flatten", dim=8, hidden=16)}
    heads = replace(GOALS, forward=ForwardConfig(), inverse=InverseLossConfig())
    recipe = goals(tmp_path, world, heads, freeze=("predictor",), model=other)
    with pytest.raises(ConfigError, match=r"init: model\.pooler\.kind is 'attention' there, 'flatten' in the recipe"):
        train(recipe, quiet=True)
    model = train(replace(recipe, init_parts=("encoder", "predictor")), quiet=True)
    source = WorldModel.from_pretrained(world)
    for part in ("encoder", "predictor"):
        theirs, ours = (getattr(one, part).state_dict() for one in (source, model))
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    frames = {"image": random_frames(2, 1, 3, 64, 64)}
    assert model.encode_frames(frames).shape == (2, 1, 1, 8)


def test_parts_that_nothing_gives_are_refused(world, tmp_path):
    recipe = goals(tmp_path, world)
    with pytest.raises(ConfigError, match=r"train\.freeze pooler: not part of init_parts"):
        train(replace(recipe, init_parts=("encoder", "predictor")), quiet=True)
    bare = replace(recipe, init=None, init_parts=("encoder",), train=replace(recipe.train, freeze=()))
    with pytest.raises(ConfigError, match="init_parts: found encoder with init None, expected all of encoder"):
        train(bare, quiet=True)
