"""Push-T: a disc pushes a T to where a picture shows it. Needs `jepa-actions[push_t]`."""

import math

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.envs.push_t_behaviour import push_about
from jepa_actions.envs.push_t_geometry import SIZE, UNIFORMS, block_centre, place
from jepa_actions.envs.push_t_physics import FPS, PushTPhysics, cut
from jepa_actions.envs.push_t_render import IMAGE_SIZE, PushTConfig, render_push_t
from jepa_actions.envs.rows import check_request, check_rows, check_split, wrap
from jepa_actions.envs.world import Behaviour, Split
from jepa_actions.errors import DataError

TOLERANCE, ANGLE_TOLERANCE = 20.0, math.pi / 9  # px of agent and block together; rad
_OUTSIDE = 100.0  # px; no push can squeeze the block's centre farther out of the picture than that


class PushTSimulation:
    """n scenes, side by side."""

    def __init__(self, world: "PushT", states: Float[Tensor, "n 10"]) -> None:
        self._world = world
        self._states = states

    @property
    def states(self) -> Float[Tensor, "n 10"]:
        """The present states, a copy."""
        return self._states.clone()

    def step(self, actions: Float[Tensor, "n 2"], /) -> Float[Tensor, "n 10"]:
        """Move every agent for 1 / 10 s. Raises ShapeError or DataError as `World` says."""
        check_rows("push_t action", actions, self._world.action_names, (len(self._states),))
        self._states = self._world.physics(self._states, actions)
        return self.states


class PushT:
    """The `World` of gym-pusht's scene.

    A state is ten numbers: agent's x and y, block's x, y and angle (from -pi to pi), then the velocities of the same
    five; px, rad and s. An action is where the agent's target is, relative to the agent, px: at most 50 px long, and
    within the walls. (gym-pusht's own action is the target itself.) The agent follows its target as in gym-pusht and
    has a velocity of its own. There is one layout, so that every split is the same. One thread at a time.

    Args:
        config: colours of the pictures; gym-pusht's by default.
    Raises:
        ConfigError: gym-pusht is not installed.
    """

    name = "push_t"
    action_names = ("target_dx", "target_dy")
    state_names = (
        "agent_x",
        "agent_y",
        "block_x",
        "block_y",
        "block_angle",
        "agent_vx",
        "agent_vy",
        "block_vx",
        "block_vy",
        "block_turn",
    )
    layout_names: tuple[str, ...] = ()
    image_size = IMAGE_SIZE
    fps = FPS

    def __init__(self, config: PushTConfig | None = None) -> None:
        self.config = PushTConfig() if config is None else config
        self.physics = PushTPhysics()

    def start(self, states: Float[Tensor, "n 10"], layouts: Float[Tensor, "n 0"], /) -> PushTSimulation:
        """Scenes in the given states.

        Raises:
            ShapeError: states that are not (n, 10) or layouts that are not (n, 0), floating point.
            DataError: a number that is not finite, an agent outside of the picture, or a block beyond the walls.
        """
        check_rows("push_t state", states, self.state_names)
        check_rows("push_t layout", layouts, (), tuple(states.shape[:1]))
        for what, point, slack in (("agent", states[:, :2], 0.0), ("block", block_centre(states), _OUTSIDE)):
            outside = ((point < -slack) | (point > SIZE + slack)).any(dim=1)
            if bool(outside.any()):
                row = int(outside.nonzero()[0, 0])
                raise DataError(
                    f"push_t state {what}: found {point[row].tolist()} in row {row}, "
                    f"expected {-slack:g} to {SIZE + slack:g} px"
                )
        rows = states.float().clone()
        rows[:, 4] = torch.where(rows[:, 4].abs() > math.pi, wrap(rows[:, 4].double()).float(), rows[:, 4])
        return PushTSimulation(self, rows)

    def step_states(
        self, states: Float[Tensor, "*b 10"], layouts: Float[Tensor, "*b 0"], actions: Float[Tensor, "*b 2"], /
    ) -> Float[Tensor, "*b 10"]:
        """One step as a pure function, without checks, over leading dimensions that broadcast: for oracles."""
        leading = torch.broadcast_shapes(states.shape[:-1], actions.shape[:-1])
        rows, moves = states.expand(*leading, 10).reshape(-1, 10), actions.expand(*leading, 2).reshape(-1, 2)
        return self.physics(rows, moves).reshape(*leading, 10)

    def render(self, states: Float[Tensor, "*b 10"], layouts: Float[Tensor, "*b 0"], /) -> UInt8[Tensor, "*b 3 h w"]:
        """Pictures, 64 px square."""
        check_rows("push_t state", states, self.state_names)
        return render_push_t(states, self.config)

    def sample(
        self, n: int, split: Split, generator: torch.Generator, /
    ) -> tuple[Float[Tensor, "n 10"], Float[Tensor, "n 0"]]:
        """Scenes at rest in which nothing overlaps, on the generator's device. Raises ConfigError for an unknown
        split.
        """
        check_split("push_t", split)
        unit = torch.rand((n, UNIFORMS), generator=generator, device=generator.device)
        return place(unit), unit.new_empty((n, 0))

    def behaviour(
        self, episodes: int, *, steps: int, seed: int, split: Split = "train", episodes_per_layout: int = 1
    ) -> Behaviour:
        """Random pushes from all sides, to no goal (see `push_about`).

        Episode `e` is a function of `seed` and `e`, and a shorter one begins as a longer one does. Raises ConfigError
        for counts below 1, a negative seed, or an unknown split.
        """
        counts = {"episodes": episodes, "steps": steps, "episodes_per_layout": episodes_per_layout}
        check_request("push_t behaviour", counts, seed, split)
        states, actions = push_about(episodes, steps, seed, self.physics)
        return Behaviour(states, actions, torch.empty(episodes, 0))

    def solved(
        self, states: Float[Tensor, "*b 10"], goals: Float[Tensor, "*b 10"], tolerance: float | None = None, /
    ) -> Bool[Tensor, "*b"]:
        """The community's rule: `distance` below 20 px and the block's angle within pi / 9 of the goal's. A `tolerance`
        in px scales both. Source: stable-worldmodel's Push-T, after DINO-WM (arXiv 2411.04983).
        """
        wide = TOLERANCE if tolerance is None else tolerance
        turn = wrap(goals[..., 4] - states[..., 4]).abs()
        return (self.distance(states, goals) < wide) & (turn < ANGLE_TOLERANCE * wide / TOLERANCE)

    def distance(self, states: Float[Tensor, "*b 10"], goals: Float[Tensor, "*b 10"], /) -> Float[Tensor, "*b"]:
        """The norm of the four differences in the agent's and the block's positions, px. Angles are left out."""
        distance: Tensor = torch.linalg.vector_norm(goals[..., :4] - states[..., :4], dim=-1)
        return distance

    def shortest_path(
        self, states: Float[Tensor, "n 10"], goals: Float[Tensor, "n 10"], layouts: Float[Tensor, "n 0"], /
    ) -> Float[Tensor, "n"]:
        """`distance`: how far an agent must walk to bring a block somewhere is not known."""
        return self.distance(states, goals)

    def towards(self, states: Float[Tensor, "*b 10"], goals: Float[Tensor, "*b 10"], /) -> Float[Tensor, "*b 2"]:
        """The agent straight to where the goal's agent is, whatever the block does."""
        return cut(goals[..., :2] - states[..., :2])
