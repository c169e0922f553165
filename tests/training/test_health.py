"""Trouble, made for real: it is named when it begins, once; a healthy run names none."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_world import ALL_TERMS, tiny_recipe

from jepa_actions.data import ClipLoader
from jepa_actions.models import PoolerConfig
from jepa_actions.objectives import ForwardConfig, MaskedConfig
from jepa_actions.training import NonFiniteLossError, ObjectivesConfig, TrainConfig, train
from jepa_actions.training.health import Health
from jepa_actions.training.metric_log import read_rows
from jepa_actions.training.module import OBJECTIVES

EVERY_TERM = replace(ALL_TERMS, masked=MaskedConfig(share=0.5))
NO_ANTI_COLLAPSE = ObjectivesConfig(masked=None, forward=ForwardConfig())  # a constant latent is its optimum


def events(config: TrainConfig) -> list[dict]:
    found = read_rows(Path(config.out) / config.name / "events.jsonl")
    return [event for event in found if event["event"] != "start"]


def collapsing(out, **optim) -> TrainConfig:
    settings = {"steps": 30, "log_every": 5, "checkpoint_every": 0, "lr": 5e-3} | optim
    return tiny_recipe(out, NO_ANTI_COLLAPSE, model={"pooler": PoolerConfig(kind="patches")}, **settings)


@pytest.mark.parametrize("objectives", [EVERY_TERM, ObjectivesConfig()], ids=["every term", "masked alone"])
def test_a_healthy_run_names_nothing(tmp_path, objectives, capsys):
    config = tiny_recipe(tmp_path, objectives, steps=40, log_every=4, checkpoint_every=0)
    train(config)
    assert events(config) == []
    assert "warning" not in capsys.readouterr().out


def test_a_recipe_without_a_term_against_it_collapses_and_is_told_what_to_try(tmp_path, capsys):
    config = collapsing(tmp_path)
    train(config)
    (event,) = events(config)
    assert event["event"] == "collapse"
    assert 10 <= event["step"] <= 25
    assert "z differs between clips by 0.0" in event["what"]
    assert "sigreg" in event["try"]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert printed == [f"warning: step {event['step']}: collapse: {event['what']}; {event['try']}"]


def test_a_resumed_run_does_not_name_it_again(tmp_path):
    config = collapsing(tmp_path, checkpoint_every=25)
    train(config, stop_after=25, quiet=True)
    before = events(config)
    assert [event["event"] for event in before] == ["collapse"]
    train(config, resume=True, quiet=True)
    assert events(config) == before


def test_a_hundred_times_the_rate_diverges(tmp_path):
    config = tiny_recipe(tmp_path, EVERY_TERM, steps=10, log_every=2, checkpoint_every=0, lr=0.2, warmup=0.0)
    train(config, quiet=True)
    event = next(event for event in events(config) if event["event"] == "divergence")
    assert event["step"] <= 10
    assert "running median" in event["what"]
    assert "lr" in event["try"]


def test_a_loss_that_is_not_a_number_is_an_event_too(tmp_path, monkeypatch):
    class Broken:
        def __init__(self, config):
            self.calls = 0

        def __call__(self, model, views, generator):
            self.calls += 1
            loss = views.z.mean() * (float("nan") if self.calls > 3 else 1.0)
            return loss, {}

    monkeypatch.setitem(OBJECTIVES, "sigreg", Broken)
    config = tiny_recipe(tmp_path, replace(ALL_TERMS, masked=None), checkpoint_every=0)
    with pytest.raises(NonFiniteLossError):
        train(config, quiet=True)
    (event,) = events(config)
    assert (event["step"], event["event"]) == (3, "divergence")
    assert "the loss is nan" in event["what"]


def test_data_slower_than_the_model_is_starvation(tmp_path, monkeypatch):
    batch = ClipLoader.batch

    def slow(self, step):
        time.sleep(1.2)
        return batch(self, step)

    monkeypatch.setattr(ClipLoader, "batch", slow)
    config = tiny_recipe(tmp_path, steps=6, log_every=2, checkpoint_every=0)
    train(config, quiet=True)
    (event,) = events(config)
    assert (event["event"], event["step"]) == ("starvation", 6), "the first row, with the start in it, does not count"
    assert "of the time went into waiting for data" in event["what"]
    assert "data.workers" in event["try"]


# -- on rows ---------------------------------------------------------------------------------------------------------


def named(rows: list[dict[str, float]], first: dict[str, float] | None = None) -> list[tuple[int, str]]:
    health = Health()
    health.begin(first or {"loss": 4.0, "t/total": 4.0, "z/rank": 20.0, "z/clips": 0.5})
    return [(trouble.step, trouble.kind) for i, row in enumerate(rows) for trouble in health.look(i, row)]


GOOD = {
    "loss": 4.0,
    "t/total": 4.0,
    "z/rank": 15.0,
    "z/clips": 0.3,
    "grad_norm": 1.0,
    "starved": 0.0,
    "data_seconds": 0,
}


def test_trouble_is_named_once_until_it_has_been_over_for_a_while():
    bad = GOOD | {"z/rank": 1.1}
    assert named([GOOD, bad, GOOD, bad]) == [], "one row is a chance"
    assert named([GOOD, *[bad] * 9]) == [(2, "collapse")]
    assert named([GOOD, bad, bad, GOOD, bad, bad]) == [(2, "collapse")]
    assert named([GOOD, bad, bad, *[GOOD] * 3, bad, bad]) == [(2, "collapse"), (7, "collapse")]


def test_a_rank_that_was_never_high_does_not_collapse():
    low = GOOD | {"z/rank": 1.2}
    assert named([low] * 5, {"loss": 4.0, "t/total": 4.0, "z/rank": 1.9}) == []


def test_a_falling_loss_that_crosses_zero_is_no_divergence():
    losses = [4.0, 2.0, 1.0, 0.4, 0.1, 0.02, 0.3, -0.01, 0.2, -0.3, 0.1]
    assert named([GOOD | {"loss": loss} for loss in losses]) == []
    assert named([GOOD | {"loss": loss} for loss in [*losses, 6.0]]) == [(len(losses), "divergence")]


def test_a_term_that_begins_makes_another_loss():
    more = GOOD | {"loss": 40.0, "u/total": 36.0}
    assert named([GOOD, GOOD, more, more]) == []
    assert named([GOOD, GOOD, more, more | {"loss": 400.0}]) == [(3, "divergence")]


def test_a_gradient_far_above_its_median_is_divergence():
    assert named([GOOD] * 4 + [GOOD | {"grad_norm": 11.0}]) == [(4, "divergence")]
    assert named([GOOD] * 2 + [GOOD | {"grad_norm": 11.0}]) == [], "two rows are no median"
