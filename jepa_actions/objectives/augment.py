"""Random views of clips for masked prediction from little video: crop, mirror, reversal in time, colour."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class AugmentConfig:
    """What may change; each clip as a whole, so that motion stays motion."""

    crop: float = 1.0  # smallest share of height and width that a random crop keeps; 1 switches it off
    mirror: bool = False
    reverse: bool = False  # play backwards
    colour: float = 0.0  # spread of a random gain and offset per channel, in units of the normalised input


def augment(
    clips: Float[Tensor, "v t c h w"],
    config: AugmentConfig,
    generator: torch.Generator,
    rows: Int[Tensor, "v"] | None = None,
    total: int | None = None,
) -> Float[Tensor, "v t c h w"]:
    """Augmented clips of the same shape. The crop window is drawn once per batch, everything else per clip.

    Draws are made for `total` clips, of which these are number `rows`; without, they are all there are.
    """
    c, height, width = clips.shape[2:]
    rows = torch.arange(len(clips)) if rows is None else rows
    v = len(clips) if total is None else total

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def mine(drawn: Tensor) -> Tensor:
        return drawn[rows].to(clips)

    if config.crop < 1.0:
        share = config.crop + (1.0 - config.crop) * float(rand(1))
        h, w = max(8, round(share * height)), max(8, round(share * width))
        top, left = int(float(rand(1)) * (height - h + 1)), int(float(rand(1)) * (width - w + 1))
        window = clips[..., top : top + h, left : left + w].flatten(0, 1)
        resized = F.interpolate(window, (height, width), mode="bilinear", align_corners=False, antialias=True)
        clips = resized.unflatten(0, clips.shape[:2])
    if config.mirror:
        clips = torch.where(mine(rand(v, 1, 1, 1, 1)) < 0.5, clips.flip(-1), clips)
    if config.reverse:
        clips = torch.where(mine(rand(v, 1, 1, 1, 1)) < 0.5, clips.flip(1), clips)
    if config.colour > 0.0:
        gain = 1.0 + config.colour * (2.0 * mine(rand(v, 1, c, 1, 1)) - 1.0)
        clips = clips * gain + config.colour * (2.0 * mine(rand(v, 1, c, 1, 1)) - 1.0)
    return clips
