"""Learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

import math

from jepa_actions.training.config import OptimConfig


def learning_rate(step: int, config: OptimConfig) -> float:
    """Linear warm-up, then a cosine to `final_lr * lr`."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, config.steps - warmup))
    share = config.final_lr + (1.0 - config.final_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.lr * share


def active(start: float, stop: float, step: int, steps: int) -> bool:
    """Whether a term that runs from `start` to `stop` (shares of training) is part of this step."""
    return start * steps <= step < stop * steps or (stop >= 1.0 and step >= start * steps)
