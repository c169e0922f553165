"""Push-T behaviour data: an agent that keeps pushing the block about, to no goal."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.push_t_geometry import SIZE, UNIFORMS, block_centre, place
from jepa_actions.envs.push_t_physics import MAX_STEP, cut
from jepa_actions.envs.rows import stream

AROUND_RATE, DIRECT_RATE = 0.5, 0.4  # of what the agent sets out to do; the rest are strolls
APPROACH = 105.0  # px from the block's centre to where a push begins, free of all its corners
CONTACT = 45.0  # px from the block's centre to a pushing agent's, about
AIM_STD, SIDE_STD = 40.0, 0.6  # px beside the centre; rad off the side that faces the way to push
NOISE_STD = 4.0  # px, on every action
HOLD = 24  # steps at most to one way point
MIDDLE = 130.0  # px; blocks are pushed towards points this far from the edge or farther, away from the walls
_PER_STEP = 8  # uniform numbers that an episode takes at every step


def push_about(
    episodes: int,
    steps: int,
    seed: int,
    step: Callable[[Float[Tensor, "e 10"], Float[Tensor, "e 2"]], Float[Tensor, "e 10"]],
) -> tuple[Float[Tensor, "e t 10"], Float[Tensor, "e t-1 2"]]:
    """States and actions of episodes that start at random scenes.

    The agent has a way point, walks to it at a random speed, and takes a new one when it is there, or after `HOLD`
    steps. One time in ten it walks straight to a random point, block or no block. Else it sets out to push: from where
    it is, or (five times in nine) it first walks round the block to about opposite of a random point in the middle of
    the field. A push goes about as far as that point, and stops before it brings the block near a wall.
    """
    scene, uniform, normal = (np.empty((episodes, *shape)) for shape in ((UNIFORMS,), (steps, _PER_STEP), (steps, 5)))
    for e in range(episodes):
        random = stream(seed, e)
        random.random(out=scene[e])
        for t in range(steps):
            random.random(out=uniform[e, t])
            random.standard_normal(out=normal[e, t])
    chance, gauss = torch.from_numpy(uniform).float(), torch.from_numpy(normal).float()
    states, actions = torch.empty(episodes, steps + 1, 10), torch.empty(episodes, steps, 2)
    states[:, 0] = place(torch.from_numpy(scene).float())
    way, speed = states[:, 0, :2].clone(), torch.ones(episodes)
    held = torch.full((episodes,), HOLD)
    walks = torch.zeros(episodes, dtype=torch.bool)  # round the block, a push is next
    for t in range(steps):
        now = states[:, t]
        left = torch.linalg.vector_norm(way - now[:, :2], dim=1)
        done = (left < 12) | (held >= HOLD)
        beyond, beside = _push(now, chance[:, t], gauss[:, t])
        around = ~walks & (chance[:, t, 3] < AROUND_RATE)
        direct = walks | (chance[:, t, 3] > 1 - DIRECT_RATE)
        stroll = 40 + chance[:, t, 4:6] * (SIZE - 80)
        fresh = torch.where(direct[:, None], beyond, torch.where(around[:, None], beside, stroll))
        way = torch.where(done[:, None], fresh, way)
        speed = torch.where(done, 0.4 + 0.6 * chance[:, t, 6], speed)
        held, walks = torch.where(done, 0, held + 1), torch.where(done, around, walks)
        noise = NOISE_STD * gauss[:, t, 3:5]
        ahead = torch.where(walks[:, None], _round_the_block(now, way), way - now[:, :2])
        actions[:, t] = cut(cut(ahead) * speed[:, None] + noise) * (1 - 1e-6)  # below the bound, rounded too
        states[:, t + 1] = step(now, actions[:, t])
    return states, actions


def _push(
    states: Float[Tensor, "e 10"], chance: Float[Tensor, "e u"], gauss: Float[Tensor, "e g"]
) -> tuple[Float[Tensor, "e 2"], Float[Tensor, "e 2"]]:
    """A way point beyond the block, for an agent that is beside it, and one beside the block, to push from."""
    centre = block_centre(states)
    middle = MIDDLE + chance[:, :2] * (SIZE - 2 * MIDDLE)
    wanted = middle - centre
    angle = torch.atan2(wanted[:, 1], wanted[:, 0]) + SIDE_STD * gauss[:, 0]
    beside = centre - APPROACH * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    through = centre + AIM_STD * gauss[:, 1:3] - states[:, :2]
    forwards = through / torch.linalg.vector_norm(through, dim=1, keepdim=True).clamp(min=1e-6)
    far = torch.linalg.vector_norm(wanted, dim=1, keepdim=True) * (0.5 + chance[:, 2:3])
    end = (centre + forwards * far).clamp(MIDDLE, SIZE - MIDDLE)
    return end - forwards * CONTACT, beside.clamp(20, SIZE - 20)


def _round_the_block(states: Float[Tensor, "e 10"], way: Float[Tensor, "e 2"]) -> Float[Tensor, "e 2"]:
    """Where to step on the way to a point: along a circle about the block's centre while that is ahead and near."""
    ahead, block = way - states[:, :2], block_centre(states) - states[:, :2]
    near = torch.linalg.vector_norm(block, dim=1, keepdim=True).clamp(min=1e-6)
    inwards = block / near
    along = torch.stack([-inwards[:, 1], inwards[:, 0]], dim=1)
    along = along * torch.where((along * ahead).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    outwards = ((APPROACH - near) / 40).clamp(0, 1)
    detour = MAX_STEP * (along - outwards * inwards)
    blocked = (near < APPROACH + 10) & ((inwards * ahead).sum(dim=1, keepdim=True) > 0)
    return torch.where(blocked, detour, ahead)
