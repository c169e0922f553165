"""Training on a frozen backbone: it stays as it is, its latents may be cached, what comes out evaluates and plans."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import random_frames, tiny_recipe

from jepa_actions.config import load_config
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation import suite
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.heads import FitBudget
from jepa_actions.evaluation.inverse import evaluate_inverse
from jepa_actions.evaluation.plan import plan, read_pictures
from jepa_actions.evaluation.probe import evaluate_probe
from jepa_actions.evaluation.rollout import evaluate_rollout
from jepa_actions.evaluation.suite import data_of, evaluate_all
from jepa_actions.models import BackboneConfig, DynamicsConfig, FrameBackbone, PoolerConfig, WorldModel
from jepa_actions.objectives import ForwardConfig, InverseLossConfig
from jepa_actions.planning import CEMConfig
from jepa_actions.resources import recipe_path
from jepa_actions.training import ObjectivesConfig, TrainConfig, train

FROZEN = ObjectivesConfig(masked=None, forward=ForwardConfig(), inverse=InverseLossConfig())
TINY_CEM = CEMConfig(samples=8, elites=2, iterations=2)
TINY_CONTROL = Control(settings={"samples": 8, "elites": 2, "iterations": 2})


def frozen_recipe(out: Path, *, pooler: str = "patches", cache: str = "none", **optim: object) -> TrainConfig:
    model = {
        "backbone": BackboneConfig("timm:test_vit", "random", image_size=(32, 32)),
        "pooler": PoolerConfig(kind=pooler, dim=64),
        "dynamics": DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=2),
    }
    return tiny_recipe(out, FROZEN, model=model, data={"cache": cache}, **({"steps": 6, "log_every": 1} | optim))


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """The debug preset of the DINO-WM recipe, trained, and its model as it is loaded again."""
    out = tmp_path_factory.mktemp("runs")
    options = ["--config", str(recipe_path("dino_wm/two_room")), "--preset", "debug", "--out", str(out)]
    train(load_config(TrainConfig, options), quiet=True)
    return WorldModel.from_pretrained(out / "dino_wm_two_room_debug" / "model")


@pytest.mark.parametrize("pooler", ["patches", "attention"])
def test_cached_latents_give_the_same_losses(pooler, tmp_path):
    for cache in ("none", "latents"):
        train(replace(frozen_recipe(tmp_path, pooler=pooler, cache=cache), name=cache), quiet=True)
    plain, cached = losses(tmp_path / "none"), losses(tmp_path / "latents")
    assert len(plain) == 6
    assert len(set(plain)) == 6
    assert cached == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("pooler", ["patches", "attention"])
def test_stored_latents_give_the_same_losses_and_the_next_run_encodes_nothing(pooler, tmp_path, monkeypatch):
    recipe = frozen_recipe(tmp_path, pooler=pooler)
    train(replace(recipe, name="plain"), quiet=True)
    stored = replace(recipe, data=replace(recipe.data, cache="latents", latents=str(tmp_path / "latents")))
    train(replace(stored, name="first"), quiet=True)
    assert len(list((tmp_path / "latents").iterdir())) == 1
    plain, first = losses(tmp_path / "plain"), losses(tmp_path / "first")
    assert first == pytest.approx(plain, rel=1e-3)
    monkeypatch.setattr(FrameBackbone, "encode_each", None)  # not needed any more
    train(replace(stored, name="again"), stop_after=5, quiet=True)  # a saved model has golden outputs, which do
    assert losses(tmp_path / "again") == first[:5]


def test_the_backbone_stays_and_the_ema_and_the_optimiser_have_no_part_of_it(tmp_path):
    recipe = frozen_recipe(tmp_path, pooler="attention", checkpoint_every=3)
    train(recipe, quiet=True)
    checkpoints = tmp_path / "run" / "checkpoints"
    before, after = (load_file(checkpoints / f"step-000000{n}" / "model.safetensors") for n in (3, 6))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"pooler", "dynamics", "inverse"}
    for file in ("ema", "optimizer"):
        names = load_file(checkpoints / "step-0000006" / f"{file}.safetensors")
        assert names
        assert not [name for name in names if "encoder" in name]


def test_frozen_latents_have_no_collapse_meter_and_learned_ones_have(tmp_path):
    for pooler in ("patches", "attention"):
        train(replace(frozen_recipe(tmp_path, pooler=pooler, steps=1), name=pooler), quiet=True)
        row = json.loads((tmp_path / pooler / "metrics.jsonl").read_text())
        assert ("z/rank" in row) == (pooler == "attention")


@pytest.mark.parametrize("cache", ["none", "latents"])
def test_resumed_is_bit_for_bit_uninterrupted(cache, tmp_path):
    recipe = frozen_recipe(tmp_path, cache=cache, checkpoint_every=2)
    whole = train(replace(recipe, name="whole"), quiet=True).state_dict()
    train(recipe, stop_after=3, quiet=True)
    resumed = train(recipe, resume=True, quiet=True).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_starts_from_the_backbone_and_the_pooler_of_a_saved_model(tmp_path):
    recipe = frozen_recipe(tmp_path, pooler="attention", steps=2)
    source = train(recipe, quiet=True)
    folder = str(tmp_path / "run" / "model")
    started = train(replace(recipe, name="next", init=folder, train=replace(recipe.train, lr=0.0)), quiet=True)
    for part in ("encoder", "pooler.queries"):
        one, two = ({k: v for k, v in model.state_dict().items() if k.startswith(part)} for model in (source, started))
        assert one
        assert all(torch.equal(one[name], two[name]) for name in one)
    pooled = replace(recipe.model, backbone=replace(recipe.model.backbone, tokens="pooled"))
    with pytest.raises(ConfigError, match=r"init: model.backbone.tokens is 'patch' there, 'pooled' in the recipe"):
        train(replace(recipe, name="pooled", model=pooled, init=folder), quiet=True)
    with pytest.raises(ConfigError, match=r"init: model.backbone is timm:test_vit.r160_in1k there, null in"):
        train(replace(recipe, name="own", model=replace(recipe.model, backbone=None), init=folder), quiet=True)


def test_what_does_not_fit_a_frozen_encoder_is_refused(tmp_path):
    recipe = frozen_recipe(tmp_path)
    with pytest.raises(ConfigError, match=r"objectives.masked: model.backbone \(timm:test_vit\) .*set .* to null"):
        train(replace(recipe, objectives=ObjectivesConfig()), quiet=True)
    learned = tiny_recipe(tmp_path, data={"cache": "latents"})
    with pytest.raises(ConfigError, match=r"data.cache latents: the encoder learns"):
        train(learned, quiet=True)
    unused = replace(recipe, data=replace(recipe.data, latents="latents"))
    with pytest.raises(ConfigError, match=r"data.latents: found .latents., expected data.cache latents with it"):
        train(unused, quiet=True)


def test_the_debug_preset_evaluates_by_every_name_but_masked(trained, monkeypatch):
    config, data = data_of(trained)
    monkeypatch.setattr(suite, "evaluate_rollout", partial(evaluate_rollout, limit=20))
    monkeypatch.setattr(suite, "evaluate_probe", partial(evaluate_probe, limit=20))
    small = {"train_limit": 40, "limit": 20, "budget": FitBudget(2, 8, 1e-3, 0.0)}
    monkeypatch.setattr(suite, "evaluate_inverse", partial(evaluate_inverse, **small))
    names = ["rollout", "probe", "inverse", "planning"]
    reports = evaluate_all(trained, config, data, names, episodes=2, control=TINY_CONTROL)
    assert list(reports["rollout"]["metrics"]["px_error"]) == [str(k) for k in range(1, 9)]
    assert reports["inverse"]["metrics"]["r2_mean"] < 1
    assert reports["planning"]["control"]["history"] == 3
    assert reports["probe"]["floors"]["untrained"] == reports["probe"]["metrics"], (
        "patches as they are: nothing learned"
    )
    with pytest.raises(ConfigError, match=r"no masked predictor, .* frozen backbone \(timm:test_vit.r160_in1k\)"):
        evaluate_all(trained, config, data, ["masked"])


def test_it_plans_between_pictures_of_any_size(trained, tmp_path):
    from PIL import Image

    frame, goal = random_frames(3, 40, 50), random_frames(3, 70, 30, seed=1)
    found = plan(trained, frame, goal, horizon=2, planner=TINY_CEM)
    assert len(found["actions"]) == 10
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    assert torch.equal(read_pictures(trained, [str(tmp_path / "a.png")])["image"], frame)
