"""TwoRoom as a `World`: a state is the agent's position, a layout where wall and door are.

With distractors that change or differ between episodes a state has their scenery too (`two_room_scenery`). It is drawn
and steps on, and nothing else asks for it: what is solved, how far the goal is and where the walls are is as without.
"""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.envs.behaviour import generate_episodes
from jepa_actions.envs.two_room import TwoRoom, TwoRoomState
from jepa_actions.envs.two_room_geometry import TwoRoomConfig, move
from jepa_actions.envs.two_room_layouts import sample_layouts, sample_positions
from jepa_actions.envs.two_room_paths import shortest_path
from jepa_actions.envs.two_room_render import render
from jepa_actions.envs.two_room_scenery import SCENERY_NAMES, drawn_scenery, goal_scenery, has_scenery, next_scenery
from jepa_actions.envs.world import Behaviour, Split


class TwoRoomSimulation:
    """n agents that step together; made by `TwoRoomWorld.start`, which checks the states."""

    def __init__(self, env: TwoRoom) -> None:
        self._env = env

    @property
    def states(self) -> Float[Tensor, "n s"]:
        """Positions, px, and sceneries where there are some."""
        return _rows(self._env.get_state())

    def step(self, actions: Float[Tensor, "n 2"], /) -> Float[Tensor, "n s"]:
        """Move every agent; norms above `max_step` are scaled down."""
        return _rows(self._env.step(actions))


def _rows(state: TwoRoomState) -> Float[Tensor, "n s"]:
    return state.position if state.scenery is None else torch.cat([state.position, state.scenery], dim=-1)


class TwoRoomWorld:
    """TwoRoom's geometry and its behaviour.

    Args:
        config: geometry and distractors; the published geometry without any by default.
        crossing_rate, accidental_crossings, push: of the behaviour, see `generate_episodes`.
    """

    name = "two_room"
    action_names = ("dx", "dy")
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
        self.state_names = ("x [px]", "y [px]", *(SCENERY_NAMES if has_scenery(self.config) else ()))
        self.crossing_rate, self.accidental_crossings, self.push = crossing_rate, accidental_crossings, push

    @property
    def image_size(self) -> int:
        """Side of a picture, px."""
        return self.config.image_size

    def start(self, states: Float[Tensor, "n s"], layouts: Float[Tensor, "n 2"], /) -> TwoRoomSimulation:
        """Agents in the given places. Raises as `TwoRoom.set_state`."""
        env = TwoRoom(len(states), self.config, states.device)
        position, scenery = self._parts(states)
        env.set_state(TwoRoomState(position, layouts[:, 0], layouts[:, 1], scenery))
        return TwoRoomSimulation(env)

    def step_states(
        self, states: Float[Tensor, "*b s"], layouts: Float[Tensor, "*b 2"], actions: Float[Tensor, "*b 2"], /
    ) -> Float[Tensor, "*b s"]:
        """One step as a pure function, without checks, over leading dimensions that broadcast: for oracles."""
        position, scenery = self._parts(states)
        moved = move(position, actions, layouts[..., 0], layouts[..., 1], self.config)[0]
        if scenery is None:
            return moved
        after = next_scenery(scenery, actions, self.config)
        return torch.cat([moved, after.expand(*moved.shape[:-1], after.shape[-1])], dim=-1)

    def render(self, states: Float[Tensor, "*b s"], layouts: Float[Tensor, "*b 2"], /) -> UInt8[Tensor, "*b 3 h w"]:
        """Pictures, RGB; leading dimensions broadcast. With `jitter` the camera tells of the last action: that is the
        distractor."""
        leading = torch.broadcast_shapes(states.shape[:-1], layouts.shape[:-1])
        position, scenery = self._parts(states.expand(*leading, states.shape[-1]).reshape(-1, states.shape[-1]))
        flat = layouts.expand(*leading, 2).reshape(-1, 2)
        images = render(position, flat[:, 0], flat[:, 1], self.config, scenery)
        return images.view(*leading, *images.shape[1:])

    def sample(
        self, n: int, split: Split, generator: torch.Generator, /
    ) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n 2"]]:
        """Agents uniform over both rooms of random layouts."""
        wall_x, door_y = sample_layouts(n, split, generator, self.config)
        position = sample_positions(wall_x, door_y, generator, self.config)
        return self.with_scenery(position, generator), torch.stack([wall_x, door_y], dim=-1)

    def with_scenery(self, position: Float[Tensor, "n 2"], generator: torch.Generator, /) -> Float[Tensor, "n s"]:
        """States of agents at these places, each at a random moment of an episode of its own; the positions themselves,
        and nothing drawn, where there is no scenery."""
        if not has_scenery(self.config):
            return position
        return torch.cat([position, drawn_scenery(len(position), generator, self.config)], dim=-1)

    def as_goals(
        self, states: Float[Tensor, "n s"], starts: Float[Tensor, "n s"], generator: torch.Generator, /
    ) -> Float[Tensor, "n s"]:
        """The same places with the sceneries that their goal pictures have: none of the episodes that begin at
        `starts`, unless `shared_goal` says otherwise. Nothing is drawn where there is no scenery."""
        scenery = self._parts(starts)[1]
        if scenery is None:
            return states
        return torch.cat([states[:, :2], goal_scenery(scenery, generator, self.config)], dim=-1)

    def _parts(self, states: Float[Tensor, "*b s"]) -> tuple[Float[Tensor, "*b 2"], Float[Tensor, "*b 4"] | None]:
        """Positions and sceneries; rows of plain positions are left as they are."""
        return (states[..., :2], states[..., 2:]) if has_scenery(self.config) else (states, None)

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
        states = made.positions if made.scenery is None else torch.cat([made.positions, made.scenery], dim=-1)
        return Behaviour(states, made.actions, torch.stack([made.wall_x, made.door_y], dim=-1))

    def solved(
        self, states: Float[Tensor, "*b s"], goals: Float[Tensor, "*b s"], tolerance: float | None = None, /
    ) -> Bool[Tensor, "*b"]:
        """Whether the agent is within `tolerance` px of the goal; `config.success_radius` (4.5) when None."""
        radius = self.config.success_radius if tolerance is None else tolerance
        within: Tensor = (states - goals)[..., :2].square().sum(-1) <= radius * radius
        return within

    def distance(self, states: Float[Tensor, "*b s"], goals: Float[Tensor, "*b s"], /) -> Float[Tensor, "*b"]:
        """Straight line, px."""
        straight: Tensor = (states - goals)[..., :2].norm(dim=-1)
        return straight

    def shortest_path(
        self, states: Float[Tensor, "n s"], goals: Float[Tensor, "n s"], layouts: Float[Tensor, "n 2"], /
    ) -> Float[Tensor, "n"]:
        """Straight, or through the door, px; at most 0.02 px too long."""
        return shortest_path(states[:, :2], goals[:, :2], layouts[:, 0], layouts[:, 1], self.config)

    def towards(self, states: Float[Tensor, "*b s"], goals: Float[Tensor, "*b s"], /) -> Float[Tensor, "*b 2"]:
        """As far as a step goes, straight at the goal."""
        change = (goals - states)[..., :2]
        action: Tensor = change * (
            self.config.max_step / change.norm(dim=-1, keepdim=True).clamp(min=self.config.max_step)
        )
        return action
