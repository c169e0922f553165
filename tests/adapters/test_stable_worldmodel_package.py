"""The adapter against stable-worldmodel 0.1.1 itself, in an environment of its own.

`JEPA_ACTIONS_SWM_PYTHON` names a Python that has it beside this package, or says `install` (about 7 GB, minutes, a
temporary folder).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_environment import python_with

pytestmark = pytest.mark.slow
VARIABLE = "JEPA_ACTIONS_SWM_PYTHON"
HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent


@pytest.fixture(scope="session")
def swm_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with stable-worldmodel 0.1.1 and this package."""
    requirements = ["--editable", f"{REPOSITORY}[stable-worldmodel]"]
    return python_with("stable-worldmodel 0.1.1", VARIABLE, requirements, tmp_path_factory)


@pytest.fixture
def run(swm_python: str, tmp_path: Path) -> Any:
    """Runs a check of stable_worldmodel_runs.py there, without a screen."""

    def check(name: str) -> Any:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {
            "SDL_VIDEODRIVER": "dummy",
            "STABLEWM_HOME": str(tmp_path),
        }
        command = [swm_python, str(HERE / "stable_worldmodel_runs.py"), name, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=3000)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return check


def test_its_solvers_optimise_our_model_and_its_world_plays_what_they_find(run):
    found = run("solvers")
    assert set(found) == {
        f"{name}_{units}" for name in ("cem", "cem_batched", "icem", "mppi", "gradient") for units in ("raw", "model")
    }
    assert all(all(solved) for solved in found.values()), found


def test_our_planners_play_in_its_world(run):
    found = run("controls")
    assert set(found) == {"cem", "icem", "mppi", "gradient", "inverse"}
    assert all(all(solved) for solved in found.values()), found


def test_its_episodes_may_end_one_by_one(run):
    found = run("episodic")
    assert len(found["successes"]) == 5
    assert sum(found["successes"]) >= 3, "targets behind the wall are out of reach of a model without it"
    assert found["together"] == [1, 2]


def test_its_evaluation_from_a_data_set(run):
    assert run("from_data")["successes"] == [True, True]


def test_the_environment_is_what_the_page_says(run):
    found = run("facts")
    assert "goal" not in found["info"], "GoalPicture would not be needed"
    assert {"agent.position", "target.position"}.isdisjoint(found["same"])
    assert len(found["same"]) == 9, "by default only places vary"
    np.testing.assert_allclose(found["moved"], [5.0, -2.5])
    assert found["boxes"] == [[[21, 21], [99.5, 203]], [[124.5, 21], [203, 203]]]
    for box, reached in zip(found["boxes"], found["reached"], strict=True):
        np.testing.assert_allclose(reached, box, atol=0.51)
    assert found["through_the_wall"] == 0


def test_the_strict_rule(run):
    found = run("strict")
    assert found["successes"] == [
        float(end and valid) for end, valid in zip(found["at_end"], found["route_valid"], strict=True)
    ]
    assert found["successes"][-2:] == [1.0, 1.0]
    assert sum(found["successes"][:10]) < 8, "the wall stands between most starts and goals"
    assert all(found["route_valid"])


def test_random_play_in_it_is_recorded(run):
    found = run("recorded")
    assert found["lengths"] == [41, 41, 41]
    assert found["off"] < 6.0, "px of 224: the small compressed picture still shows where the agent is"
    assert found["longest"] <= 1.0 + 1e-6
    assert 0.2 < found["as_commanded"] < 1.0, "free steps are the action; against a wall it slides"


def test_the_page_runs(run):
    assert run("page") == {"decided": 4, "solved_by": "CEMSolver"}
