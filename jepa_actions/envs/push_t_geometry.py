"""Push-T: sizes in gym-pusht's pixels, 512 to a side, x to the right, y down; the T's shape; random scenes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.drawing import box

SIZE = 512.0
WALL_LOW, WALL_HIGH, WALL_RADIUS = 5.0, 506.0, 2.0  # the four walls' middle lines
AGENT_RADIUS = 15.0
BAR, STEM = ((-60.0, 0.0), (60.0, 30.0)), ((-15.0, 0.0), (15.0, 120.0))  # of the T, whose origin is the bar's edge
CENTRE = 45.0  # from the T's origin to its centre of mass, along the stem; no corner is more than 77 px from it
TARGET_LOW, TARGET_HIGH = AGENT_RADIUS, SIZE - AGENT_RADIUS  # where the agent's target may be
_CANDIDATES = 8


def tee(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to the T at the origin, stem along y, px."""
    return torch.minimum(box(x, y, *BAR), box(x, y, *STEM))


def block_centre(states: Float[Tensor, "*b s"]) -> Float[Tensor, "*b 2"]:
    """The block's centre of mass, px."""
    angle = states[..., 4]
    return states[..., 2:4] + CENTRE * torch.stack([-torch.sin(angle), torch.cos(angle)], dim=-1)


def clearance(points: Float[Tensor, "*b 2"], states: Float[Tensor, "*b s"]) -> Float[Tensor, "*b"]:
    """Signed distance from points to the block, px."""
    offset, angle = points - states[..., 2:4], states[..., 4]
    cos, sin = torch.cos(angle), torch.sin(angle)
    return tee(offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 1] * cos - offset[..., 0] * sin)


UNIFORMS = 3 + 2 * _CANDIDATES
"""Numbers in [0, 1) that a scene takes."""


def place(unit: Float[Tensor, "n u"]) -> Float[Tensor, "n 10"]:
    """Map `UNIFORMS` numbers to a scene at rest: the block anywhere within the walls, at any angle, the agent anywhere
    that the block is not.
    """
    margin = 90.0  # the block's centre from the picture's edge, so that all of it is within the walls
    states = unit.new_zeros((len(unit), 10))
    states[:, 4] = (2 * unit[:, 2] - 1) * math.pi
    centre = margin + unit[:, :2] * (SIZE - 2 * margin)
    states[:, 2:4] = centre - block_centre(states)
    candidates = 50 + unit[:, 3:].reshape(len(unit), _CANDIDATES, 2) * (SIZE - 100)
    free = clearance(candidates, states[:, None].expand(-1, _CANDIDATES, -1)) > AGENT_RADIUS + 2
    first = free.int().argmax(dim=1)  # all taken: once in 10**8 scenes; the two then push each other apart
    states[:, :2] = candidates[torch.arange(len(unit)), first]
    return states
