import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_world import ALL_TERMS, random_frames, tiny_recipe

from jepa_actions.errors import ConfigError, JepaActionsError
from jepa_actions.models import WorldModel
from jepa_actions.objectives import ForwardConfig, InverseLossConfig, MaskedConfig, SigRegConfig, VicRegConfig
from jepa_actions.training import NonFiniteLossError, ObjectivesConfig, build_model, open_data, train
from jepa_actions.training.module import OBJECTIVES
from jepa_actions.training.optimizer import make_optimizer

MASKED = ObjectivesConfig()
EVERY_TERM = replace(ALL_TERMS, masked=MaskedConfig(share=0.5), vicreg=VicRegConfig(weight=0.01))


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(model: WorldModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def identical(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A run of 60 steps of every term: its folder, its model, and what `on_log` was told."""
    out, told = tmp_path_factory.mktemp("runs"), []
    recipe = tiny_recipe(out, EVERY_TERM, steps=60, log_every=10, checkpoint_every=20)
    model = train(recipe, on_log=lambda step, row: told.append((step, row)), quiet=True)
    return out / "run", model, told


def test_the_loss_falls_and_the_inverse_head_learns(trained):
    first, *_, last = rows(trained[0])
    for key in ("loss", "masked/total", "inverse/total"):
        assert last[key] < 0.9 * first[key]
    assert last["inverse/r2"] > first["inverse/r2"] + 0.02


def test_metrics_are_one_row_per_log_with_every_term_and_meter(trained):
    run, _, told = trained
    found = rows(run)
    assert [row["step"] for row in found] == [10, 20, 30, 40, 50, 60]
    expected = {"loss", "grad_norm", "lr", "clips_per_second", "z/rank", "z/std_min", "target/rank"}
    expected |= {f"{term}/total" for term in ("masked", "forward", "inverse", "sigreg", "vicreg")}
    expected |= {"masked/future", "forward/copy_last", "inverse/r2"}
    for row in found:
        assert expected <= set(row)
    assert [(step, row["loss"]) for step, row in told] == [(row["step"], row["loss"]) for row in found]


def test_the_total_is_the_weighted_sum(trained):
    objectives = EVERY_TERM
    for row in rows(trained[0]):
        parts = sum(
            getattr(objectives, term).weight * row[f"{term}/total"]
            for term in ("masked", "forward", "inverse", "sigreg", "vicreg")
        )
        assert row["loss"] == pytest.approx(parts, rel=1e-4)


def test_the_newest_checkpoints_are_kept_and_nothing_half_written(trained):
    assert sorted(p.name for p in (trained[0] / "checkpoints").iterdir()) == ["step-0000040", "step-0000060"]


def test_the_saved_model_is_the_returned_one(trained):
    run, model, _ = trained
    assert not model.training
    loaded = WorldModel.from_pretrained(run / "model")
    assert identical(weights(loaded), weights(model))
    assert loaded.extra["recipe"]["train"]["steps"] == 60
    frames = {"image": random_frames(1, 2, 3, 64, 64)}
    assert torch.equal(loaded.encode_frames(frames), model.encode_frames(frames))


def test_the_recipe_is_written_beside_the_results(trained):
    saved = yaml.safe_load((trained[0] / "config.yaml").read_text())
    assert saved["objectives"]["inverse"]["weight"] == ALL_TERMS.inverse.weight
    assert saved["data"]["path"] == "env:two_room"


def test_the_target_encoder_has_moved_but_less_than_the_online_one(trained):
    folder = trained[0] / "checkpoints" / "step-0000060"
    online, target = (load_file(folder / f"{name}.safetensors") for name in ("model", "ema"))
    name = "encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(online[name], target[name])
    assert torch.equal(online["pooler.standardise.mean"], target["pooler.standardise.mean"])


def test_the_same_seed_gives_identical_weights_and_another_does_not(tmp_path):
    found = []
    for i, seed in enumerate((0, 0, 1)):
        recipe = replace(tiny_recipe(tmp_path / str(i), EVERY_TERM, steps=6), seed=seed)
        found.append(weights(train(recipe, quiet=True)))
    assert identical(found[0], found[1])
    assert not identical(found[0], found[2])


@pytest.mark.parametrize("objectives", [EVERY_TERM, MASKED], ids=["every term", "masked alone"])
def test_ten_steps_resumed_for_ten_more_are_twenty_bit_for_bit(tmp_path, objectives):
    straight = train(tiny_recipe(tmp_path / "a", objectives, log_every=7), quiet=True)
    recipe = tiny_recipe(tmp_path / "b", objectives, log_every=7)
    half = train(recipe, stop_after=10, quiet=True)
    assert not (tmp_path / "b" / "run" / "model").exists()
    assert not identical(weights(half), weights(straight))
    resumed = train(recipe, resume=True, quiet=True)
    assert identical(weights(resumed), weights(straight))
    last = [rows(tmp_path / name / "run")[-1] for name in ("a", "b")]
    assert last[0]["step"] == last[1]["step"] == 20
    ema = [load_file(tmp_path / name / "run/checkpoints/step-0000020/ema.safetensors") for name in ("a", "b")]
    assert identical(*ema)


def test_a_resumed_run_has_every_row_once(tmp_path):
    recipe = tiny_recipe(tmp_path, steps=8, log_every=1, checkpoint_every=4)
    train(recipe, stop_after=4, quiet=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    before = rows(tmp_path / "run")
    with metrics.open("a") as file:  # killed at the seventh step, with the sixth row half written
        file.write(json.dumps({**before[-1], "step": 5}) + '\n{"step": 6, "lo')
    train(recipe, resume=True, quiet=True)
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == list(range(1, 9))
    assert found[:4] == before


def test_logging_more_often_changes_nothing(tmp_path):
    found = [
        weights(train(tiny_recipe(tmp_path / str(every), MASKED, steps=6, log_every=every), quiet=True))
        for every in (1, 6)
    ]
    assert identical(*found)


def test_a_run_that_starts_anew_leaves_no_older_checkpoint_to_resume(tmp_path):
    train(tiny_recipe(tmp_path, steps=8, checkpoint_every=4), quiet=True)
    other = replace(tiny_recipe(tmp_path, steps=8, checkpoint_every=2), seed=1)
    train(other, stop_after=2, restart=True, quiet=True)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000002"]
    assert [row["step"] for row in rows(tmp_path / "run")] == [2]


def test_no_checkpoint_where_none_is_asked_for(tmp_path):
    train(tiny_recipe(tmp_path, steps=2, checkpoint_every=0), quiet=True)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_term_counts_from_its_start_to_its_stop(tmp_path):
    objectives = replace(ALL_TERMS, forward=ForwardConfig(start=0.5), inverse=InverseLossConfig(stop=0.5), masked=None)
    train(tiny_recipe(tmp_path, objectives, steps=4, log_every=1), quiet=True)
    found = rows(tmp_path / "run")
    assert ["forward/total" in row for row in found] == [False, False, True, True]
    assert ["inverse/total" in row for row in found] == [True, True, False, False]


class Broken:
    """A loss that is not a number from its second step on."""

    def __init__(self, config):
        self.calls = 0

    def __call__(self, model, views, generator):
        self.calls += 1
        loss = views.z.mean() * (float("nan") if self.calls > 1 else 1.0)
        return loss, {"loss": loss.detach()}


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_step_and_clips(tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "sigreg", Broken)
    with pytest.raises(NonFiniteLossError) as caught:
        train(tiny_recipe(tmp_path, replace(ALL_TERMS, masked=None)), quiet=True)
    message = str(caught.value)
    assert isinstance(caught.value, JepaActionsError)
    assert "\n" not in message
    assert message.startswith("step 1: the loss is nan; terms not finite: sigreg/total, sigreg/loss; clips (episode:")
    clips = message.split("first frame): ")[1].split(", ")
    assert len(clips) == 8
    assert all(0 <= int(episode) < 24 and 0 <= int(frame) < 25 for episode, frame in (c.split(":") for c in clips))


@pytest.mark.parametrize("term", ["forward", "inverse"])
def test_terms_that_need_actions_are_refused_without_labels(tmp_path, term):
    objectives = replace(MASKED, **{term: getattr(ALL_TERMS, term)})
    with pytest.raises(ConfigError, match=rf"objectives\.{term} needs actions, but data\.labels is false"):
        train(tiny_recipe(tmp_path, objectives, data={"labels": False}), quiet=True)


def test_without_labels_the_masked_term_trains_alone(tmp_path):
    model = train(tiny_recipe(tmp_path, MASKED, data={"labels": False}, steps=4), quiet=True)
    assert model.codec is None
    assert model.dynamics is None
    assert {key for key in rows(tmp_path / "run")[0] if key.endswith("/total")} == {"masked/total"}
    assert WorldModel.from_pretrained(tmp_path / "run" / "model").inverse is None


def test_a_recipe_without_terms_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one term is needed"):
        train(tiny_recipe(tmp_path, ObjectivesConfig(masked=None)), quiet=True)


def test_a_step_without_an_active_term_is_refused(tmp_path):
    objectives = ObjectivesConfig(masked=None, sigreg=SigRegConfig(start=0.5))
    with pytest.raises(ConfigError, match="no term is active at step 0"):
        train(tiny_recipe(tmp_path, objectives), quiet=True)


def test_training_can_start_from_a_model_of_video_alone(tmp_path):
    first = train(tiny_recipe(tmp_path / "a", MASKED, data={"labels": False}, steps=3), quiet=True)
    recipe = replace(tiny_recipe(tmp_path / "b", steps=2, lr=0.0), init=str(tmp_path / "a" / "run" / "model"))
    second = train(recipe, quiet=True)
    for part in ("encoder", "predictor"):
        assert identical(weights(getattr(second, part)), weights(getattr(first, part)))
    assert second.inverse is not None


def test_a_start_of_another_size_is_one_line(tmp_path):
    train(tiny_recipe(tmp_path / "a", MASKED, steps=1), quiet=True)
    wide = tiny_recipe(tmp_path / "b", steps=1)
    wide = replace(wide, model=replace(wide.model, encoder=replace(wide.model.encoder, width=32)))
    with pytest.raises(ConfigError, match=r"init: model\.encoder\.width is 24 there, 32 in the recipe") as caught:
        train(replace(wide, init=str(tmp_path / "a" / "run" / "model")), quiet=True)
    assert "\n" not in str(caught.value)


def test_decay_and_rate_differ_by_kind_of_parameter(tmp_path):
    recipe = tiny_recipe(tmp_path, weight_decay=0.1, head_lr=3.0)
    model = build_model(recipe, open_data(recipe.data, (64, 64)))
    names = {parameter: name for name, parameter in model.named_parameters()}
    settings = {}
    for group in make_optimizer(model, recipe).param_groups:
        for parameter in group["params"]:
            settings[names[parameter]] = (group["weight_decay"], group["scale"])
    still = {"pooler.mlp.fc2.bias"}  # the standardisation after it takes it out again
    assert set(settings) == set(names.values()) - still
    assert settings["encoder.blocks.0.mlp.fc1.weight"] == (0.1, 1.0)
    assert settings["encoder.blocks.0.mlp.fc1.bias"] == (0.0, 1.0)
    assert settings["encoder.norm.weight"] == (0.0, 1.0)
    assert settings["pooler.queries"] == (0.0, 1.0)
    assert settings["predictor.mask_tokens.0"] == (0.0, 1.0)
    assert settings["dynamics.out.weight"] == (0.1, 3.0)
    assert settings["inverse.trunk.out.bias"] == (0.0, 3.0)
