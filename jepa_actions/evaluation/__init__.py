"""Evaluation: protocols and their tasks, floors and oracles, statistics, and the evaluations themselves."""

from jepa_actions.evaluation.oracle import OracleModel
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import Interval, block_bootstrap, paired_bootstrap, wilson_interval
from jepa_actions.evaluation.tasks import Tasks, load_tasks, make_tasks, save_tasks

__all__ = [
    "Interval",
    "OracleModel",
    "PlanningProtocol",
    "Tasks",
    "block_bootstrap",
    "commit",
    "evaluate_planning",
    "hardware",
    "load_protocol",
    "load_tasks",
    "make_tasks",
    "paired_bootstrap",
    "save_tasks",
    "wilson_interval",
]
