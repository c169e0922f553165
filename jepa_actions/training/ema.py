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
        self.target = TargetEncoder(encoder, copy.deepcopy(model.pooler)).requires_grad_(False).eval()
        self._online = model
        self._parts = ("pooler",) if encoder is None else ("encoder", "pooler")

    def momentum(self, step: int) -> float:
        """m at a step."""
        return self.start + (self.end - self.start) * min(step / max(self.steps - 1, 1), 1.0)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the target towards the online weights."""
        pairs = [(getattr(self.target, part), getattr(self._online, part)) for part in self._parts]
        # Asked for anew each time: what wraps a model for several processes may put new tensors in its place.
        targets = [weight for theirs, _ in pairs for weight in theirs.parameters()]
        online = [weight.detach() for _, ours in pairs for weight in ours.parameters()]
        if targets:  # a backbone's patches as they are have nothing to move
            torch._foreach_lerp_(targets, online, 1.0 - self.momentum(step))
        for theirs, ours in pairs:
            for kept, now in zip(theirs.buffers(), ours.buffers(), strict=True):
                kept.copy_(now)
