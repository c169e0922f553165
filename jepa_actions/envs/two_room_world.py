"""TwoRoom as a `World`: a state is the agent's position, a layout where wall and door are."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.envs.behaviour import generate_episodes
from jepa_actions.envs.two_room import TwoRoom, TwoRoomState
from jepa_actions.envs.two_room_geometry import TwoRoomConfig, move
from jepa_actions.envs.two_room_layouts import sample_layouts, sample_positions
from jepa_actions.envs.two_room_paths import shortest_path
from jepa_actions.envs.two_room_render import render
from jepa_actions.envs.world import Behaviour, Split


class TwoRoomSimulation:
    """n agents that step together; made by `TwoRoomWorld.start`, which checks the states."""

    def __init__(self, env: TwoRoom) -> None:
        self._env = env

    @property
    def states(self) -> Float[Tensor, "n 2"]:
        """Positions, px."""
        return self._env.get_state().position

    def step(self, actions: Float[Tensor, "n 2"], /) -> Float[Tensor, "n 2"]:
        """Move every agent; norms above `max_step` are scaled down."""
        return self._env.step(actions).position


class TwoRoomWorld:
    """TwoRoom's geometry and its behaviour.

    Args:
        config: geometry; the published one by default.
        crossing_rate, accidental_crossings, push: of the behaviour, see `generate_episodes`.
    """

    name = "two_room"
    action_names = ("dx", "dy")
    state_names = ("x [px]", "y [px]")
    layout_names = ("wall_x [px]", "door_y [px]")
    fps = 10.0

    def __init__(
        self,
        config: TwoRoomConfig | None = None,
        *,
        crossing_rate: float = 0.35,
        accidental_crossings: bool = True,
        push: float = 0.0,
    ) -> None:
        self.config = TwoRoomConfig() if config is None else config
        self.crossing_rate, self.accidental_crossings, self.push = crossing_rate, accidental_crossings, push

    @property
    def image_size(self) -> int:
        """Side of a picture, px."""
        return self.config.image_size

    def start(self, states: Float[Tensor, "n 2"], layouts: Float[Tensor, "n 2"], /) -> TwoRoomSimulation:
        """Agents in the given places. Raises as `TwoRoom.set_state`."""
        env = TwoRoom(len(states), self.config, states.device)
        env.set_state(TwoRoomState(states, layouts[:, 0], layouts[:, 1]))
        return TwoRoomSimulation(env)

    def step_states(
        self, states: Float[Tensor, "*b 2"], layouts: Float[Tensor, "*b 2"], actions: Float[Tensor, "*b 2"], /
    ) -> Float[Tensor, "*b 2"]:
        """One step as a pure function, without checks, over leading dimensions that broadcast: for oracles."""
        return move(states, actions, layouts[..., 0], layouts[..., 1], self.config)[0]

    def render(self, states: Float[Tensor, "*b 2"], layouts: Float[Tensor, "*b 2"], /) -> UInt8[Tensor, "*b 3 h w"]:
        """Pictures, RGB; leading dimensions broadcast."""
        leading = torch.broadcast_shapes(states.shape[:-1], layouts.shape[:-1])
        states, layouts = states.expand(*leading, 2), layouts.expand(*leading, 2)
        flat = layouts.reshape(-1, 2)
        images = render(states.reshape(-1, 2), flat[:, 0], flat[:, 1], self.config)
        return images.view(*leading, *images.shape[1:])

    def sample(
        self, n: int, split: Split, generator: torch.Generator, /
    ) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
        """Agents uniform over both rooms of random layouts."""
        wall_x, door_y = sample_layouts(n, split, generator, self.config)
        return sample_positions(wall_x, door_y, generator, self.config), torch.stack([wall_x, door_y], dim=-1)

    def behaviour(
        self, episodes: int, *, steps: int, seed: int, split: Split = "train", episodes_per_layout: int = 1
    ) -> Behaviour:
        """Random walks, of which a share is steered through the door; see `generate_episodes`."""
        made = generate_episodes(
            episodes,
            steps=steps,
            seed=seed,
            crossing_rate=self.crossing_rate,
            accidental_crossings=self.accidental_crossings,
            push=self.push,
            layouts=split,
            episodes_per_layout=episodes_per_layout,
            config=self.config,
        )
        return Behaviour(made.positions, made.actions, torch.stack([made.wall_x, made.door_y], dim=-1))

    def solved(
        self, states: Float[Tensor, "*b 2"], goals: Float[Tensor, "*b 2"], tolerance: float | None = None, /
    ) -> Bool[Tensor, "*b"]:
        """Whether the agent is within `tolerance` px of the goal; `config.success_radius` (4.5) when None."""
        radius = self.config.success_radius if tolerance is None else tolerance
        within: Tensor = (states - goals).square().sum(-1) <= radius * radius
        return within

    def distance(self, states: Float[Tensor, "*b 2"], goals: Float[Tensor, "*b 2"], /) -> Float[Tensor, "*b"]:
        """Straight line, px."""
        straight: Tensor = (states - goals).norm(dim=-1)
        return straight

    def shortest_path(
        self, states: Float[Tensor, "n 2"], goals: Float[Tensor, "n 2"], layouts: Float[Tensor, "n 2"], /
    ) -> Float[Tensor, "n"]:
        """Straight, or through the door, px; at most 0.02 px too long."""
        return shortest_path(states, goals, layouts[:, 0], layouts[:, 1], self.config)

    def towards(self, states: Float[Tensor, "*b 2"], goals: Float[Tensor, "*b 2"], /) -> Float[Tensor, "*b 2"]:
        """As far as a step goes, straight at the goal."""
        change = goals - states
        action: Tensor = change * (
            self.config.max_step / change.norm(dim=-1, keepdim=True).clamp(min=self.config.max_step)
        )
        return action
