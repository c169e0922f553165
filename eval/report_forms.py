"""Reports in another form than `evaluate_planning` has today, with the fields a card reads. Nothing is measured."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jepa_actions.evaluation import Control

RULE = "at the goal after the last step, no step through the wall"  # of eval/swm_two_room.py


def card_form(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as a card reads it: one that is of today's form comes back as it is.

    - Reports of the first release name a CEM's settings under `planner`, with its cost inside.
    - Those of `eval/swm_two_room.py` have an environment and its tasks, start and goal of each, in place of a protocol:
      the hash is that of environment, steps, rule and tasks.
    """
    found = dict(report)
    if "control" not in found and isinstance(found.get("planner"), Mapping):
        found["control"] = _first_control(found["planner"])
    if "protocol" not in found and isinstance(found.get("environment"), Mapping):
        found["protocol"] = f"{found['environment']['id']}, {found['environment']['tasks']}"
        found["protocol_hash"] = _tasks_hash(found)
        found["control"] = found["decides"]
    return found


def _first_control(planner: Mapping[str, Any]) -> dict[str, Any]:
    cost = planner["cost"]
    settings = {key: planner[key] for key in ("samples", "elites", "iterations")}
    control = Control(
        planner=planner["kind"],
        settings=settings,
        cost=cost["metric"],
        reduce=cost["reduce"],
        horizon=planner["horizon"],
        execute=planner["execute"],
        warm_start=True,
    )
    return control.describe() | {"history": planner["history"]}


def _tasks_hash(report: Mapping[str, Any]) -> str:
    tasks = [[row[key] for key in ("seed", "task", "start", "goal")] for row in report["rows"]]
    values = {"environment": report["environment"], "steps": report["steps"], "rule": RULE, "tasks": tasks}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
