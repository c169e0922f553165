"""Pictures of a dot that an action moves: enough of a world for losses to have something to learn."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa_actions.data import Batch


def moving_dot(b: int, t: int, seed: int, size: int = 16) -> Batch:
    """Clips of a soft dot on black; the model action is its displacement, in units of 2 px."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randn(b, t - 1, 2, generator=generator).clamp(-1.5, 1.5)
    first = size / 2 + 2.0 * torch.randn(b, 1, 2, generator=generator).clamp(-1.5, 1.5)
    position: Tensor = torch.cat([first, first + 2.0 * actions.cumsum(1)], dim=1)
    grid = torch.arange(size)
    row, col = ((grid - position[..., i : i + 1]).square() for i in range(2))
    image = (255 * torch.exp(-(row[..., :, None] + col[..., None, :]) / 4)).to(torch.uint8)
    return Batch(
        frames={"image": image[:, :, None].repeat(1, 1, 3, 1, 1)},
        episode=torch.arange(b),
        frame=torch.arange(t).repeat(b, 1),
        actions=actions,
        action_mask=torch.ones(b, t - 1, dtype=torch.bool),
        provenance=torch.zeros(b, t - 1, dtype=torch.int64),
    )
