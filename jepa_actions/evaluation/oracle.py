"""The true simulator behind the planning protocol: what the same planner reaches when the model is perfect."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.data import ActionCodec, ModelBounds
from jepa_actions.envs.world import World


@runtime_checkable
class Functional(Protocol):
    """A world whose step is a function of states, over any leading dimensions: what an oracle rolls out."""

    def step_states(self, states: Tensor, layouts: Tensor, actions: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class OracleContext:
    """The simulator's true states and layouts."""

    states: Float[Tensor, "p s"]
    layouts: Float[Tensor, "p l"]


@dataclass(frozen=True)
class OracleLatents:
    """States as latents: one token."""

    z: Float[Tensor, "... 1 s"]


class OracleModel:
    """A world itself as a world model; the context is the simulator's true state. For oracles only.

    Arguments:
        codec: model actions to raw ones; a model step simulates the `block` raw actions one after the other.
        world: with `step_states`.
    """

    def __init__(self, codec: ActionCodec, world: Any) -> None:
        self.codec, self.world = codec, world

    @property
    def action_dim(self) -> int:
        return self.codec.action_dim

    @property
    def action_bounds(self) -> ModelBounds:
        return self.codec.model_bounds

    def encode(self, states: Float[Tensor, "p s"], layouts: Float[Tensor, "p l"]) -> OracleContext:
        """The context of a state is the state."""
        return OracleContext(states, layouts)

    def goal(self, states: Float[Tensor, "p s"]) -> OracleLatents:
        """Goal states as what costs compare with: z (p, 1, s)."""
        return OracleLatents(states[:, None])

    def rollout(
        self, context: OracleContext, actions: Float[Tensor, "p s h a"], generator: torch.Generator | None = None
    ) -> OracleLatents:
        """Simulate every candidate, walls and all; z (p, s, h, 1, S) is the state after each model action."""
        raw = self.codec.decode(actions)
        layouts = context.layouts[:, None].expand(-1, raw.shape[1], -1)
        states = context.states[:, None].expand(-1, raw.shape[1], -1)
        path = []
        for step in range(raw.shape[2]):
            for part in range(raw.shape[3]):
                states = self.world.step_states(states, layouts, raw[:, :, step, part])
            path.append(states)
        return OracleLatents(torch.stack(path, dim=2).unsqueeze(-2))


class StraightLineCost:
    """Distance as the crow flies, squared, at the last imagined state: what a latent distance is at best."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, rollout: OracleLatents, goal: OracleLatents) -> Float[Tensor, "p s"]:
        last = rollout.z[:, :, -1, 0]
        return self.world.distance(last, goal.z.expand(-1, last.shape[1], -1)).square()


class ShortestPathCost:
    """Length of the shortest way that is left at the last imagined state: a perfect cost.

    Arguments:
        layouts: of the problems, which a rollout does not carry.
    """

    def __init__(self, world: World, layouts: Float[Tensor, "p l"]) -> None:
        self.world, self.layouts = world, layouts

    def __call__(self, rollout: OracleLatents, goal: OracleLatents) -> Float[Tensor, "p s"]:
        last = rollout.z[:, :, -1, 0]
        leading = last.shape[:2]
        goals = goal.z.expand(-1, leading[1], -1)
        layouts = self.layouts[:, None].expand(-1, leading[1], -1)
        left = self.world.shortest_path(last.flatten(0, 1), goals.flatten(0, 1), layouts.flatten(0, 1))
        return left.view(leading)
