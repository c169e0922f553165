"""TwoRoom: many copies of a two-room world at once, in torch, on any device. Rooms of others import its names from
here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from jepa_actions.envs.two_room_distractors import Distractors
from jepa_actions.envs.two_room_geometry import TwoRoomConfig, is_free, is_success, move, same_room
from jepa_actions.envs.two_room_layouts import (
    LayoutSplit,
    is_heldout,
    layout_table,
    sample_layouts,
    sample_positions,
)
from jepa_actions.envs.two_room_render import render
from jepa_actions.envs.two_room_scenery import check_scenery, drawn_scenery, has_scenery, next_scenery
from jepa_actions.errors import DataError, ShapeError

__all__ = [
    "Distractors",
    "LayoutSplit",
    "TwoRoom",
    "TwoRoomConfig",
    "TwoRoomState",
    "is_free",
    "is_heldout",
    "is_success",
    "layout_table",
    "move",
    "render",
    "same_room",
    "sample_layouts",
    "sample_positions",
]


@dataclass
class TwoRoomState:
    """The whole state of b worlds: where each agent is, each layout, and what distractors do. float32, px."""

    position: Float[Tensor, "b 2"]  # [x, y]
    wall_x: Float[Tensor, "b"]
    door_y: Float[Tensor, "b"]
    scenery: Float[Tensor, "b 4"] | None = None  # see `two_room_scenery`; None in the plain room

    def map(self, change: Callable[[Tensor], Tensor]) -> "TwoRoomState":
        """The same change to every part."""
        scenery = None if self.scenery is None else change(self.scenery)
        return TwoRoomState(change(self.position), change(self.wall_x), change(self.door_y), scenery)

    @classmethod
    def cat(cls, states: Sequence["TwoRoomState"]) -> "TwoRoomState":
        """Several batches as one."""
        names = [f.name for f in fields(cls) if getattr(states[0], f.name) is not None]
        return cls(**{name: torch.cat([getattr(state, name) for state in states]) for name in names})

    def put(self, rows: Int[Tensor, "k"], other: "TwoRoomState") -> None:
        """Overwrite the worlds `rows` with those of another state."""
        for f in fields(self):
            part = getattr(self, f.name)
            if part is not None:
                part[rows] = getattr(other, f.name)

    def clone(self) -> "TwoRoomState":
        """Return a copy that shares no memory."""
        return self.map(torch.clone)

    def to(self, device: torch.device | str) -> "TwoRoomState":
        """Return the state on a device."""
        return self.map(lambda part: part.to(device))


class TwoRoom:
    """`num_envs` worlds that step together. The state is what `get_state` returns, nothing else, so restoring it is
    exact.

    Args:
        num_envs: number of worlds, b.
        config: geometry; the published one by default.
        device: where the state lives; torch's default device when None.
    """

    def __init__(
        self, num_envs: int, config: TwoRoomConfig | None = None, device: torch.device | str | None = None
    ) -> None:
        if num_envs < 1:
            raise ShapeError(f"TwoRoom.num_envs: found {num_envs}, expected at least 1")
        self.num_envs = num_envs
        self.config = TwoRoomConfig() if config is None else config
        self.device = torch.get_default_device() if device is None else torch.device(device)
        self.blocked: Bool[Tensor, "b"] = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._state: TwoRoomState | None = None

    def reset(self, generator: torch.Generator, layouts: LayoutSplit = "train") -> TwoRoomState:
        """Draw a layout and a free position for every world, and a scenery where distractors ask for one. The same
        generator state gives the same worlds on any device.
        """
        wall_x, door_y = sample_layouts(self.num_envs, layouts, generator, self.config)
        position = sample_positions(wall_x, door_y, generator, self.config)
        scenery = drawn_scenery(self.num_envs, generator, self.config) if has_scenery(self.config) else None
        self._state = TwoRoomState(position, wall_x, door_y, scenery).to(self.device)
        self.blocked = torch.zeros_like(self.blocked)
        return self._state.clone()

    def step(self, action: Float[Tensor, "b 2"]) -> TwoRoomState:
        """Move every agent by its action (px; norms above `config.max_step` are scaled down) and return the new state.

        Raises:
            ShapeError: the action is not a floating-point tensor of shape (b, 2).
            DataError: it holds a NaN or an infinity.
        """
        state = self._current()
        check_action(action, (self.num_envs, 2))
        action = action.to(device=self.device, dtype=torch.float32)
        position, self.blocked = move(state.position, action, state.wall_x, state.door_y, self.config)
        scenery = None if state.scenery is None else next_scenery(state.scenery, action, self.config)
        self._state = TwoRoomState(position, state.wall_x, state.door_y, scenery)
        return self._state.clone()

    def get_state(self) -> TwoRoomState:
        """Return a copy of the state; `set_state` with it restores the worlds bit for bit."""
        return self._current().clone()

    def set_state(self, state: TwoRoomState) -> None:
        """Put every world in a given state.

        Raises:
            ShapeError: a field has a wrong shape or dtype, or there is no scenery where distractors need one.
            DataError: a position is in a wall, outside of the world, or not finite, or a scenery cannot be.
        """
        expected = {"position": (self.num_envs, 2), "wall_x": (self.num_envs,), "door_y": (self.num_envs,)}
        for name, shape in expected.items():
            value: Tensor = getattr(state, name)
            if tuple(value.shape) != shape or value.dtype != torch.float32:
                raise ShapeError(
                    f"TwoRoom state {name}: found {tuple(value.shape)} {value.dtype}, expected {shape} torch.float32"
                )
        check_free("state position", state.position, state.wall_x, state.door_y, self.config)
        check_scenery(state.scenery, self.num_envs, self.config)
        self._state = state.clone().to(self.device)
        self.blocked = torch.zeros_like(self.blocked)

    def render(self) -> UInt8[Tensor, "b 3 h w"]:
        """Draw every world: RGB, `config.image_size` pixels square."""
        state = self._current()
        return render(state.position, state.wall_x, state.door_y, self.config, state.scenery)

    def success(self, goal: Float[Tensor, "b 2"]) -> Bool[Tensor, "b"]:
        """Whether each agent is within `config.success_radius` of its goal."""
        return is_success(self._current().position, goal, self.config)

    def _current(self) -> TwoRoomState:
        if self._state is None:
            raise DataError("TwoRoom: no state yet, call reset(generator) or set_state(state) first")
        return self._state


def check_action(action: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ShapeError or DataError unless `action` is a finite floating-point tensor of `shape`."""
    if tuple(action.shape) != shape or not action.is_floating_point():
        raise ShapeError(
            f"TwoRoom action: found shape {tuple(action.shape)} {action.dtype}, "
            f"expected {shape} floating point, [dx, dy] in px"
        )
    finite = torch.isfinite(action).reshape(-1, 2).all(dim=-1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise DataError(
            f"TwoRoom action: found {action.reshape(-1, 2)[row].tolist()} in row {row}, expected finite [dx, dy] in px"
        )


def check_free(
    what: str,
    position: Float[Tensor, "b 2"],
    wall_x: Float[Tensor, "b"],
    door_y: Float[Tensor, "b"],
    config: TwoRoomConfig,
) -> None:
    """Raise DataError, naming `what` and the first bad row, unless every position is free in its layout."""
    free = is_free(position, wall_x, door_y, config)
    if not bool(free.all()):
        row = int((~free).nonzero()[0, 0])
        raise DataError(
            f"TwoRoom {what}: found {position[row].tolist()} in row {row}, "
            f"expected a free point between {config.low} and {config.high} px, "
            f"outside of the wall at x = {float(wall_x[row]):g} with its door at y = {float(door_y[row]):g}"
        )
