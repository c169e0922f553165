"""Planners as published: the budget, the cost, the horizon and the bounds, together."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.cem import CEMConfig
from jepa_actions.planning.cost import LatentCost
from jepa_actions.planning.make import Planner, PlannerConfig, build_planner
from jepa_actions.planning.mppi import MPPIConfig
from jepa_actions.planning.problem import Bounds, PlanningModel


@dataclass(frozen=True)
class PlannerPreset:
    """A published planner. `low` and `high` bound raw actions, for the robot that it was published with; without
    `warm_start` every decision is planned from nothing."""

    planner: PlannerConfig
    cost: LatentCost
    horizon: int
    execute: int
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    warm_start: bool = True

    def build(self) -> Planner:
        """The planner itself."""
        return build_planner(self.planner)

    @property
    def cem(self) -> CEMConfig:
        """The settings of one that is a CEM. Raises ConfigError for another."""
        if not isinstance(self.planner, CEMConfig):
            raise ConfigError(f"preset: found {type(self.planner).__name__}, expected CEMConfig")
        return self.planner


# V-JEPA 2-AC on a Franka arm: changes of x y z [m], roll pitch yaw [rad] and gripper per step. 800 samples, 10
# iterations and one step ahead are those of the paper's planning times (arXiv 2506.09985); elites, momentum, L1 of the
# last latent and the bounds those of its code (`notebooks/utils/world_model_wrapper.py`, `mpc_utils.py`): 0.05 m per
# axis (the paper: 0.075), no rotation, gripper 0.75. Theirs starts the gripper's spread at 1.0 (here 0.75, half the
# bounds), does not have the mean among its candidates, and rounds gripper commands below 0.25 to none before it sends
# them.
VJEPA2_AC = PlannerPreset(
    planner=CEMConfig(samples=800, elites=10, iterations=10, init="bounds", min_std=0.0, momentum=0.15, returns="mean"),
    cost=LatentCost(metric="l1", reduce="last"),
    horizon=1,
    execute=1,
    low=(-0.05, -0.05, -0.05, 0.0, 0.0, 0.0, -0.75),
    high=(0.05, 0.05, 0.05, 0.0, 0.0, 0.0, 0.75),
)

# DINO-WM (arXiv 2411.04983) on Push-T: `planning/cem.py` and `conf/plan_pusht.yaml`; on PointMaze and Wall 10
# iterations. Actions are z-scored, a step is a block of 5. All 5 steps are executed. Theirs has no bounds at all (here
# those of the model), and stops early by asking the simulator, once an iteration, whether its plan succeeds.
DINO_WM = PlannerPreset(
    planner=CEMConfig(samples=300, elites=30, iterations=30, min_std=0.0, momentum=0.0, returns="mean"),
    cost=LatentCost(metric="l2", reduce="last"),
    horizon=5,
    execute=5,
)

# LeWM (arXiv 2603.19312) plans with stable-worldmodel's CEM: `stable_worldmodel/planning/solver/cem.py`,
# `scripts/plan/config`. Its numbers are DINO-WM's. It fits with n - 1 in the variance, keeps what is left of a plan
# (nothing, when all 5 steps are executed), and sums where this averages the squared differences, which orders
# candidates alike. Theirs has no bounds.
LEWM = DINO_WM

# PLDM (arXiv 2502.14819) on Wall: `pldm/planning/planners/mppi_torch.py`, `pldm/configs/wall/icml/ds_1500k.yaml`. One
# iteration per decision, replans every step, horizon min(steps left, 96), cost summed over steps; noise_sigma 12 is a
# variance. Left out: its term lambda u' Sigma^-1 noise, that its mean is not shifted in the first hundred steps, and
# the norm of 2.45 px that bounds an action there (here the model's bounds, and a spread in model units). Its Maze:
# 500 samples, temperature 0.0025, variance 5, replans every 4 steps, horizon 100.
PLDM = PlannerPreset(
    planner=MPPIConfig(
        samples=2000,
        elites=2000,
        iterations=1,
        init_std=12**0.5,
        temperature=0.005,
        units="cost",
        adapt=False,
        returns="mean",
    ),
    cost=LatentCost(metric="l2", reduce="sum"),
    horizon=96,
    execute=1,
)

# TD-MPC2 (arXiv 2310.16828): `tdmpc2/config.yaml` and `_plan` of `tdmpc2/tdmpc2.py`. Its temperature 0.5 multiplies,
# ours divides. Actions lie in [-1, 1], which is what init_std counts here. Theirs ranks by reward and value, where this
# ranks by distance to a goal; 24 of its samples come from a policy (hand them in as proposals); it acts by an elite
# drawn by weight; 2 iterations more from 20 action dimensions up.
TDMPC2 = PlannerPreset(
    planner=MPPIConfig(
        samples=512, elites=64, iterations=6, init_std=2.0, init="bounds", min_std=0.05, temperature=2.0, units="cost"
    ),
    cost=LatentCost(metric="l2", reduce="sum"),
    horizon=3,
    execute=1,
)

# eb_jepa on Two Rooms: `examples/ac_video_jepa/cfgs/planning_{mppi,cem}.yaml`, `eb_jepa/planning.py`. Distance summed
# over all steps, replans every step of 200 from nothing. Spreads are in px there, in model
# units here. Its MPPI ignores the configured spread of 1.5 for its default of 2, multiplies by temperature 0.005, so
# that its weights are nearly even (ours divides, hence 200), acts by an elite drawn by weight, with noise, and is not
# bounded; its CEM keeps to a ball of 2.45 px and fits with n - 1 in the variance. Both are bounded alike here.
EB_JEPA_MPPI = PlannerPreset(
    planner=MPPIConfig(
        samples=200,
        elites=20,
        iterations=20,
        init_std=2.0,
        min_std=0.0,
        temperature=200.0,
        units="cost",
        returns="mean",
    ),
    cost=LatentCost(metric="l2", reduce="sum"),
    horizon=90,
    execute=1,
    warm_start=False,
)
EB_JEPA_CEM = PlannerPreset(
    planner=CEMConfig(samples=200, elites=20, iterations=20, init_std=1.5, min_std=0.0, momentum=0.0, returns="mean"),
    cost=LatentCost(metric="l2", reduce="sum"),
    horizon=90,
    execute=1,
    warm_start=False,
)

PRESETS = {
    "vjepa2_ac": VJEPA2_AC,
    "dino_wm": DINO_WM,
    "lewm": LEWM,
    "pldm": PLDM,
    "tdmpc2": TDMPC2,
    "eb_jepa_mppi": EB_JEPA_MPPI,
    "eb_jepa_cem": EB_JEPA_CEM,
}


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
