"""Real time in an evaluation: every plan has so many milliseconds, tasks are planned one by one, the report says so."""

import json
import math
import time
from dataclasses import replace

import pytest
from planning_worlds import StraightLine

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.compare import compare_planning, comparison_table
from jepa_actions.evaluation.control import Control, parse_control
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import load_protocol

RULES = replace(load_protocol("two_room/offset25"), floors=("zero",), budget=15, episodes=3)


class Slow(StraightLine):
    """A rollout takes 10 ms, however many candidates there are."""

    def __init__(self):
        super().__init__()
        self.problems: set[int] = set()

    def rollout(self, context, actions, generator=None):
        time.sleep(0.01)
        self.problems.add(len(actions))
        return super().rollout(context, actions, generator)


def played(words, **options):
    model = Slow()
    return evaluate_planning(model, RULES, control=parse_control(words), oracle=False, **options), model


def test_plans_end_with_their_time_and_the_milliseconds_are_one_task_s():
    report, model = played("cem:samples=16,elites=4,iterations=40,timeout_ms=60")
    metrics = report["metrics"]
    assert model.problems == {1}, "the clock is one task's"
    assert (metrics["timed_out"], metrics["unsearched"]) == (1.0, 0.0)
    assert 16 <= metrics["model_evaluations_per_decision"] < 16 * 8, "40 iterations are 400 ms"
    assert 55 <= metrics["ms_deciding_p50"] <= metrics["ms_deciding_p95"]
    assert metrics["ms_deciding_p50"] < 250
    assert report["control"]["timeout_ms"] == 60.0
    assert json.loads(json.dumps(report))["episodes"] == 3


def test_enough_time_is_as_without_a_clock():
    words = "cem:samples=16,elites=4,iterations=2"
    timed, free = (played(f"{words}{rest}")[0] for rest in (",timeout_ms=60000", ""))
    assert (timed["metrics"]["timed_out"], timed["metrics"]["unsearched"]) == (0.0, 0.0)
    assert timed["rows"] == free["rows"]
    assert "timed_out" not in free["metrics"]


def test_no_time_for_one_iteration_executes_the_warm_start_and_says_so():
    report, model = played("cem:timeout_ms=0")
    metrics = report["metrics"]
    assert model.problems == set(), "nobody asked the model"
    assert (metrics["timed_out"], metrics["unsearched"], metrics["model_evaluations_per_decision"]) == (1.0, 1.0, 0.0)
    assert "predicted_final_cost" not in metrics, "an infinite promise is none"
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["success_rate"] == report["floors"]["zero"]["success_rate"] == 0.0


def test_a_comparison_says_what_the_clock_cut_short():
    words = ["cem:samples=16,elites=4,iterations=1", "cem:timeout_ms=0"]
    report = compare_planning(StraightLine(), RULES, {w: parse_control(w) for w in words})
    lines = comparison_table(report).splitlines()
    assert lines[3].endswith("timed out 1.00, unsearched 1.00")
    assert "timed out" not in lines[2]


def test_how_many_tasks_are_planned_together_changes_nothing():
    words = "cem:samples=16,elites=4,iterations=2"
    all_at_once, two = (played(words, batch=batch) for batch in (None, 2))
    assert all_at_once[0]["rows"] == two[0]["rows"]
    assert (all_at_once[1].problems, two[1].problems) == ({3}, {1, 2})
    for name in ("success_rate", "realised_final_cost", "model_evaluations_per_decision"):
        assert all_at_once[0]["metrics"][name] == two[0]["metrics"][name]


@pytest.mark.parametrize("timeout", [-1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigError, match=r"planner cem, timeout_ms: found (-1\.0|nan|inf), expected 0 or more"):
        Control(timeout_ms=timeout)


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="found timeout_ms, expected no settings of a search: it is a policy"):
        parse_control("inverse:timeout_ms=10")
    with pytest.raises(ConfigError, match="timeout_ms 10 and batch 2, expected a batch of 1"):
        played("cem:timeout_ms=10", batch=2)
    with pytest.raises(ConfigError, match="batch 0, expected at least 1"):
        played("cem", batch=0)
