"""Planners as published: the budget, the cost, the horizon and the bounds, together."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from jepa_actions.planning.cem import CEMConfig
from jepa_actions.planning.cost import LatentCost
from jepa_actions.planning.problem import Bounds, PlanningModel


@dataclass(frozen=True)
class PlannerPreset:
    """A published planner. `low` and `high` bound raw actions, for the robot that it was published with."""

    cem: CEMConfig
    cost: LatentCost
    horizon: int
    execute: int
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


# V-JEPA 2-AC on a Franka arm: changes of x y z [m], roll pitch yaw [rad] and gripper per step. 800 samples, 10
# iterations and one step ahead are those of the paper's planning times (arXiv 2506.09985); elites, momentum, L1 of the
# last latent and the bounds those of its code (`notebooks/utils/world_model_wrapper.py`, `mpc_utils.py`): 0.05 m per
# axis (the paper: 0.075), no rotation, gripper 0.75. Theirs starts the gripper's spread at 1.0 (here 0.75, half the
# bounds), does not have the mean among its candidates, and rounds gripper commands below 0.25 to none before it sends
# them.
VJEPA2_AC = PlannerPreset(
    cem=CEMConfig(samples=800, elites=10, iterations=10, init="bounds", min_std=0.0, momentum=0.15, returns="mean"),
    cost=LatentCost(metric="l1", reduce="last"),
    horizon=1,
    execute=1,
    low=(-0.05, -0.05, -0.05, 0.0, 0.0, 0.0, -0.75),
    high=(0.05, 0.05, 0.05, 0.0, 0.0, 0.0, 0.75),
)
PRESETS = {"vjepa2_ac": VJEPA2_AC}


@dataclass(frozen=True)
class Bounded:
    """A planning model whose actions are bounded otherwise, in model units."""

    model: PlanningModel
    action_bounds: Bounds

    @property
    def action_dim(self) -> int:
        return self.model.action_dim

    def rollout(self, context: Any, actions: Float[Tensor, "p s h a"], /) -> Any:
        return self.model.rollout(context, actions)
