"""Trackers: what is missing is named before training, and what is there is given the rows of metrics.jsonl."""

import importlib.util
import sqlite3
from dataclasses import replace

import pytest
from tiny_world import tiny_recipe

from jepa_actions.errors import ConfigError
from jepa_actions.training import ObjectivesConfig, train
from jepa_actions.training.metric_log import read_rows
from jepa_actions.training.trackers import INSTALL, check_tracker, flat


def recipe(out, tracker):
    return replace(
        tiny_recipe(out, ObjectivesConfig(), steps=4, log_every=2, checkpoint_every=0, batch_size=4), tracker=tracker
    )


@pytest.mark.parametrize("name", sorted(INSTALL))
def test_a_tracker_that_is_not_installed_is_named_before_training(tmp_path, name, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else find(wanted))
    with pytest.raises(ConfigError, match=f"tracker: {name} is not installed; expected pip install") as caught:
        train(recipe(tmp_path, name), quiet=True)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    check_tracker(None)


def test_a_recipe_is_flat_for_a_tracker():
    found = flat({"a": {"b": 1, "c": None}, "d": [1, 2], "e": True})
    assert found == {"a.b": 1, "a.c": "None", "d": "[1, 2]", "e": True}


def test_tensorboard_is_given_the_rows(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install jepa-actions[track]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe(tmp_path, "tensorboard"), quiet=True)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    board = EventAccumulator(str(tmp_path / "run" / "run"))
    board.Reload()
    keys = {key for row in rows for key in row if key != "step"}
    assert set(board.Tags()["scalars"]) == keys
    for key in keys:
        written = [(event.step, event.value) for event in board.Scalars(key)]
        assert written == [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in rows if key in row]


def test_trackio_is_given_the_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when the package is imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("trackio", reason="pip install jepa-actions[track]")
    from trackio.utils import TRACKIO_DIR

    if str(TRACKIO_DIR) != str(tmp_path / "trackio"):
        pytest.skip("trackio was imported with another folder")
    train(recipe(tmp_path, "trackio"), quiet=True)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    with sqlite3.connect(tmp_path / "trackio" / "run.db") as database:
        (count,) = database.execute("select count(*) from metrics").fetchone()
    assert count == len(rows)


def test_wandb_is_given_the_rows_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    pytest.importorskip("wandb", reason="pip install wandb")
    train(recipe(tmp_path, "wandb"), quiet=True)
    (stored,) = tmp_path.rglob("*.wandb")
    assert b"masked/total" in stored.read_bytes()
