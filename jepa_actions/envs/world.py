"""What every simulator of this library offers to data, protocols and oracles: states and layouts as rows of numbers."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Split = Literal["train", "heldout", "all"]


@dataclass
class Behaviour:
    """E episodes of T frames and T - 1 actions; action `t` took frame `t` to frame `t + 1`. float32, on the CPU.

    A state row is the simulator's whole state: `World.start` from it goes on as the episode did. `layouts` has no
    columns where a world has one layout. Rows with equal layouts show the same scene.
    """

    states: Float[Tensor, "e t s"]
    actions: Float[Tensor, "e t-1 a"]  # raw, as commanded; the world may have cut it short
    layouts: Float[Tensor, "e l"]

    def __len__(self) -> int:
        return len(self.states)


class Simulation(Protocol):
    """n copies of a world, side by side."""

    @property
    def states(self) -> Float[Tensor, "n s"]:
        """The present states."""
        ...

    def step(self, actions: Float[Tensor, "n a"], /) -> Float[Tensor, "n s"]:
        """Take one raw action in every copy, and return the new states. Actions beyond what the world allows are cut to
        it. Raises ShapeError for another shape, DataError for a number that is not finite."""
        ...


class World(Protocol):
    """A simulator whose state is a row of numbers, set and read exactly.

    `sample`, `behaviour` and everything else random depend on their seed alone: the first n of more are the same n.
    """

    @property
    def name(self) -> str:
        """As in `env:NAME` and in a protocol's `env`."""
        ...

    @property
    def action_names(self) -> tuple[str, ...]:
        """One per raw action dimension."""
        ...

    @property
    def state_names(self) -> tuple[str, ...]:
        """One per column of a state."""
        ...

    @property
    def layout_names(self) -> tuple[str, ...]:
        """One per column of a layout; empty where there is one layout."""
        ...

    @property
    def image_size(self) -> int:
        """Side of a square picture, pixels."""
        ...

    @property
    def fps(self) -> float:
        """Environment steps per second."""
        ...

    def start(self, states: Float[Tensor, "n s"], layouts: Float[Tensor, "n l"], /) -> Simulation:
        """Copies in the given states. Raises ShapeError or DataError for a state or layout that cannot be."""
        ...

    def render(self, states: Float[Tensor, "*b s"], layouts: Float[Tensor, "*b l"], /) -> UInt8[Tensor, "*b 3 h w"]:
        """Pictures of states, RGB; nothing of the last action is in them."""
        ...

    def sample(
        self, n: int, split: Split, generator: torch.Generator, /
    ) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n l"]]:
        """Random states at rest, in random layouts of a split."""
        ...

    def behaviour(
        self, episodes: int, *, steps: int, seed: int, split: Split = "train", episodes_per_layout: int = 1
    ) -> Behaviour:
        """Behaviour that is not expert; `episodes_per_layout` episodes in a row share a layout."""
        ...

    def solved(
        self, states: Float[Tensor, "*b s"], goals: Float[Tensor, "*b s"], tolerance: float | None = None, /
    ) -> Bool[Tensor, "*b"]:
        """Whether a state counts as the goal, by this world's own rule; `tolerance` in its unit, or its own."""
        ...

    def distance(self, states: Float[Tensor, "*b s"], goals: Float[Tensor, "*b s"], /) -> Float[Tensor, "*b"]:
        """Distance to the goal in the unit of `tolerance`, as the crow flies."""
        ...

    def shortest_path(
        self, states: Float[Tensor, "n s"], goals: Float[Tensor, "n s"], layouts: Float[Tensor, "n l"], /
    ) -> Float[Tensor, "n"]:
        """Length of the shortest way that walls allow, in the unit of `distance`; that where there are none."""
        ...

    def towards(self, states: Float[Tensor, "*b s"], goals: Float[Tensor, "*b s"], /) -> Float[Tensor, "*b a"]:
        """The raw action of the straight-line floor: straight at the goal, blind to walls and velocity."""
        ...
