"""The exponential moving average of encoder and pooler that gives targets."""

import copy

import torch

from jepa_actions.models import VideoEncoder, WorldModel
from jepa_actions.objectives import TargetEncoder


class Ema:
    """target <- m target + (1 - m) online after every step, m rising linearly from `start` to `end` (as V-JEPA).

    A frozen backbone is no part of it.
    """

    def __init__(self, model: WorldModel, start: float, end: float, steps: int) -> None:
        self.start, self.end, self.steps = start, end, steps
        encoder = copy.deepcopy(model.encoder) if isinstance(model.encoder, VideoEncoder) else None
        parts = ("pooler",) if encoder is None else ("encoder", "pooler")
        self.target = TargetEncoder(encoder, copy.deepcopy(model.pooler)).requires_grad_(False).eval()
        self._pairs = [
            (theirs, ours)
            for part in parts
            for theirs, ours in zip(
                getattr(self.target, part).parameters(), getattr(model, part).parameters(), strict=True
            )
        ]

        self._buffers = [
            (theirs, ours)
            for part in parts
            for theirs, ours in zip(getattr(self.target, part).buffers(), getattr(model, part).buffers(), strict=True)
        ]

    def momentum(self, step: int) -> float:
        """m at a step."""
        return self.start + (self.end - self.start) * min(step / max(self.steps - 1, 1), 1.0)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the target towards the online weights."""
        targets = [target for target, _ in self._pairs]
        online = [weight.detach() for _, weight in self._pairs]
        if targets:  # a backbone's patches as they are have nothing to move
            torch._foreach_lerp_(targets, online, 1.0 - self.momentum(step))
        for theirs, ours in self._buffers:
            theirs.copy_(ours)
