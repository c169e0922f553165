"""Push-T: frames, batched on any device, in gym-pusht's colours. Neither the goal zone nor the cross of the last action
is drawn.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.envs.drawing import Canvas, Colour, box, in_chunks
from jepa_actions.envs.push_t_geometry import AGENT_RADIUS, SIZE, WALL_HIGH, WALL_LOW, WALL_RADIUS, tee

IMAGE_SIZE = 64  # px


@dataclass(frozen=True)
class PushTConfig:
    """Colours: RGB, 0 to 255."""

    background: Colour = (255, 255, 255)
    walls: Colour = (211, 211, 211)
    block: Colour = (119, 136, 153)
    agent: Colour = (65, 105, 225)


def render_push_t(states: Float[Tensor, "*b s"], config: PushTConfig | None = None) -> UInt8[Tensor, "*b 3 h w"]:
    """Draw scenes: walls, on them the block, on it the agent. Only the first five columns of a state are looked at."""
    palette = PushTConfig() if config is None else config

    def draw(rows: Float[Tensor, "n s"]) -> UInt8[Tensor, "n 3 h w"]:
        canvas = Canvas(1, IMAGE_SIZE, palette.background, (0.0, 0.0, SIZE, SIZE), rows.device)
        zero = torch.zeros(1, 2, device=rows.device)
        inside = box(*canvas.local(zero, zero[:, 0]), (WALL_LOW, WALL_LOW), (WALL_HIGH, WALL_HIGH))
        canvas.paint(inside.abs() - WALL_RADIUS, palette.walls)
        canvas.repeat(len(rows))
        canvas.paint(tee(*canvas.local(rows[:, 2:4], rows[:, 4])), palette.block)
        canvas.paint(canvas.disc(rows[:, :2], AGENT_RADIUS), palette.agent)
        return canvas.frames()

    return in_chunks(draw, states[..., :5].float(), IMAGE_SIZE)
