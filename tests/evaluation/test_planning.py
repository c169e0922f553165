import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from known_worlds import BALL, dot_positions
from planning_worlds import StraightLine

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.two_room import TwoRoom
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import RandomAgent
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import load_protocol

SMALL = Control(settings={"samples": 48, "elites": 8, "iterations": 4, "returns": "best"})
FEW = Control(settings={"samples": 4, "elites": 2, "iterations": 1})
OFFSET = load_protocol("two_room/offset25")


@pytest.fixture(scope="module")
def report():
    return evaluate_planning(
        StraightLine(), OFFSET, episodes=60, seeds=2, control=SMALL, untrained=StraightLine(scale=-1.0)
    )


def test_a_good_model_reaches_goals_and_floors_do_not(report):
    assert report["metrics"]["success_rate"] > 0.9
    assert report["oracle"]["success_rate"] >= 0.98
    assert report["floors"]["random"]["success_rate"] < 0.3
    assert report["floors"]["zero"]["success_rate"] == 0.0
    assert report["floors"]["untrained"]["success_rate"] < 0.3
    assert report["metrics"]["mean_final_distance"] < report["floors"]["zero"]["mean_final_distance"] / 3


def test_the_straight_line_floor_reaches_what_no_wall_hides(report):
    floor = report["floors"]["straight"]
    assert floor["success_rate_same_room"] > 0.95  # who stands in the doorway has a wall beside the way
    assert floor["success_rate_other_room"] < floor["success_rate_same_room"]


def test_the_report_has_what_it_promises(report):
    assert json.loads(json.dumps(report))["episodes"] == 120
    assert report["seeds"] == 2
    assert report["protocol"] == "two_room/offset25"
    assert report["protocol_version"] == 2
    assert report["protocol_hash"] == OFFSET.hash
    assert report["metrics"]["model_evaluations_per_decision"] == 48 * 4
    assert 0 < report["metrics"]["ms_per_decision_p50"] <= report["metrics"]["ms_per_decision_p95"]
    assert 0 < report["metrics"]["ms_deciding_p50"] < report["metrics"]["ms_per_decision_p50"]
    assert report["metrics"]["ms_encoding_p50"] > 0
    assert 0 < report["seconds"] < report["seconds_total"]
    assert set(report["hardware"]) >= {"cpu", "cores", "threads", "torch"}
    assert report["commit"]
    assert report["control"]["settings"]["samples"] == 48
    assert (report["control"]["cost"], report["control"]["reduce"]) == ("l2", "last")
    assert (report["control"]["horizon"], report["control"]["history"]) == (5, 1)


def test_rows_seeds_and_intervals_add_up(report):
    rows = report["rows"]
    assert [(row["seed"], row["task"]) for row in rows] == [(s, t) for s in range(2) for t in range(60)]
    ever = np.mean([row["success"] for row in rows])
    assert report["metrics"]["success_rate"] == pytest.approx(ever)
    assert report["metrics"]["success_rate_ever"] == pytest.approx(np.mean([row["success_ever"] for row in rows]))
    assert np.mean([one["success_rate"] for one in report["per_seed"]]) == pytest.approx(ever)
    low, high = report["ci95"]["success_rate"]
    assert low < ever <= high
    assert report["metrics"]["success_rate"] >= report["metrics"]["success_rate_end"]
    assert 0.3 < report["metrics"]["path_efficiency"] <= report["metrics"]["success_rate"]
    for other, name in ((False, "success_rate_same_room"), (True, "success_rate_other_room")):
        assert report["metrics"][name] == np.mean([row["success"] for row in rows if row["other_room"] == other])
    assert 0 < sum(row["other_room"] for row in rows) < len(rows)
    distance = np.array([row["final_distance"] for row in rows])
    assert ((distance <= 4.5) == np.array([row["success_end"] for row in rows])).all()


def test_the_success_rate_is_by_the_protocol_s_rule():
    strict = replace(OFFSET, rule="end", route_valid=True, floors=("zero",))
    report = evaluate_planning(StraightLine(), strict, episodes=12, control=SMALL, oracle=False)
    assert report["metrics"]["success_rate"] == report["metrics"]["success_rate_end"]
    assert report["metrics"]["route_valid"] == 1.0
    assert set(report["floors"]) == {"zero"}
    assert "oracle" not in report


def test_a_model_that_promises_too_much_is_found_out():
    """Twice as fast in imagination: the last plan says it will be there."""
    strict = replace(OFFSET, budget=15, floors=())
    honest, boasting = (
        evaluate_planning(StraightLine(scale=scale), strict, episodes=20, control=SMALL, oracle=False)["metrics"]
        for scale in (1.0, 3.0)
    )
    gap = boasting["realised_final_cost"] - boasting["predicted_final_cost"]
    assert gap > 3 * abs(honest["realised_final_cost"] - honest["predicted_final_cost"])


def test_the_simulator_is_the_oracle_s_alone(monkeypatch):
    def forbidden(*args):
        raise AssertionError("the simulator was asked")

    monkeypatch.setattr(TwoRoomWorld, "step_states", forbidden)
    options = {"episodes": 4, "control": SMALL}
    assert evaluate_planning(StraightLine(), OFFSET, oracle=False, **options)["metrics"]["success_rate"] > 0
    with pytest.raises(AssertionError, match="the simulator was asked"):
        evaluate_planning(StraightLine(), OFFSET, oracle=True, **options)


def test_a_task_does_not_depend_on_how_many_are_played():
    few, many = (
        evaluate_planning(StraightLine(), OFFSET, episodes=n, control=SMALL, oracle=False)["rows"] for n in (3, 12)
    )
    assert few == many[:3]


def test_history_brings_past_frames_and_the_actions_between_them():
    model = StraightLine()
    evaluate_planning(model, OFFSET, episodes=2, control=replace(FEW, execute=2), history=3, oracle=False)
    shapes = [(frames.shape[1], 0 if past is None else past.shape[1]) for frames, past in model.encoded]
    assert shapes == [(1, 0), (3, 2), (3, 2), (3, 2), (3, 2)]
    frames, past = model.encoded[-1]
    places = dot_positions(frames)
    moved, commanded = places.diff(dim=1), BALL.decode(past).sum(dim=-2)
    assert ((moved - commanded).norm(dim=-1) < 0.3).any(), "no wall in the way: the frames follow the actions"


def test_the_budget_counts_environment_steps_exactly(monkeypatch):
    steps = []
    step = TwoRoom.step
    monkeypatch.setattr(TwoRoom, "step", lambda self, action: (steps.append(1), step(self, action))[1])
    evaluate_planning(StraightLine(), replace(OFFSET, budget=13), episodes=2, control=FEW, oracle=False)
    assert len(steps) == 4 * 13  # the model, and the random, zero and straight floors


def test_random_actions_fill_the_bounds():
    ball = RandomAgent(ActionBounds("ball", radius=1.8), 2, 4000, [0]).act(None)[0]
    assert ball.norm(dim=-1).max() <= 1.8
    assert (ball.norm(dim=-1) < 1.8 / 2**0.5).float().mean() == pytest.approx(0.5, abs=0.03)
    box = RandomAgent(ActionBounds("box", low=(-1.0, 0.0), high=(1.0, 3.0)), 2, 4000, [0]).act(None)[0]
    assert torch.allclose(box.amin(0), torch.tensor([-1.0, 0.0]), atol=0.01)
    assert torch.allclose(box.amax(0), torch.tensor([1.0, 3.0]), atol=0.01)


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="found seeds 0"):
        evaluate_planning(StraightLine(), OFFSET, seeds=0)
    with pytest.raises(ConfigError, match="found a model with no codec"):
        evaluate_planning(StraightLine(codec=None), OFFSET)
    three = ActionCodec(
        ("x", "y", "z"), 1, np.zeros(3, np.float32), np.ones(3, np.float32), ActionBounds("ball", radius=1.0)
    )
    with pytest.raises(ConfigError, match="found a model with actions x, y, z"):
        evaluate_planning(StraightLine(codec=three), OFFSET)
    arm = replace(BALL, names=("shoulder", "elbow"))
    with pytest.raises(ConfigError, match="actions shoulder, elbow, expected the raw actions of two_room: dx, dy"):
        evaluate_planning(StraightLine(codec=arm), OFFSET)
    with pytest.raises(ConfigError, match="this model has no temporal distance"):
        evaluate_planning(StraightLine(), OFFSET, control=Control(cost="temporal"))
    with pytest.raises(ConfigError, match="no goal-conditioned inverse head"):
        evaluate_planning(StraightLine(), OFFSET, control=Control(planner="inverse"), episodes=1)
