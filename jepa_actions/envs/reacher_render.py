"""Reacher: frames, batched on any device. Drawn from above, by our own painter rather than by MuJoCo: on two cores
MuJoCo's software OpenGL gives hundreds of frames a second and needs a driver. A test compares the two pictures.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.envs.drawing import Canvas, Colour, capsule, in_chunks
from jepa_actions.envs.reacher_model import HUB_RADIUS, LOWER, LOWER_RADIUS, UPPER, UPPER_RADIUS

IMAGE_SIZE = 64  # px


@dataclass(frozen=True)
class ReacherConfig:
    """Colours: RGB, 0 to 255."""

    background: Colour = (26, 26, 31)
    hub: Colour = (153, 153, 153)
    upper: Colour = (51, 128, 242)
    lower: Colour = (242, 153, 26)


def render_reacher(states: Float[Tensor, "*b 4"], config: ReacherConfig | None = None) -> UInt8[Tensor, "*b 3 h w"]:
    """Draw arms: the hub, on it the upper link, on it the lower one. x points right, y up, angles turn from x to y.
    Velocities are not in the picture.
    """
    palette = ReacherConfig() if config is None else config

    def draw(rows: Float[Tensor, "n 4"]) -> UInt8[Tensor, "n 3 h w"]:
        canvas = Canvas(1, IMAGE_SIZE, palette.background, (-1.0, 1.0, 1.0, -1.0), rows.device)
        hub = torch.zeros(len(rows), 2, device=rows.device)
        elbow = UPPER * torch.stack([torch.cos(rows[:, 0]), torch.sin(rows[:, 0])], dim=1)
        canvas.paint(canvas.disc(hub[:1], HUB_RADIUS), palette.hub)
        canvas.repeat(len(rows))
        canvas.paint(capsule(*canvas.local(hub, rows[:, 0]), UPPER, UPPER_RADIUS), palette.upper)
        canvas.paint(capsule(*canvas.local(elbow, rows[:, 0] + rows[:, 1]), LOWER, LOWER_RADIUS), palette.lower)
        return canvas.frames()

    return in_chunks(draw, states.float(), IMAGE_SIZE)
