"""The true simulator behind the planning protocol: what the same planner reaches when the model is perfect."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.data import ActionCodec, ModelBounds
from jepa_actions.envs.two_room import TwoRoomConfig, TwoRoomState, move


@dataclass(frozen=True)
class OracleLatents:
    """Positions in px as latents: one token of two channels."""

    z: Float[Tensor, "... 1 2"]


class OracleModel:
    """TwoRoom itself as a world model; the context is the simulator's true state. For oracles only.

    Arguments:
        codec: model actions to raw ones; a model step simulates the `block` raw actions one after the other.
        config: the geometry.
    """

    def __init__(self, codec: ActionCodec, config: TwoRoomConfig) -> None:
        self.codec, self.config = codec, config

    @property
    def action_dim(self) -> int:
        return self.codec.action_dim

    @property
    def action_bounds(self) -> ModelBounds:
        return self.codec.model_bounds

    def encode(self, state: TwoRoomState) -> TwoRoomState:
        """The context of a state is the state."""
        return state

    def goal(self, position: Float[Tensor, "p 2"]) -> OracleLatents:
        """A goal position, px, as what costs compare with: z (p, 1, 2)."""
        return OracleLatents(position[:, None])

    def rollout(
        self, context: TwoRoomState, actions: Float[Tensor, "p s h a"], generator: torch.Generator | None = None
    ) -> OracleLatents:
        """Simulate every candidate, walls and all; z (p, s, h, 1, 2) is the position after each model action."""
        raw = self.codec.decode(actions)
        wall_x, door_y = context.wall_x[:, None], context.door_y[:, None]
        position = context.position[:, None].expand(-1, raw.shape[1], -1)
        positions = []
        for step in range(raw.shape[2]):
            for part in range(raw.shape[3]):
                position, _ = move(position, raw[:, :, step, part], wall_x, door_y, self.config)
            positions.append(position)
        return OracleLatents(torch.stack(positions, dim=2).unsqueeze(-2))
