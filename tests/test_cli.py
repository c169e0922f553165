"""The command, the training entry and the evaluation scripts, on a model that takes seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from jepa_actions import training
from jepa_actions.cli import main
from jepa_actions.evaluation import suite
from jepa_actions.evaluation.heads import FitBudget
from jepa_actions.models import WorldModel

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = """
name: tiny
data:
  path: env:two_room
  frames: 4
  block: 5
  action: {ball: true}
  env: {episodes: 20, heldout_episodes: 10, steps: 40}
model:
  cameras: [image]
  encoder: {image_size: [64, 64], patch: 16, width: 24, depth: 1, heads: 2}
  pooler: {dim: 16, heads: 2}
  predictor: {width: 24, depth: 1, heads: 2}
  dynamics: {kind: mlp, width: 32}
  inverse: {width: 32}
objectives:
  masked: {weight: 1.0}
  forward: {weight: 1.0}
  inverse: {weight: 1.0}
train: {steps: 6, batch_size: 8, log_every: 2, checkpoint_every: 3}
evaluate: [probe]
"""
JSON_KEYS = {
    *("metrics", "floors", "oracle", "ci95", "episodes", "seeds", "seconds", "seconds_total"),
    *("protocol", "protocol_hash", "hardware", "commit"),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def launched(recipe, tmp_path_factory):
    """The run of `accelerate launch recipes/train.py`, from a folder of its own."""
    out = tmp_path_factory.mktemp("launched")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    command += [str(REPOSITORY / "recipes/train.py"), "--config", str(recipe), "--out", str(out), "--train.lr=2e-3"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr
    return out / "tiny", done


def environment():
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def model(launched):
    return str(launched[0] / "model")


@pytest.fixture(autouse=True)
def _same_threads(monkeypatch):
    monkeypatch.setattr(training, "use_all_cores", torch.get_num_threads)


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail: exit code 2 and one line on stderr, which is returned."""

    def run(*argv) -> str:
        assert main([str(word) for word in argv]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" or printed.out.startswith("torch threads")
        assert printed.err.startswith("error: ")
        assert printed.err.endswith("\n")
        assert printed.err.count("\n") == 1, printed.err
        return printed.err.removeprefix("error: ").rstrip("\n")

    return run


def out_of(capsys, *argv) -> str:
    assert main([str(word) for word in argv]) == 0
    return capsys.readouterr().out


# -- train -----------------------------------------------------------------------------------------------------------


def test_launched_training_saves_a_model_its_metrics_and_its_evaluations(launched):
    run, done = launched
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert {"loss", "masked/total", "forward/total", "inverse/total"} <= set(rows[0])
    assert "torch threads: " in done.stdout
    assert "rmse_px_mean" in done.stdout
    assert "mean " in done.stdout.split("rmse_px_mean")[1], "the table has no floor"
    assert set(json.loads((run / "eval/probe.json").read_text())["floors"]) == {"mean", "untrained"}
    trained = WorldModel.from_pretrained(run / "model")
    assert trained.extra["recipe"]["train"]["lr"] == 2e-3
    assert trained.codec.bounds.kind == "ball"


def test_resume_continues_to_the_same_weights(recipe, tmp_path, capsys):
    options = ["--config", recipe, "--out", tmp_path, "--evaluate", "[]"]
    out_of(capsys, "train", *options)
    run = tmp_path / "tiny"
    whole = load_file(run / "model" / "model.safetensors")
    before = (run / "metrics.jsonl").read_text()
    shutil.rmtree(run / "checkpoints" / "step-0000006")
    shutil.rmtree(run / "model")
    out_of(capsys, "train", f"--resume={run}")
    again = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == before.splitlines()[0], "step 2 was trained again"
    assert [json.loads(line)["step"] for line in lines[-2:]] == [4, 6]
    assert lines[-1] != before.splitlines()[-1], "step 6 was not trained again"


def test_a_recipe_of_the_package_goes_by_name(fails):
    assert "did you mean data.block?" in fails("train", "--config", "vjepa/two_room", "--data.bock", "5")
    assert "vjepa/two_room" in fails("train", "--config", "vjepa/two_rooms", "--train.steps", "1")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "RECIPE", "--train.stps", "5"], "train.stps"),
        (["--config", "RECIPE", "--train.stps", "5"], "did you mean train.steps?"),
        (["--config", "missing.yaml"], "missing.yaml: cannot be read"),
        (["--config", "RECIPE", "--train.steps", "many"], "train.steps: expected int"),
        (["--config", "RECIPE", "--data.path", "env:three_room"], "environment 'env:three_room' is not known"),
        (
            ["--config", "RECIPE", "--data.labels", "false"],
            "objectives.forward needs actions, but data.labels is false",
        ),
        (["--resume", "no/such/run"], "--resume no/such/run: found no config.yaml there, expected the folder of a run"),
        (["--resume", "run", "--restart"], "found --resume and --restart, expected one of them"),
        (["--config", "RECIPE", "--allow_changes"], "--resume_step and --allow_changes go with --resume RUN"),
        (["--resume"], "--resume: expected one argument"),
    ],
)
def test_a_training_that_cannot_be_is_one_line(fails, recipe, tmp_path, argv, message):
    words = [str(recipe) if word == "RECIPE" else word for word in argv]
    out = [] if words[0] == "--resume" else ["--out", str(tmp_path)]
    assert message in fails("train", *words, *out)


# -- eval ------------------------------------------------------------------------------------------------------------


def test_eval_inverse_prints_a_table_and_writes_json(model, tmp_path, capsys, monkeypatch):
    quick = partial(suite.evaluate_inverse, train_limit=200, limit=100, budget=FitBudget(5, 64, 1e-3, 0.01))
    monkeypatch.setattr(suite, "evaluate_inverse", quick)
    printed = out_of(capsys, "eval", "inverse", "--model", model, "--json", tmp_path / "deep" / "out.json")
    report = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert (JSON_KEYS - {"oracle", "seconds", "protocol", "protocol_hash"}) <= set(report)
    assert f"{report['metrics']['r2_mean']:.4g}" in printed
    assert "shuffled_pairs" in printed
    assert set(report["metrics"]["r2"]) == {"dx", "dy"}


@pytest.fixture(scope="module")
def planned(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("planned") / "out.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "use_all_cores", torch.get_num_threads)
        assert main(planning(model, path)) == 0
    return json.loads(path.read_text())


def planning(model, path):
    words = ["eval", "planning", "--model", model, "--episodes", "5", "--json", str(path)]
    return [*words, "--samples", "16", "--elites", "4", "--iterations", "2", "--protocol", "two_room/offset25"]


def test_eval_planning_writes_the_keys_that_other_programs_read(planned):
    assert set(planned) >= JSON_KEYS
    assert planned["episodes"] == 5
    assert planned["seeds"] == 1
    assert planned["protocol"] == "two_room/offset25"
    assert planned["control"]["planner"] == "cem"
    assert planned["control"]["settings"] == {"samples": 16, "elites": 4, "iterations": 2}
    assert set(planned["floors"]) == {"random", "zero", "straight", "untrained"}
    for section in (planned["metrics"], planned["oracle"], *planned["floors"].values()):
        assert 0 <= section["success_rate"] <= 1
    numbers = [
        v for value in planned["metrics"].values() for v in (value.values() if isinstance(value, dict) else [value])
    ]
    assert all(isinstance(number, (int, float)) for number in numbers)


def test_several_ways_to_decide_are_compared_on_the_same_tasks(model, planned, tmp_path, capsys):
    path = tmp_path / "out.json"
    words = ["--compare", "cem", "cem:samples=8,execute=2", "random"]
    printed = out_of(capsys, *planning(model, path), *words)
    report = json.loads(path.read_text())
    assert list(report["controls"]) == words[1:]
    assert report["controls"]["cem:samples=8,execute=2"]["settings"] == {"samples": 8, "elites": 4, "iterations": 2}
    assert report["controls"]["cem:samples=8,execute=2"]["execute"] == 2
    assert report["protocol_hash"] == planned["protocol_hash"]
    assert report["metrics"]["cem"]["success_rate"] == planned["metrics"]["success_rate"]
    assert all(words in printed for words in words[1:])
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_published_planners_go_by_name_and_curves_over_offsets_are_drawn(model, tmp_path, capsys):
    path = tmp_path / "out.json"
    words = ["--compare", "dino_wm", "eb_jepa_cem:execute=3", "--offsets", "20", "10"]
    printed = out_of(capsys, *planning(model, path), *words)
    report = json.loads(path.read_text())
    assert report["metrics"].keys() == {"dino_wm", "eb_jepa_cem:execute=3"}
    assert list(report["metrics"]["dino_wm"]) == ["10", "20"]
    assert [report["controls"]["dino_wm"][key] for key in ("horizon", "execute", "cost")] == [5, 5, "l2"]
    assert [report["controls"]["eb_jepa_cem:execute=3"][key] for key in ("horizon", "execute")] == [90, 3]
    assert report["controls"]["dino_wm"]["settings"] == {"samples": 16, "elites": 4, "iterations": 2}
    assert report["protocol"] == {"10": "two_room/offset10", "20": "two_room/offset20"}
    assert "dino_wm" in printed
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_script_does_what_the_command_does(planned, model, tmp_path):
    words = planning(model, tmp_path / "script.json")[2:]
    command = [sys.executable, str(REPOSITORY / "eval/planning.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr
    assert "success_rate" in done.stdout
    again = json.loads((tmp_path / "script.json").read_text())
    assert again["rows"] == planned["rows"]
    assert again["protocol_hash"] == planned["protocol_hash"]


@pytest.mark.parametrize("name", ["inverse", "probe", "rollout", "masked"])
def test_every_script_names_its_own_evaluation(name, capsys, monkeypatch):
    text = (REPOSITORY / "eval" / f"{name}.py").read_text()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--model", "no/such/folder"])
    seen = []
    monkeypatch.setattr("jepa_actions.cli.main", lambda argv: seen.append(argv) or 0)
    with pytest.raises(SystemExit):
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
    assert seen == [["eval", name, "--model", "no/such/folder"]]


def test_planning_needs_no_recipe_and_the_others_do(model, tmp_path, capsys, fails):
    bare = WorldModel.from_pretrained(model)
    bare.extra = {}
    bare.save_pretrained(tmp_path / "bare")
    assert "success_rate" in out_of(capsys, *planning(str(tmp_path / "bare"), tmp_path / "out.json"))
    assert "carries no recipe" in fails("eval", "probe", "--model", tmp_path / "bare")


@pytest.fixture
def video_only(model, tmp_path):
    one = WorldModel.from_pretrained(model)
    blind = WorldModel(one.config)
    blind.extra = one.extra
    blind.save_pretrained(tmp_path / "video_only")
    return tmp_path / "video_only"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("planning", "found a model with no codec"),
        ("inverse", "no inverse head: it was trained without actions"),
        ("rollout", "needs a model with dynamics"),
        ("probe", "trained without actions"),
    ],
)
def test_a_model_without_actions_is_one_line(fails, video_only, name, message):
    assert message in fails("eval", name, "--model", video_only)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["planing", "--model", "M"], "invalid choice: 'planing'"),
        (["probe"], "--model"),
        (["probe", "--model", "M", "--jsn", "x"], "did you mean --json?"),
        (["planning", "--model", "M", "--sedes", "2"], "did you mean --seeds?"),
        (["planning", "--model", "M", "--seeds", "two"], "invalid int value: 'two'"),
        (["planning", "--model", "M", "--protocol", "two_room/ofset25"], "did you mean 'two_room/offset25'?"),
        (["planning", "--model", "M", "--samples", "4", "--elites", "8"], "1 <= elites <= samples"),
        (["planning", "--model", "M", "--seeds", "0"], "seeds 0"),
        (["planning", "--model", "M", "--planner", "cem:sampels=4"], "did you mean 'samples'?"),
        (["planning", "--model", "M", "--planner", "mpii"], "did you mean 'mppi'?"),
        (["planning", "--model", "M", "--planner", "dinowm"], "did you mean 'dino_wm'?; known: random, cem,"),
        (["planning", "--model", "M", "--offsets", "0"], "found [0], expected"),
        (["planning", "--model", "M", "--offsets", "10", "--protocol", "two_room/strict"], "expected 'offset'"),
        (["planning", "--model", "M", "--offsets", "10", "--show", "x"], "found --offsets"),
        (["planning", "--model", "M", "--planner", "inverse"], "no goal-conditioned inverse head"),
        (["planning", "--model", "M", "--cost", "temporal"], "no temporal distance"),
        (["planning", "--model", "M", "--cost", "l3"], "invalid choice: 'l3'"),
        (["planning", "--model", "M", "--horizon", "2", "--execute", "3"], "expected 1 <= execute <= horizon"),
        (["planning", "--model", "M", "--horizon", "0"], "found horizon 0"),
        (["planning", "--model", "M", "--protocol", "point_maze/offset50"], "the raw actions of point_maze: ax, ay"),
        (["planning", "--model", "M", "--compare", "cem", "random", "--show", "x"], "--show is for one planner"),
        (["planning", "--model", "M", "--data", "env:two_room", "--seeds", "2"], "--data is for one planner and one"),
        (["planning", "--model", "M", "--timeout-ms", "9", "--planner", "inverse"], "timeout_ms, expected no settings"),
        (["planning", "--model", "M", "--timeout-ms", "9", "--batch", "2"], "expected a batch of 1"),
        (["planning", "--model", "M", "--timeout-ms=-9"], "timeout_ms: found -9.0"),
        (["planning", "--model", "M", "--timeout-ms", "9", "--data", "env:two_room"], "are for a simulator"),
        (["planning", "--model", "M", "--gap", "3"], "--gap is for --data"),
        (["probe", "--model", "no/such/folder"], "no/such/folder: no such folder, and not a Hub id"),
        (["probe", "--model", "M", "--data", "no/such/data"], "no/such/data"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_line(fails, model, argv, message):
    assert message in fails("eval", *[model if word == "M" else word for word in argv])


# -- plan, data, info, push, pull -------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, file in enumerate(files):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    return files


def test_plan_prints_raw_actions(model, pictures, capsys):
    a, b = pictures
    words = ["plan", "--model", model, "--frame", a, "--goal", b, "--horizon", "2"]
    one, same, other = (json.loads(out_of(capsys, *words, *rest)) for rest in ([], ["--seed", "0"], ["--seed", "1"]))
    actions = np.array(one["actions"])
    assert one["names"] == ["dx", "dy"]
    assert actions.shape == (10, 2)
    radius = WorldModel.from_pretrained(model).codec.bounds.radius
    assert (np.linalg.norm(actions, axis=1) <= radius + 1e-4).all()
    assert one == same
    assert one["actions"] != other["actions"]
    late = json.loads(out_of(capsys, *words, "--timeout-ms", "0"))
    assert (late["timed_out"], late["cost"]) == (True, None)


def test_plan_names_the_file_at_fault(model, pictures, tmp_path, fails):
    a, b = pictures
    Image.new("RGB", (32, 64)).save(tmp_path / "small.png")
    line = fails("plan", "--model", model, "--frame", a, "--goal", tmp_path / "small.png")
    assert line == f"{tmp_path / 'small.png'}: expected 64x64 pixels, found 64x32"
    assert f"{tmp_path / 'none.png'}: not a picture" in fails(
        "plan", "--model", model, "--frame", tmp_path / "none.png", "--goal", b
    )
    assert "--goal" in fails("plan", "--model", model, "--frame", a)
    assert "camera 'image' is given twice" in fails("plan", "--model", model, "--frame", a, "--frame", b, "--goal", b)


def test_info_says_what_a_model_is(model, capsys, fails, tmp_path):
    facts = json.loads(out_of(capsys, "info", model))
    learned = dict(WorldModel.from_pretrained(model).named_parameters())
    tensors = load_file(Path(model) / "model.safetensors")
    expected = sum(tensor.numel() for name, tensor in tensors.items() if name in learned)
    assert facts["parameters"] == expected
    assert facts["format_version"] == 6
    assert facts["model"]["encoder"]["width"] == 24
    assert facts["codec"]["names"] == ["dx", "dy"]
    assert str(tmp_path) in fails("info", tmp_path)


def test_what_does_not_load_is_not_pushed(model, tmp_path, capsys, fails, monkeypatch):
    pushed = []
    monkeypatch.setattr("jepa_actions.models.share.push_folder", lambda *a, **k: pushed.append((a, k)) or "address")
    assert out_of(capsys, "push", model, "me/model", "--private") == "address\n"
    assert pushed == [((model, "me/model"), {"private": True})]
    shutil.copytree(model, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"x")
    assert "model.safetensors: damaged" in fails("push", tmp_path / "damaged", "me/model")
    assert len(pushed) == 1


def test_pull_prints_a_folder_that_loads(model, capsys, fails):
    assert out_of(capsys, "pull", model) == f"{model}\n"
    assert "not a Hub id" in fails("pull", "no such thing")


# -- the command itself ----------------------------------------------------------------------------------------------


def test_an_unknown_command_lists_the_known_ones(fails):
    assert fails("trian").startswith(
        "command: expected one of demo, train, eval, plan, data, runs, info, push, pull, verify, convert, found 'trian'"
    )
    assert "--stps" in fails("demo", "--stps", "4")
    assert "invalid choice: 'phone'" in fails("demo", "--preset", "phone")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(capsys, argv):
    assert "demo, train, eval, plan, data, runs, info, push, pull, verify, convert" in out_of(capsys, *argv)


@pytest.mark.parametrize("command", ["demo", "train", "eval", "plan", "runs", "info", "push", "pull", "convert"])
def test_every_command_answers_help(capsys, command):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"jepa-actions {command}" in capsys.readouterr().out


def test_demo_passes_its_options_on(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr("jepa_actions.evaluation.demo.run_demo", lambda out, **k: seen.update(k, out=out))
    assert main(["demo", "--out", str(tmp_path / "d"), "--steps", "3", "--episodes", "2", "--preset", "gpu"]) == 0
    assert seen == {"out": tmp_path / "d", "preset": "gpu", "steps": 3, "episodes": 2}


def test_a_lag_scan_needs_no_model_and_takes_a_range_that_begins_with_a_minus(tmp_path, capsys):
    for words in (["--scan-lag", "-2:2"], ["--scan-lag=-2:2"]):
        report = tmp_path / "lag.json"
        found = main(["eval", "inverse", "--data", "env:two_room", *words, "--limit", "1200", "--json", str(report)])
        assert found == 0
        assert json.loads(report.read_text())["metrics"]["best_lag"] == {"dx": 0, "dy": 0}
    assert main(["eval", "inverse", "--data", "env:two_room", "--scan-lag", "two"]) == 2
    assert "lag" in capsys.readouterr().err


def test_the_distance_is_evaluated_in_the_world_that_the_model_knows(model, tmp_path, capsys):
    assert main(["eval", "distance", "--model", str(model)]) == 2
    assert "has no temporal distance" in capsys.readouterr().err
    assert main(["eval", "planning", "--model", "checkpoints/reacher", "--protocol", "two_room/offset25"]) == 2
    assert "found a model with actions shoulder, elbow, expected the raw actions of two_room" in capsys.readouterr().err
    path = tmp_path / "distance.json"
    options = ["--model", "checkpoints/reacher", "--pairs", "120", "--json", str(path)]
    pytest.importorskip("mujoco", reason="Reacher needs mujoco (pip install jepa-actions[mujoco])")
    assert "spearman" in out_of(capsys, "eval", "distance", *options)
    report = json.loads(path.read_text())
    assert report["data"] == "env:reacher, heldout"
    assert report["metrics"]["spearman"] > 0.5
