"""`jepa-actions runs`, and what `jepa-actions train` does in place of training."""

import json
import re
from dataclasses import replace

import pytest
from tiny_world import ALL_TERMS, tiny_recipe

from jepa_actions import training
from jepa_actions.cli import main
from jepa_actions.evaluation.runs import find_runs, read_run
from jepa_actions.evaluation.runs_page import recipe_differences, shared_metrics
from jepa_actions.training import ObjectivesConfig, train
from jepa_actions.training.metric_log import append_row
from jepa_actions.training.run_folder import locked

RECIPE = """
name: tiny
data:
  path: env:two_room
  frames: 4
  block: 2
  action: {ball: true}
  env: {episodes: 12, steps: 24, heldout_episodes: 2, episodes_per_layout: 4}
model:
  encoder: {image_size: [64, 64], patch: 16, width: 24, depth: 1, heads: 2}
  pooler: {dim: 16, heads: 2}
  predictor: {width: 24, depth: 1, heads: 2}
  dynamics: {width: 24, depth: 1}
  inverse: {width: 24}
train: {steps: 6, batch_size: 8, log_every: 2, checkpoint_every: 3}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three runs: finished and scored, stopped, and one in a folder below."""
    out = tmp_path_factory.mktemp("runs")
    recipe = tiny_recipe(out, ALL_TERMS, steps=6, log_every=2, checkpoint_every=0)
    train(replace(recipe, name="finished"), quiet=True)
    other = replace(recipe.train, lr=5e-3, steps=40, checkpoint_every=4)
    train(replace(recipe, name="stopped", train=other), stop_after=4, quiet=True)
    train(replace(recipe, name="video", out=str(out / "more"), objectives=ObjectivesConfig()), quiet=True)
    (out / "finished" / "eval").mkdir()
    report = {"metrics": {"success_rate": 0.875, "by": {"10": 1.0}}}
    (out / "finished" / "eval" / "planning.json").write_text(json.dumps(report))
    append_row(out / "stopped" / "events.jsonl", {"step": 4, "event": "collapse", "what": "rank <1>", "try": "-"})
    (out / "not_a_run").mkdir()
    return out


def told(capsys, *argv) -> str:
    assert main([str(word) for word in argv]) == 0
    return capsys.readouterr().out


def refused(capsys, *argv) -> str:
    assert main([str(word) for word in argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_runs_are_listed_with_state_loss_event_and_scores(folder, capsys):
    lines = told(capsys, "runs", folder).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["finished", "6/6", "finished"],
        ["more/video", "6/6", "finished"],
        ["stopped", "4/40", "stopped"],
    ]
    assert lines[1].endswith("planning success_rate 0.875")
    assert lines[3].endswith("collapse at step 4")
    assert lines[3].split()[3] == f"{read_run(folder / 'stopped').rows[-1]['loss']:.4g}"


def test_a_run_whose_folder_is_held_is_running(folder):
    assert read_run(folder / "stopped").state == "stopped"
    with locked(folder / "stopped"):
        assert read_run(folder / "stopped").state == "running"
    assert read_run(folder / "stopped").state == "stopped"


def test_one_run_is_listed_alone_and_hidden_ones_are_not(folder, tmp_path):
    assert [run.name for run in find_runs(folder / "finished")] == ["finished"]
    hidden = tmp_path / ".lr_range"
    hidden.mkdir()
    for name in ("metrics.jsonl", "config.yaml"):
        (hidden / name).write_text("")
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize("text", ["", "train: 3", "train: {steps: many}", "a: [", "\x00"])
def test_a_damaged_recipe_is_a_state_not_a_crash(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "metrics.jsonl").write_text("")
    assert [run.state for run in find_runs(tmp_path)] == ["damaged"]


def test_two_runs_are_one_page_by_itself(folder, tmp_path, capsys):
    page = tmp_path / "pages" / "two.html"
    assert told(capsys, "runs", folder / "finished", folder / "stopped", "--html", page) == f"{page}\n"
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:)|https?://|<script', text)
    assert text.count("data:image/png;base64,") >= 4
    rows = dict(re.findall(r"<tr><td>([^<]*)<td>([^<]*)<td>", text))
    assert rows["train.lr"] == "0.002"
    assert rows["train.steps"] == "6"
    assert "train.batch_size" not in rows, "what is the same is no difference"
    assert rows["planning.success_rate"] == "0.875"
    assert "stopped, step 4<td>collapse<td>rank &lt;1&gt;" in text


def test_only_metrics_of_both_are_plotted(folder):
    one, two = read_run(folder / "finished"), read_run(folder / "more" / "video")
    shared, alone = shared_metrics(one, two)
    assert shared[0] == "loss"
    assert {"grad_norm", "z/rank"} <= set(shared)
    assert {"inverse/total", "forward/total"} <= set(alone)
    assert "masked/total" in shared


def test_a_key_that_one_recipe_lacks_is_a_difference():
    found = recipe_differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "d": None}, "c": 3})
    assert found == [("c", "2", "3"), ("a.d", "-", "None")]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["NO"], "no such folder"),
        (["A", "B"], "found 2 folders without --html"),
        (["A", "--html", "x.html"], "found 1 folder with --html"),
        (["A", "B", "A", "--html", "x.html"], "found 3 folders"),
        (["A", "EMPTY", "--html", "x.html"], "found no config.yaml, expected the folder of a training run"),
    ],
)
def test_what_cannot_be_shown_is_one_line(folder, capsys, argv, message):
    places = {"A": folder / "finished", "B": folder / "stopped", "NO": folder / "none", "EMPTY": folder / "not_a_run"}
    assert message in refused(capsys, "runs", *(places.get(word, word) for word in argv))


# -- train --lr_range, train --profile -------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(training, "use_all_cores", torch.get_num_threads)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return ["--config", path, "--out", tmp_path]


def test_a_range_of_rates_is_tried_in_place_of_training(recipe, tmp_path, capsys):
    options = ["--lr_range", "--lr_range.from", "1e-5", "--lr_range.to=1e-2", "--lr_range.steps", "13"]
    printed = told(capsys, "train", *recipe, *options)
    report = json.loads((tmp_path / "tiny" / "lr_range.json").read_text())
    assert (report["rates"][0], report["rates"][-1]) == (pytest.approx(1e-5), pytest.approx(1e-2))
    assert report["how"] in printed
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["lr_range.json", "lr_range.png"]


def test_a_step_is_profiled_in_place_of_training(recipe, tmp_path, capsys):
    printed = told(capsys, "train", *recipe, "--profile", "4")
    report = json.loads((tmp_path / "tiny" / "profile.json").read_text())
    assert report["steps"] == 4
    assert "all but waiting for data, forward, backward and optimiser" in printed
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["profile.json"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lr_range", "--profile"], "found --lr_range and --profile"),
        (["--profile", "--restart"], "found --profile and --restart"),
        (["--lr_range.steps", "20"], "go with --lr_range, found none"),
        (["--lr_range", "--lr_range.from", "2", "--lr_range.to", "1"], "expected 0 < from < to"),
        (["--profile", "1"], "found 1 steps, expected at least 4"),
    ],
)
def test_what_cannot_be_tried_is_one_line(recipe, capsys, argv, message):
    assert message in refused(capsys, "train", *recipe, *argv)
