"""What the released heads are worth when they decide: drawn actions find the door where the mean stays at the wall."""

from pathlib import Path

import pytest

from jepa_actions.evaluation.compare import compare_planning
from jepa_actions.evaluation.control import parse_control
from jepa_actions.models import WorldModel

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "two_room_goals"


@pytest.fixture(scope="module")
def report():
    model = WorldModel.from_pretrained(CHECKPOINT)
    controls = ["inverse", "inverse:noise=0", "subgoal:noise=1.5", "subgoal:noise=0"]
    found = {words: parse_control(words) for words in controls}
    return compare_planning(model, "two_room/cross_room", found, episodes=60, history=model.history)


@pytest.mark.parametrize("policy", ["inverse", "subgoal:noise=1.5"])
def test_drawn_actions_reach_the_other_room(report, policy):
    success = {words: metrics["success_rate"] for words, metrics in report["metrics"].items()}
    assert success[policy] >= 0.85
    assert success[policy] >= success[f"{policy.split(':')[0]}:noise=0"] + 0.05
    assert report["floors"]["straight"]["success_rate"] <= 0.2
