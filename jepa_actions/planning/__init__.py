"""Planners search for actions whose imagined outcome is closest to a goal. They see a world model only by protocol."""

from jepa_actions.planning.cem import CEM, CEMConfig
from jepa_actions.planning.cmaes import CMAES, CMAESConfig
from jepa_actions.planning.cost import ActionCost, InOrder, InverseAgreement, LatentCost, TemporalCost, WeightedSum
from jepa_actions.planning.gradient import Gradient, GradientConfig
from jepa_actions.planning.hybrid import Hybrid, HybridConfig
from jepa_actions.planning.icem import ICEM, ICEMConfig
from jepa_actions.planning.inverse_policy import InversePolicy, InverseProposals, Policy, SubgoalPolicy, checked_noise
from jepa_actions.planning.make import (
    PLANNERS,
    Planner,
    PlannerConfig,
    adjusted,
    build_planner,
    make_planner,
    nearest,
    planner_config,
    with_budget,
)
from jepa_actions.planning.mpc import MPC, Proposals, deadline_in, decision_seed, spent
from jepa_actions.planning.mppi import MPPI, MPPIConfig
from jepa_actions.planning.presets import PRESETS, VJEPA2_AC, Bounded, PlannerPreset
from jepa_actions.planning.problem import Bounds, Carried, Cost, Latents, Plan, PlanningModel, Problem, Target
from jepa_actions.planning.random_shooting import RandomShooting, RandomShootingConfig
from jepa_actions.planning.rollouts import imagine, imagine_with_gradient

__all__ = [
    "CEM",
    "CMAES",
    "ICEM",
    "MPC",
    "MPPI",
    "PLANNERS",
    "PRESETS",
    "VJEPA2_AC",
    "ActionCost",
    "Bounded",
    "Bounds",
    "CEMConfig",
    "CMAESConfig",
    "Carried",
    "Cost",
    "Gradient",
    "GradientConfig",
    "Hybrid",
    "HybridConfig",
    "ICEMConfig",
    "InOrder",
    "InverseAgreement",
    "InversePolicy",
    "InverseProposals",
    "LatentCost",
    "Latents",
    "MPPIConfig",
    "Plan",
    "Planner",
    "PlannerConfig",
    "PlannerPreset",
    "PlanningModel",
    "Policy",
    "Problem",
    "Proposals",
    "RandomShooting",
    "RandomShootingConfig",
    "SubgoalPolicy",
    "Target",
    "TemporalCost",
    "WeightedSum",
    "adjusted",
    "build_planner",
    "checked_noise",
    "deadline_in",
    "decision_seed",
    "imagine",
    "imagine_with_gradient",
    "make_planner",
    "nearest",
    "planner_config",
    "spent",
    "with_budget",
]
