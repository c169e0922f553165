"""Grids of trainings: what their files say, that rows are not done twice, and what the tables make of rows."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "eval"))  # where the scripts find their modules

import ablation  # noqa: E402
import distractors  # noqa: E402
from cells import score  # noqa: E402
from cells.clock import Clock  # noqa: E402
from cells.options import best_trial  # noqa: E402
from cells.rows import Rows, mean_and_spread  # noqa: E402
from cells.spec import read_grid  # noqa: E402

from jepa_actions.errors import ConfigError, DataError  # noqa: E402
from jepa_actions.evaluation.heads import FitBudget, fit_head  # noqa: E402

GRID = read_grid(REPOSITORY / "eval" / "ablation.yaml")
ROOMS = distractors.read_rooms(REPOSITORY / "eval" / "distractors.yaml")
TINY = {
    "data.env.episodes": 20,
    "data.env.heldout_episodes": 8,
    "data.env.steps": 30,
    "model.encoder": {"image_size": [64, 64], "patch": 16, "width": 24, "depth": 1, "heads": 2},
    "model.pooler": {"dim": 16, "heads": 2},
    "model.predictor": {"width": 24, "depth": 1, "heads": 2},
    "model.dynamics.width": 16,
    "model.inverse.width": 16,
    "train.batch_size": 4,
}


@pytest.fixture(autouse=True)
def one_thread_and_a_short_fit(monkeypatch):
    monkeypatch.setattr(score, "fit_head", partial(fit_head, budget=FitBudget(3, 32, 1e-3, 0.0)))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tiny_grid(tmp_path: Path, **change: object) -> Path:
    """Two cells that take seconds, the second in two stages."""
    first = {"objectives.forward": None, "objectives.inverse": None, "objectives.sigreg": None}
    stages = [
        {"share": 0.5, "set": first},
        {"share": 0.5, "set": {"objectives.masked": None, "train.freeze_encoder": True}},
    ]
    values = {
        "recipe": "vjepa/two_room",
        "choices": {"sigreg": {"set": {}, "trials": [{"train.lr": 1e-3}, {"train.lr": 1e-4}]}},
        "cells": {
            "one": {"choice": "sigreg", "set": TINY | {"data.env.distractors.texture": 64.0}},
            "two": {"choice": "sigreg", "set": TINY, "stages": stages},
        },
        "gains": {"a part": ["one", "two"]},
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(values | change, sort_keys=False))
    return path


# -- files ------------------------------------------------------------------------------------------------------------


def test_every_cell_and_setting_of_the_ablation_is_a_recipe():
    for cell in GRID.cells.values():
        for trial in range(len(GRID.choices[cell.choice].trials)):
            for stage in range(len(cell.stages)):
                assert GRID.config(cell, stage, trial).data.path == "env:two_room"


def config(name: str, stage: int = 0):
    return GRID.config(GRID.cells[name], stage, 0)


def test_the_cells_are_what_they_are_called():
    default = config("default")
    assert default.objectives.masked is not None
    assert default.objectives.inverse is not None
    assert default.objectives.sigreg.weight == 1.0
    assert config("no_masked").objectives.masked is None
    assert config("texture_no_masked").data.env.distractors.texture == 64.0
    assert config("few_labels").data.label.episodes == 50
    for name in ("vicreg", "ema", "none"):
        assert config(name).objectives.sigreg is None
        assert config(f"{name}_no_inverse").objectives.inverse is None
    assert config("vicreg").objectives.vicreg is not None
    assert config("ema").objectives.forward.target == "ema"
    assert config("none").objectives.vicreg is None
    assert config("none").objectives.forward.target == "online"
    first, second = config("masked_frozen"), config("masked_frozen", 1)
    assert (first.objectives.forward, first.objectives.inverse, first.objectives.sigreg) == (None, None, None)
    assert second.train.freeze_encoder
    assert second.objectives.masked is None
    assert config("random_frozen").train.freeze_encoder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": {"one": {"choice": "sigrig"}}}, r"cells\.one: found choice 'sigrig', expected one of sigreg"),
        ({"cells": {"one": {"choice": "sigreg", "sets": {}}}}, r"cells\.one: found choice, sets, expected choice, set"),
        ({"gains": {"x": ["one", "three"]}}, r"gains\.x: found cell 'three', expected one of one, two"),
        ({"choices": {"a": {"set": {}, "trials": []}}}, r"choices: found trials a 0, expected equally many"),
        (
            {"choices": {"a": {"set": {}, "trials": [{}]}, "b": {"set": {}, "trials": [{}, {}]}}},
            r"choices: found trials a 1, b 2",
        ),
        (
            {"cells": {"one": {"choice": "sigreg", "stages": [{"share": 0.7, "set": {}}]}}},
            r"cells\.one: found shares \[0\.7\], expected 1 together",
        ),
        ({"extra": 1}, "file: found .*extra"),
    ],
)
def test_a_grid_that_cannot_be_names_its_key(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        read_grid(tiny_grid(tmp_path, **change))


def test_a_key_that_no_recipe_has_names_the_cell(tmp_path):
    grid = read_grid(tiny_grid(tmp_path, cells={"one": {"choice": "sigreg", "set": {"train.stebs": 3}}}, gains={}))
    with pytest.raises(ConfigError, match=r"cell 'one': .*train\.stebs.*did you mean train\.steps"):
        grid.config(grid.cells["one"], 0, 0)


def test_every_room_is_trained_in_and_the_plain_room_s_model_is_shown_every_one():
    for choice in ROOMS.cells:
        for room in ROOMS.trained:
            cell = ROOMS.cell(choice, room)
            shown = ROOMS.grid.config(cell, 0, 0).data.env.distractors
            assert (shown is None) == (room == "plain")
            assert room in ROOMS.played(room)
    assert ROOMS.cell("sigreg", "plain") is GRID.cells["default"] or ROOMS.cell("sigreg", "plain").name == "default"
    assert set(ROOMS.trained) | set(ROOMS.recoloured) <= set(ROOMS.played("plain"))
    assert ROOMS.played("background")["background, goal shares it"]["shared_goal"] is True
    assert set(ROOMS.bars) <= set(ROOMS.played("plain"))


# -- rows and clock ---------------------------------------------------------------------------------------------------


def test_rows_are_lines_that_others_may_add_to(tmp_path):
    rows = Rows(tmp_path / "deep" / "rows.jsonl")
    assert rows.read() == []
    rows.append({"cell": "a", "seed": 0})
    rows.append({"cell": "a", "seed": 1})
    assert Rows(rows.path).read(seed=1) == [{"cell": "a", "seed": 1}]
    assert rows.has(cell="a", seed=0)
    assert not rows.has(cell="b")
    with rows.path.open("a") as file:
        file.write('{"cell": "a", ')
    with pytest.raises(DataError, match=r"rows\.jsonl: line 3: not JSON"):
        rows.read()


def test_means_and_spreads_by_hand():
    assert mean_and_spread([0.5, 0.7, 0.9]) == "0.700 ± 0.200"
    assert mean_and_spread([0.5]) == "0.500"
    assert mean_and_spread([]) == "-"


def test_the_best_setting_solves_most_and_then_knows_best_where_the_agent_is():
    rows = [
        {"trial": 0, "cross_room": 0.2, "offset100": 0.6, "probe_px": 1.0},
        {"trial": 1, "cross_room": 0.5, "offset100": 0.3, "probe_px": 0.5},
        {"trial": 2, "cross_room": 0.3, "offset100": 0.5, "probe_px": 0.7},
    ]
    assert best_trial(rows) == 1
    assert best_trial(rows[::2]) == 2


def test_the_clock_is_read_once_and_counts_what_training_costs(tmp_path):
    torch.set_num_threads(1)
    grid = read_grid(tiny_grid(tmp_path))
    clock = Clock(Rows(tmp_path / "clock.jsonl"), 1, chunk=2)
    steps, per_step = clock.steps("one", grid.config(grid.cells["one"], 0, 0), 10.0)
    assert steps == max(1, round(10.0 / per_step))
    assert 1e-4 < per_step < 10
    again = Clock(Rows(tmp_path / "clock.jsonl"), 1).steps("one", grid.config(grid.cells["one"], 0, 0), 5.0)
    assert again == (max(1, round(5.0 / per_step)), per_step)
    assert len(clock.rows.read()) == 1


@pytest.mark.slow
def test_clocks_are_read_before_anything_is_trained(tmp_path, capsys):
    argv = ["--grid", str(tiny_grid(tmp_path)), *words(tmp_path, "ablation")]
    ablation.main([*argv, "--clock"])
    rows = Rows(tmp_path / "ablation" / "clock.jsonl").read()
    assert [row["cell"] for row in rows] == ["one/0", "two/0", "two/1"]
    assert "two, stage 1: " in capsys.readouterr().out
    assert not (tmp_path / "ablation" / "runs.jsonl").exists()


# -- the commands -----------------------------------------------------------------------------------------------------


def words(tmp_path: Path, name: str) -> list[str]:
    short = ["--steps", "2", "--tasks", "2", "--planner", "random:samples=4,elites=2", "--out", str(tmp_path / "runs")]
    return [*short, "--results", str(tmp_path / name)]


def test_what_is_tried_and_trained_is_not_done_again(tmp_path, monkeypatch):
    """Without the training: which runs are asked for, and which settings they get."""
    asked = []

    def train(grid, cell, *, seed, trial, **rest):
        asked.append((cell.name, seed, trial))
        return SimpleNamespace(facts={"steps": [2]})

    def scored(run, control, *, tasks, tuning):
        return {"cross_room": 0.1 * asked[-1][2], "offset100": 0.0, "inverse_r2": 0.0, "probe_px": 1.0}

    monkeypatch.setattr(ablation, "train_cell", train)
    monkeypatch.setattr(ablation, "score", scored)
    argv = ["--grid", str(tiny_grid(tmp_path)), *words(tmp_path, "ablation")]
    ablation.main([*argv, "--only", "one", "--seeds", "0", "1"])
    tuning = [("one", ablation.TUNING_SEED, 0), ("one", ablation.TUNING_SEED, 1)]
    assert asked == [*tuning, ("one", 0, 1), ("one", 1, 1)], "the second setting is the better"
    asked.clear()
    ablation.main([*argv, "--only", "one", "--seeds", "0", "1", "2"])
    assert asked == [("one", 2, 1)]
    asked.clear()
    ablation.main([*argv, "--untuned", "--seeds", "0"])
    assert asked == [("two", 0, 0)]
    asked.clear()
    ablation.main([*argv, "--only", "one", "--seeds", "0", "--steps", "3"])
    assert asked[-1] == ("one", 0, 1), "another length is another run"
    with pytest.raises(ConfigError, match=r"--only: found 'thre', expected some of one, two"):
        ablation.main([*argv, "--only", "thre"])


@pytest.mark.slow
def test_the_ablation_tunes_trains_and_does_nothing_twice(tmp_path, capsys, monkeypatch):
    argv = ["--grid", str(tiny_grid(tmp_path)), "--trial-tasks", "3", *words(tmp_path, "ablation")]
    ablation.main([*argv, "--only", "one", "--seeds", "0"])
    rows = Rows(tmp_path / "ablation" / "runs.jsonl").read()
    trials = Rows(tmp_path / "ablation" / "trials.jsonl").read()
    assert [(row["cell"], row["seed"], row["tuned"], row["fixed"]) for row in rows] == [("one", 0, True, 2)]
    assert [row["trial"] for row in trials] == [0, 1]
    assert rows[0]["trial"] == best_trial(trials)
    assert trials[0]["cross_room_hash"] != rows[0]["cross_room_hash"], "tuned on other tasks"
    assert set("01") >= set(rows[0]["offset100_solved"])
    assert len(rows[0]["offset100_solved"]) == 2
    assert len(trials[0]["offset100_solved"]) == 3
    assert rows[0]["steps"] == [2]
    assert {"inverse_r2", "own_inverse_r2", "probe_px", "seconds_training", "hardware", "commit"} <= set(rows[0])
    ablation.main([*argv, "--only", "two", "--seeds", "0", "--untuned"])
    capsys.readouterr()
    monkeypatch.setattr(ablation, "train_cell", None)  # whoever trains now fails
    ablation.main([*argv, "--seeds", "0"])
    printed = capsys.readouterr().out
    assert "| one |" in printed
    assert "| a part |" in printed
    assert "2+2" in printed, "two stages"


@pytest.mark.slow
def test_rooms_are_trained_in_and_shown_and_nothing_is_done_twice(tmp_path, capsys, monkeypatch):
    tiny_grid(tmp_path)
    values = {
        "grid": "grid.yaml",
        "cells": {"sigreg": "one"},
        "default": "sigreg",
        "trained": {"plain": {}, "moving_dot": {"moving_dot": True}},
        "shared_goal": [],
        "recoloured": {"light": {"floor": [200, 200, 200]}},
        "bars": {"moving_dot": 0.05},
    }
    (tmp_path / "rooms.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    argv = ["--rooms", str(tmp_path / "rooms.yaml"), "--tuned", str(tmp_path), *words(tmp_path, "rooms")]
    distractors.main([*argv, "--seeds", "0"])
    rows = Rows(tmp_path / "rooms" / "runs.jsonl").read()
    found = [(row["trained"], row["played"]) for row in rows]
    assert found == [("plain", "plain"), ("plain", "moving_dot"), ("plain", "light"), ("moving_dot", "moving_dot")]
    assert len({row["offset25_hash"] for row in rows}) == 3, "three rooms"
    assert rows[0]["own_inverse_r2"] != rows[2]["own_inverse_r2"]
    capsys.readouterr()
    monkeypatch.setattr(distractors, "train_cell", None)
    distractors.main([*argv, "--seeds", "0"])
    assert "| sigreg | plain | light |" in capsys.readouterr().out


def test_a_room_that_cannot_be_names_its_key(tmp_path):
    tiny_grid(tmp_path)
    values = yaml.safe_load((REPOSITORY / "eval" / "distractors.yaml").read_text())
    values |= {"grid": "grid.yaml", "cells": {"sigreg": "one"}, "recoloured": {"light": {"flor": [1, 2, 3]}}}
    (tmp_path / "rooms.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"recoloured\.light.*flor.*floor"):
        distractors.read_rooms(tmp_path / "rooms.yaml")


# -- tables -----------------------------------------------------------------------------------------------------------


def test_the_ablation_s_table_pairs_seeds():
    def row(cell, seed, cross):
        figures = {"cross_room": cross, "offset100": 0.5, "inverse_r2": 0.9, "probe_px": 1.0}
        return {"cell": cell, "seed": seed, "steps": [10], "tuned": True, **figures}

    rows = [row("default", 0, 0.5), row("default", 1, 0.7), row("no_masked", 0, 0.4), row("no_masked", 1, 0.65)]
    rows.append(row("no_masked", 2, 0.0))  # no partner
    text = ablation.table(GRID, rows)
    assert "| default | 0.600 ± 0.141 | 0.500 ± 0.000 |" in text
    assert "| masked term | +0.075 (+0.100 +0.050) |" in text
    assert "inverse term" not in text


def test_the_table_of_rooms_says_what_is_lost_and_whether_that_is_within_the_bar():
    def row(trained, played, seed, solved):
        figures = {"offset25": solved, "cross_room": 0.3, "own_inverse_r2": 0.9}
        return {"choice": "sigreg", "trained": trained, "played": played, "seed": seed, **figures}

    rows = [row("plain", "plain", 0, 0.9), row("plain", "plain", 1, 0.8)]
    rows += [row("noise", "noise", 0, 0.88), row("noise", "noise", 1, 0.78), row("plain", "light", 0, 0.5)]
    lines = distractors.table(ROOMS, rows, ["two_room/offset25", "two_room/cross_room"]).splitlines()
    (noise,) = (line for line in lines if line.startswith("| sigreg | noise | noise |"))
    assert "0.830 ± 0.071 | 0.020 ± 0.000 (within 0.05)" in noise
    (light,) = (line for line in lines if "| light |" in line)
    assert "| 0.500 | 0.400 (over 0.10) |" in light


def test_published_rows_are_of_cells_that_there_are():
    for folder, cells in (("ablation", set(GRID.cells)), ("distractors", set(ROOMS.cells))):
        path = REPOSITORY / "eval" / "results" / folder / "runs.jsonl"
        for line in path.read_text().splitlines() if path.is_file() else []:
            row = json.loads(line)
            assert row.get("cell", row.get("choice")) in cells
