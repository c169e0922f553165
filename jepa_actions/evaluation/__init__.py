"""Evaluation: protocols and their tasks, floors and oracles, statistics, and the evaluations themselves."""

from jepa_actions.evaluation.compare import compare_planning
from jepa_actions.evaluation.control import Control, parse_control
from jepa_actions.evaluation.distance import evaluate_distance
from jepa_actions.evaluation.offline import evaluate_offline
from jepa_actions.evaluation.oracle import OracleModel
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import Interval, block_bootstrap, paired_bootstrap, wilson_interval
from jepa_actions.evaluation.tasks import Tasks, load_tasks, make_tasks, save_tasks

__all__ = [
    "Control",
    "Interval",
    "OracleModel",
    "PlanningProtocol",
    "Tasks",
    "block_bootstrap",
    "commit",
    "compare_planning",
    "evaluate_distance",
    "evaluate_offline",
    "evaluate_planning",
    "hardware",
    "load_protocol",
    "load_tasks",
    "make_tasks",
    "paired_bootstrap",
    "parse_control",
    "save_tasks",
    "wilson_interval",
]
