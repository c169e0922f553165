"""Reacher: two joints of a planar arm to the angles that a picture shows. Needs `jepa-actions[mujoco]`."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.envs.reacher_model import ELBOW_LIMIT, ELBOW_SLACK, FPS, ReacherPhysics
from jepa_actions.envs.reacher_render import IMAGE_SIZE, ReacherConfig, render_reacher
from jepa_actions.envs.rows import check_request, check_rows, check_split, stream, wrap
from jepa_actions.envs.world import Behaviour, Split
from jepa_actions.errors import DataError

TOLERANCE = 0.1  # rad
GAIN = 1.5  # torque per rad of the straight-line floor
TORQUE_STD, TORQUE_MEMORY = 0.7, 0.8  # random torques of the behaviour: AR(1), before they are cut to [-1, 1]


class ReacherSimulation:
    """n arms, side by side."""

    def __init__(self, world: "Reacher", states: Float[Tensor, "n 4"]) -> None:
        self._world = world
        self._states = states

    @property
    def states(self) -> Float[Tensor, "n 4"]:
        """The present states, a copy."""
        return self._states.clone()

    def step(self, actions: Float[Tensor, "n 2"], /) -> Float[Tensor, "n 4"]:
        """Apply two torques in [-1, 1] per arm for 1 / 20 s. Raises ShapeError or DataError as `World` says."""
        check_rows("reacher action", actions, self._world.action_names, (len(self._states),))
        self._states = self._world.physics(self._states, actions)
        return self.states


class Reacher:
    """The `World` of a two-link arm.

    A state is (q1, q2, dq1, dq2): the angle of the shoulder, from -pi to pi and without limit, that of the elbow,
    within 160 degrees of straight, rad, and their velocities, rad/s. An action is two torques in [-1, 1]. There is one
    layout, so that every split is the same.

    Args:
        config: colours of the pictures; blue and orange links on dark grey by default.
    Raises:
        ConfigError: MuJoCo 3 is not installed.
    """

    name = "reacher"
    action_names = ("shoulder", "elbow")
    state_names = ("q1", "q2", "dq1", "dq2")
    layout_names: tuple[str, ...] = ()
    image_size = IMAGE_SIZE
    fps = FPS

    def __init__(self, config: ReacherConfig | None = None) -> None:
        self.config = ReacherConfig() if config is None else config
        self.physics = ReacherPhysics()

    def start(self, states: Float[Tensor, "n 4"], layouts: Float[Tensor, "n 0"], /) -> ReacherSimulation:
        """Arms in the given states.

        Raises:
            ShapeError: states that are not (n, 4) or layouts that are not (n, 0), floating point.
            DataError: a number that is not finite, or an elbow beyond its limit.
        """
        check_rows("reacher state", states, self.state_names)
        check_rows("reacher layout", layouts, (), tuple(states.shape[:1]))
        beyond = states[:, 1].abs() > ELBOW_LIMIT + ELBOW_SLACK
        if bool(beyond.any()):
            row = int(beyond.nonzero()[0, 0])
            raise DataError(
                f"reacher state q2: found {float(states[row, 1]):g} in row {row}, "
                f"expected -{ELBOW_LIMIT:.4g} to {ELBOW_LIMIT:.4g} rad"
            )
        rows = states.float().clone()
        rows[:, 0] = torch.where(rows[:, 0].abs() > math.pi, wrap(rows[:, 0].double()).float(), rows[:, 0])
        return ReacherSimulation(self, rows)

    def step_states(
        self, states: Float[Tensor, "*b 4"], layouts: Float[Tensor, "*b 0"], actions: Float[Tensor, "*b 2"], /
    ) -> Float[Tensor, "*b 4"]:
        """One step as a pure function, without checks, over leading dimensions that broadcast: for oracles."""
        leading = torch.broadcast_shapes(states.shape[:-1], actions.shape[:-1])
        rows, moves = states.expand(*leading, 4).reshape(-1, 4), actions.expand(*leading, 2).reshape(-1, 2)
        return self.physics(rows, moves).reshape(*leading, 4)

    def render(self, states: Float[Tensor, "*b 4"], layouts: Float[Tensor, "*b 0"], /) -> UInt8[Tensor, "*b 3 h w"]:
        """Pictures from above, 64 px square."""
        check_rows("reacher state", states, self.state_names)
        return render_reacher(states, self.config)

    def sample(
        self, n: int, split: Split, generator: torch.Generator, /
    ) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 0"]]:
        """Uniform angles at rest, on the generator's device. Raises ConfigError for an unknown split."""
        check_split("reacher", split)
        unit = torch.rand((n, 2), generator=generator, device=generator.device)
        return _at_rest(unit), unit.new_empty((n, 0))

    def behaviour(
        self, episodes: int, *, steps: int, seed: int, split: Split = "train", episodes_per_layout: int = 1
    ) -> Behaviour:
        """Random torques that last: each is 0.8 of the one before plus noise, N(0, 0.7) in the long run, cut to
        [-1, 1]; episodes start at uniform angles, at rest. Nothing steers towards any goal.

        Episode `e` is a function of `seed` and `e`, and a shorter one begins as a longer one does. Raises ConfigError
        for counts below 1, a negative seed, or an unknown split.
        """
        counts = {"episodes": episodes, "steps": steps, "episodes_per_layout": episodes_per_layout}
        check_request("reacher behaviour", counts, seed, split)
        start, noise = np.empty((episodes, 2)), np.empty((episodes, steps, 2))
        for e in range(episodes):
            random = stream(seed, e)
            random.random(out=start[e])
            random.standard_normal(out=noise[e])
        torque = noise * TORQUE_STD
        for t in range(1, steps):
            torque[:, t] = TORQUE_MEMORY * torque[:, t - 1] + math.sqrt(1 - TORQUE_MEMORY**2) * torque[:, t]
        actions = torch.from_numpy(torque).float().clamp(-1, 1)
        states = torch.empty(episodes, steps + 1, 4)
        states[:, 0] = _at_rest(torch.from_numpy(start).float())
        for t in range(steps):
            states[:, t + 1] = self.physics(states[:, t], actions[:, t])
        return Behaviour(states, actions, torch.empty(episodes, 0))

    def solved(
        self, states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"], tolerance: float | None = None, /
    ) -> Bool[Tensor, "*b"]:
        """Whether both joints are within `tolerance` rad (0.1 by default) of the goal's; velocities do not count."""
        return self.distance(states, goals) < (TOLERANCE if tolerance is None else tolerance)

    def distance(self, states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"], /) -> Float[Tensor, "*b"]:
        """The larger of the two joints' distances, rad: the shoulder's the short way round, the elbow's the way that
        its limit allows.
        """
        return _angles_to(states, goals).abs().amax(dim=-1)

    def shortest_path(
        self, states: Float[Tensor, "n 4"], goals: Float[Tensor, "n 4"], layouts: Float[Tensor, "n 0"], /
    ) -> Float[Tensor, "n"]:
        """`distance`: nothing is in the arm's way."""
        return self.distance(states, goals)

    def towards(self, states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"], /) -> Float[Tensor, "*b 2"]:
        """Torques in proportion to the angles that are left, blind to velocity."""
        return (GAIN * _angles_to(states, goals)).clamp(-1, 1)


def _at_rest(unit: Float[Tensor, "n 2"]) -> Float[Tensor, "n 4"]:
    reach = torch.tensor([math.pi, ELBOW_LIMIT], device=unit.device)
    return torch.cat([(2 * unit - 1) * reach, torch.zeros_like(unit)], dim=1)


def _angles_to(states: Float[Tensor, "*b 4"], goals: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 2"]:
    difference = goals[..., :2] - states[..., :2]
    return torch.stack([wrap(difference[..., 0]), difference[..., 1]], dim=-1)
