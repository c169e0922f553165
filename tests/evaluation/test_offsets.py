"""Success over how far the goal is."""

import json
from dataclasses import replace

import pytest
from planning_worlds import StraightLine

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import parse_control
from jepa_actions.evaluation.offsets import curves_over_offsets, offset_table, plot_offsets, with_offsets
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import load_protocol

OFFSET = load_protocol("two_room/offset25")
CONTROLS = {words: parse_control(words) for words in ("cem:evaluations=64", "random:samples=2,iterations=1,elites=1")}


@pytest.fixture(scope="module")
def rules():
    return [replace(one, episodes=12) for one in with_offsets(OFFSET, [40, 10])]


@pytest.fixture(scope="module")
def report(rules):
    return curves_over_offsets(StraightLine(), rules, CONTROLS)


def test_a_published_protocol_is_taken_where_there_is_one():
    assert with_offsets("two_room/offset25", [25, 50, 100]) == [
        load_protocol(f"two_room/offset{offset}") for offset in (25, 50, 100)
    ]
    (strict,) = with_offsets(replace(OFFSET, rule="end", episodes=7), [50])
    assert strict == replace(load_protocol("two_room/offset50"), rule="end", episodes=7), "what was changed stays so"
    (train,) = with_offsets("point_maze/offset50_train", [50])
    assert train == load_protocol("point_maze/offset50_train")


def test_any_other_has_twice_the_offset_and_the_same_rules():
    near, far = with_offsets("reacher/offset25", [10, 150])
    base = load_protocol("reacher/offset25")
    assert (near.name, near.offset, near.budget) == ("reacher/offset10", 10, 20)
    assert (far.name, far.offset, far.budget, far.behaviour.steps) == ("reacher/offset150", 150, 300, 180)
    assert near == replace(base, name=near.name, offset=10, budget=20)
    assert len({base.hash, near.hash, far.hash}) == 3
    (other,) = with_offsets("two_room/lewm50", [10])
    assert (other.name, other.exclude_solved) == ("two_room/lewm50_offset10", False)


def test_each_offset_is_what_it_is_alone(report, rules):
    far, near = rules
    assert {name: [*success] for name, success in report["metrics"].items()} == {
        name: ["10", "40"] for name in CONTROLS
    }
    for name, control in CONTROLS.items():
        alone = evaluate_planning(StraightLine(), far, control=control, oracle=False)
        assert report["metrics"][name]["40"] == alone["metrics"]["success_rate"]
        assert report["ci95"][name]["40"] == list(alone["ci95"]["success_rate"])
        assert report["curves"][name]["path_efficiency"]["40"] == alone["metrics"]["path_efficiency"]
        assert report["floors"]["random"]["40"] == alone["floors"]["random"]["success_rate"]
    assert report["protocol_hash"] == {"10": near.hash, "40": far.hash}
    assert [row["offset"] for row in report["rows"]] == [10] * 24 + [40] * 24
    assert json.loads(json.dumps(report)) == report
    assert report["episodes"] == 24


def test_the_table_has_a_line_per_control_and_offset(report):
    lines = [line.split() for line in offset_table(report).splitlines()[1:]]
    expected = [*CONTROLS, *report["floors"]]
    assert [(line[0], line[1]) for line in lines] == [(name, offset) for name in expected for offset in ("10", "40")]
    assert lines[1][2] == f"{report['metrics']['cem:evaluations=64']['40']:.3f}"


def test_the_plot_has_a_line_per_control_and_floor(report, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k)))
    assert plot_offsets(report, tmp_path / "deep" / "offsets.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = kept[0].axes
    drawn = {tuple(float(y) for y in line.get_ydata()) for line in axes.lines}
    for values in (*report["metrics"].values(), *report["floors"].values()):
        assert tuple(values.values()) in drawn
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {*CONTROLS, *report["floors"]}


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match=r"found offsets \[25, 25\]"):
        curves_over_offsets(StraightLine(), [OFFSET, OFFSET], CONTROLS)
    with pytest.raises(ConfigError, match=r"found offsets \[None\]"):
        curves_over_offsets(StraightLine(), ["two_room/cross_room"], CONTROLS)
    with pytest.raises(ConfigError, match="sampler: found 'cross_room', expected 'offset'"):
        with_offsets("two_room/cross_room", [25])
    with pytest.raises(ConfigError, match=r"found \[10, 0\], expected at least one"):
        with_offsets("two_room/offset25", [10, 0])
