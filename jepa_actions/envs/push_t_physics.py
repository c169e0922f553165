"""Push-T: gym-pusht's bodies and physics (pymunk), stepped as a function of a state and an action."""

import contextlib
import io
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.push_t_geometry import AGENT_RADIUS, TARGET_HIGH, TARGET_LOW, WALL_HIGH, WALL_LOW, WALL_RADIUS
from jepa_actions.envs.rows import wrap
from jepa_actions.errors import ConfigError

MAX_STEP = 50.0  # px from the agent to its target; a steady push of this length moves it by 20 px a step
SUBSTEPS, TIMESTEP = 10, 0.01  # s
STIFFNESS, DAMPING = 100.0, 20.0  # the agent's control: acceleration per px of error and per px/s of velocity
FPS = 1 / (SUBSTEPS * TIMESTEP)


class PushTPhysics:
    """One space of gym-pusht's bodies that serves any number of rows, one after the other.

    A row is all that a step depends on. Pymunk also keeps, and does not show, how it is about to push overlapping
    bodies apart: that is forgotten after every environment step, as it would be by setting the state. Against
    gym-pusht's own environment in the midst of an episode, a step that moves the block differs by 0.004 px in the
    median, 0.09 px in one of 100 and 0.95 px at most (954 steps of our behaviour); whole episodes of 100 steps end
    0.04 px apart in the median, 0.37 px at most. Where an agent squeezes the block into a wall, which our behaviour
    avoids, a step differs by several px.

    Raises ConfigError without gym-pusht.
    """

    def __init__(self) -> None:
        pymunk, parts = _gym_pusht()
        self._space: Any = pymunk.Space()
        self._space.damping = 0.0
        low, high = WALL_LOW, WALL_HIGH
        corners = [(low, low), (high, low), (high, high), (low, high)]
        ends = zip(corners, [*corners[1:], corners[0]], strict=True)
        self._space.add(*(parts.add_segment(self._space, a, b, WALL_RADIUS) for a, b in ends))
        self._agent: Any = parts.add_circle(self._space, (0, 0), AGENT_RADIUS)
        self._block: Any = parts.add_tee(self._space, (0, 0), 0)[0]

    def __reduce__(self) -> tuple[type["PushTPhysics"], tuple[()]]:
        return PushTPhysics, ()  # a space is built anew in another process: it carries nothing from step to step

    def __call__(self, states: Float[Tensor, "n 10"], actions: Float[Tensor, "n 2"]) -> Float[Tensor, "n 10"]:
        """The states `1 / FPS` s later, float32, on the device of `states`."""
        position = states[:, :2].double().cpu()
        target = (position + cut(actions).double().cpu()).clamp(TARGET_LOW, TARGET_HIGH)
        rows = zip(states.double().cpu().tolist(), target.tolist(), strict=True)
        after = torch.tensor([self._step(row, goal) for row, goal in rows], dtype=torch.float64).reshape(-1, 10)
        after[:, 4] = wrap(after[:, 4])
        return after.float().to(states.device)

    def _step(self, row: list[float], target: list[float]) -> tuple[float, ...]:
        self._forget()
        agent, block, space = self._agent, self._block, self._space
        block.angle = row[4]  # before the position: it turns the block about its centre of mass
        block.position, block.velocity, block.angular_velocity = (row[2], row[3]), (row[7], row[8]), row[9]
        x, y, vx, vy = row[0], row[1], row[5], row[6]
        agent.position = (x, y)
        for _ in range(SUBSTEPS):  # nothing stops the agent, so that its way is known without asking pymunk
            vx += (STIFFNESS * (target[0] - x) - DAMPING * vx) * TIMESTEP
            vy += (STIFFNESS * (target[1] - y) - DAMPING * vy) * TIMESTEP
            agent.velocity = (vx, vy)
            space.step(TIMESTEP)
            x, y = x + vx * TIMESTEP, y + vy * TIMESTEP
        (bx, by), (wx, wy) = block.position, block.velocity
        return x, y, bx, by, block.angle, vx, vy, wx, wy, block.angular_velocity

    def _forget(self) -> None:
        """Bring pymunk's hidden state to where a new space's is: with nothing to touch, far away, what is left of the
        last contacts is used up in one step and thrown away after three.
        """
        agent, block = self._agent, self._block
        agent.velocity = block.velocity = (0, 0)
        block.angular_velocity = 0
        for far in (3000, 4000, 3000, 4000, 3000):
            agent.position, block.angle, block.position = (-far, -3000), 0, (far, 3000)
            self._space.step(TIMESTEP)


def cut(actions: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
    """Actions, those longer than `MAX_STEP` scaled down to it."""
    actions = actions.float()
    length = torch.linalg.vector_norm(actions, dim=-1, keepdim=True)
    shorter: Tensor = actions * (MAX_STEP / length.clamp(min=MAX_STEP))
    return shorter


def _gym_pusht() -> tuple[Any, Any]:
    """pymunk, and the class of gym-pusht whose static methods make the bodies."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pygame greets on standard output, where reports go
            import pymunk  # type: ignore[import-not-found,import-untyped,unused-ignore]
            from gym_pusht.envs.pusht import PushTEnv  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise ConfigError(
            f"push_t: gym-pusht cannot be imported, {error} (pip install 'jepa-actions[push_t]')"
        ) from error
    return pymunk, PushTEnv
