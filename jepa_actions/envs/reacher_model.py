"""Reacher: a planar arm of two links that turn freely in a plane without gravity, as our own MJCF, and its physics."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.rows import wrap
from jepa_actions.errors import ConfigError

UPPER, LOWER = 0.48, 0.40  # length of the first and the second link, m; the pictures show [-1, 1] m
UPPER_RADIUS, LOWER_RADIUS, HUB_RADIUS = 0.07, 0.06, 0.11  # m
ELBOW_LIMIT = math.radians(160)  # joint 2, both ways; joint 1 has no limit
ELBOW_SLACK = 0.1  # rad; MuJoCo's limits are soft and give way by up to 0.05
SUBSTEPS, TIMESTEP = 5, 0.01  # s
FPS = 1 / (SUBSTEPS * TIMESTEP)

MJCF = f"""
<mujoco model="jepa_actions reacher">
  <option timestep="{TIMESTEP}" gravity="0 0 0" integrator="implicitfast"><flag contact="disable"/></option>
  <size memory="64K"/>
  <visual>
    <quality offsamples="0" shadowsize="0"/>
    <headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <worldbody>
    <camera name="top" pos="0 0 2" projection="orthographic" fovy="2"/>
    <geom name="floor" type="plane" size="3 3 1"/>
    <geom name="hub" type="cylinder" size="{HUB_RADIUS} 0.02" pos="0 0 0.05"/>
    <body name="upper" pos="0 0 0.2">
      <joint name="shoulder" type="hinge" axis="0 0 1" damping="0.9" armature="0.02"/>
      <geom name="upper" type="capsule" fromto="0 0 0 {UPPER} 0 0" size="{UPPER_RADIUS}" mass="0.3"/>
      <body name="lower" pos="{UPPER} 0 0.2">
        <joint name="elbow" type="hinge" axis="0 0 1" damping="0.2" armature="0.01" range="-160 160" limited="true"/>
        <geom name="lower" type="capsule" fromto="0 0 0 {LOWER} 0 0" size="{LOWER_RADIUS}" mass="0.2"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="shoulder" gear="2.5" ctrlrange="-1 1" ctrllimited="true"/>
    <motor joint="elbow" gear="0.6" ctrlrange="-1 1" ctrllimited="true"/>
  </actuator>
</mujoco>
"""
"""Full torque turns either joint at about 2.9 rad/s in the end; half of that is reached after 0.1 s."""


class ReacherPhysics:
    """MuJoCo's step as a function of a state and an action, so that a row of four numbers is the whole state.

    MuJoCo itself also starts its solver from the step before; here every environment step starts it afresh, and from
    the float32 row. Raises ConfigError without MuJoCo 3.
    """

    def __init__(self) -> None:
        try:
            import mujoco  # type: ignore[import-not-found,import-untyped,unused-ignore]
            from mujoco.rollout import rollout  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError as error:
            raise ConfigError("reacher: mujoco is not installed (pip install 'jepa-actions[mujoco]')") from error
        if int(mujoco.__version__.split(".")[0]) != 3:
            raise ConfigError(
                f"reacher: found mujoco {mujoco.__version__}, expected 3.17 or a later 3 "
                "(pip install 'jepa-actions[mujoco]')"
            )
        self.model: Any = mujoco.MjModel.from_xml_string(MJCF)
        self._data: Any = mujoco.MjData(self.model)
        self._rollout: Any = rollout

    def __call__(self, states: Float[Tensor, "n 4"], actions: Float[Tensor, "n 2"]) -> Float[Tensor, "n 4"]:
        """The states `1 / FPS` s later, float32, on the device of `states`; torques are cut to [-1, 1]."""
        n, device = len(states), states.device
        before = np.zeros((n, 5))  # MuJoCo's full state: time, positions, velocities
        before[:, 1:] = states.float().cpu().numpy()
        torque = actions.float().clamp(-1, 1).cpu().numpy().astype(np.float64)
        control = np.repeat(torque[:, None], SUBSTEPS, axis=1)
        after, _ = self._rollout(self.model, self._data, before, control)  # clears what the rows do not set
        rows = torch.from_numpy(after[:, -1, 1:].copy())
        rows[:, 0] = wrap(rows[:, 0])
        return rows.float().to(device)
