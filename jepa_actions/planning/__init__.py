"""Planners search for actions whose imagined outcome is closest to a goal. They see a world model only by protocol."""

from jepa_actions.planning.cem import CEM, CEMConfig
from jepa_actions.planning.cost import LatentCost
from jepa_actions.planning.mpc import MPC, Planner, decision_seed
from jepa_actions.planning.presets import PRESETS, VJEPA2_AC, Bounded, PlannerPreset
from jepa_actions.planning.problem import Bounds, Cost, Latents, Plan, PlanningModel, Problem, Target, imagine

__all__ = [
    "CEM",
    "MPC",
    "PRESETS",
    "VJEPA2_AC",
    "Bounded",
    "Bounds",
    "CEMConfig",
    "Cost",
    "LatentCost",
    "Latents",
    "Plan",
    "Planner",
    "PlannerPreset",
    "PlanningModel",
    "Problem",
    "Target",
    "decision_seed",
    "imagine",
]
