import json

import numpy as np
import pytest
from PIL import Image
from planning_worlds import StraightLine

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.compare import compare_planning, comparison_table, plot_comparison
from jepa_actions.evaluation.control import parse_control
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.statistics import paired_bootstrap

OFFSET = load_protocol("two_room/offset25")
SPECS = ("cem:evaluations=192", "cem:evaluations=16", "random:samples=2,iterations=1,elites=1,horizon=2", "inverse")
CONTROLS = {words: parse_control(words) for words in SPECS}


@pytest.fixture(scope="module")
def report():
    return compare_planning(StraightLine(goals=True), OFFSET, CONTROLS, episodes=12, seeds=2)


def test_every_control_plays_the_tasks_that_it_plays_alone(report):
    alone = evaluate_planning(
        StraightLine(goals=True), OFFSET, control=CONTROLS[SPECS[1]], episodes=12, seeds=2, oracle=False
    )
    rows = [row for row in report["rows"] if row["control"] == SPECS[1]]
    assert rows == [{"control": SPECS[1], **row} for row in alone["rows"]]
    for key in ("success_rate", "path_efficiency", "realised_final_cost", "model_evaluations_per_decision"):
        assert report["metrics"][SPECS[1]][key] == alone["metrics"][key]
    assert report["floors"] == alone["floors"]
    assert report["protocol_hash"] == alone["protocol_hash"] == OFFSET.hash
    assert len({row["shortest_path"] for row in report["rows"]}) <= 24


def test_differences_are_paired_with_the_first(report):
    solved = {name: np.array([r["success"] for r in report["rows"] if r["control"] == name], float) for name in SPECS}
    assert all(len(column) == 24 for column in solved.values())
    assert report["first"] == SPECS[0]
    assert "success_difference" not in report["metrics"][SPECS[0]]
    for name in SPECS[1:]:
        found = paired_bootstrap(solved[name], solved[SPECS[0]], seed=0)
        assert report["metrics"][name]["success_difference"] == pytest.approx(found.estimate)
        assert report["ci95"][name]["success_difference"] == [found.low, found.high]
    assert report["metrics"][SPECS[2]]["success_difference"] < 0
    assert report["ci95"][SPECS[2]]["success_difference"][1] < 0, "two candidates are far too few"


def test_the_report_has_what_it_promises(report):
    assert json.loads(json.dumps(report)) == report
    assert (report["episodes"], report["seeds"], report["protocol"]) == (24, 2, "two_room/offset25")
    assert set(report) >= {"hardware", "commit", "seconds", "seconds_total", "controls"}
    assert set(report["floors"]) == {"random", "zero", "straight"}
    for metrics in report["metrics"].values():
        assert all(isinstance(value, float) for value in metrics.values())
        assert 0 < metrics["ms_encoding_p50"] <= metrics["ms_per_decision_p50"] <= metrics["ms_per_decision_p95"]
    assert report["metrics"]["inverse"]["model_evaluations_per_decision"] == 0
    assert report["controls"]["inverse"]["planner"] == "inverse"


def test_the_table_names_every_control_and_floor(report):
    lines = comparison_table(report).splitlines()
    assert lines[0] == "two_room/offset25, 24 tasks"
    assert [line.split()[0] for line in lines[2:]] == [*SPECS, "random", "zero", "straight"]
    for line, name in zip(lines[2:], SPECS, strict=False):
        assert f"{report['metrics'][name]['success_rate']:.3f}" in line
    assert f"{report['metrics'][SPECS[2]]['success_difference']:+.3f}" in lines[4]


def test_the_plot_shows_all_controls(report, tmp_path):
    from matplotlib.figure import Figure

    kept = []
    save = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Figure, "savefig", lambda self, *args, **options: (kept.append(self), save(self, *args, **options))
        )
        path = plot_comparison(report, tmp_path / "deep" / "plot.png")
    assert Image.open(path).size[0] > 600
    (axes,) = kept[0].axes
    assert axes.get_xscale() == "log"
    curves = [container.lines[0] for container in axes.containers]
    assert sorted(len(line.get_xdata()) for line in curves) == [1, 1, 2], "the two budgets of CEM are one curve"
    shown = {(float(x), float(y)) for line in curves for x, y in zip(*line.get_data(), strict=True)}
    metrics = report["metrics"].values()
    assert shown == {(m["ms_per_decision_p50"], m["success_rate"]) for m in metrics}
    texts = [text.get_text() for text in axes.texts]
    assert {"random:samples=2,iterations=1,elites=1,horizon=2", "inverse", "192", "16"} <= set(texts)
    assert sum(text.startswith(("random 0", "zero 0", "straight 0", "straight 1")) for text in texts) == 3


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="found 0 controls"):
        compare_planning(StraightLine(), OFFSET, {}, episodes=2)
    with pytest.raises(ConfigError, match="1 tasks"):
        compare_planning(StraightLine(), OFFSET, CONTROLS, episodes=1)
    with pytest.raises(ConfigError, match="no temporal distance"):
        compare_planning(StraightLine(), OFFSET, {"cem": parse_control("cem:cost=temporal")}, episodes=2)
