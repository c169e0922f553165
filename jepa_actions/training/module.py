"""Model and weighted objectives as one module: what a step computes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jepa_actions.data import Batch
from jepa_actions.errors import ConfigError, JepaActionsError
from jepa_actions.models import WorldModel
from jepa_actions.objectives import (
    Features,
    Forward,
    GoalInverseObjective,
    Inverse,
    Masked,
    Objective,
    SigReg,
    SubgoalObjective,
    TargetEncoder,
    TemporalDistanceObjective,
    TemporalSimilarity,
    VicReg,
    Views,
)
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.meters import spread
from jepa_actions.training.schedules import active

OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "masked": Masked,
    "forward": Forward,
    "inverse": Inverse,
    "sigreg": SigReg,
    "vicreg": VicReg,
    "temporal_similarity": TemporalSimilarity,
    "distance": TemporalDistanceObjective,
    "goal_inverse": GoalInverseObjective,
    "subgoal": SubgoalObjective,
    "features": Features,
}


class NonFiniteLossError(JepaActionsError):
    """A loss became infinite or NaN; the message names the term, the step and the clips."""


class TrainingModule(nn.Module):
    """Model and objectives as one module whose forward is the total loss, so that DDP sees every use of a weight."""

    def __init__(self, model: WorldModel, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.terms: dict[str, tuple[Any, Objective]] = {}
        for name, build in OBJECTIVES.items():
            term = getattr(config.objectives, name)
            if term is not None:
                self.terms[name] = (term, build(term))
        if not self.terms:
            raise ConfigError("objectives: at least one term is needed, found none")
        self.steps = config.train.steps

    def forward(
        self, batch: Batch, target: TargetEncoder | None, step: int, seed: int, measure: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the active terms, and their logs as `term/name`; with `measure`, also the collapse meters."""
        views = Views(self.model, batch, target)
        total: Tensor | None = None
        logs: dict[str, Tensor] = {}
        for position, (name, (term, objective)) in enumerate(self.terms.items()):
            if not active(term.start, term.stop, step, self.steps):
                continue
            generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 17 + position)
            loss, details = objective(self.model, views, generator)
            logs[f"{name}/total"] = loss.detach()
            logs.update({f"{name}/{key}": value for key, value in details.items()})
            total = term.weight * loss if total is None else total + term.weight * loss
        if total is None:
            raise ConfigError(f"objectives: no term is active at step {step} (see start and stop)")
        if measure:
            logs.update(self._meters(views))
        return total, logs

    @torch.no_grad()
    def _meters(self, views: Views) -> dict[str, Tensor]:
        parts = (self.model.encoder, self.model.pooler)
        if not any(weight.requires_grad for part in parts for weight in part.parameters()):
            return {}  # frozen latents are what they are
        if "z" not in views.__dict__:  # no objective used z: measuring it must not move the pooler's running statistics
            self.model.pooler.eval()
            _ = views.z
            self.model.pooler.train(self.training)
        meters = {f"z/{key}": value for key, value in spread(views.z.detach().flatten(0, -2)).items()}
        if views.target is not None and "masked" in self.terms and len(views.clips):
            tokens = views.target_tokens(views.clips[:8]).flatten(0, 1)
            meters.update({f"target/{key}": value for key, value in spread(tokens).items()})
        return {key: torch.tensor(value) for key, value in meters.items()}


def check_finite(loss: Tensor, logs: dict[str, Tensor], step: int, batch: Batch) -> None:
    """Raise NonFiniteLossError, naming terms, step and clips, unless the loss is finite."""
    if bool(torch.isfinite(loss)):
        return
    terms = [key for key, value in logs.items() if not bool(torch.isfinite(value).all())]
    clips = [f"{int(e)}:{int(f)}" for e, f in zip(batch.episode[:8], batch.frame[:8, 0], strict=True)]
    raise NonFiniteLossError(
        f"step {step}: the loss is {float(loss.detach())}; terms not finite: {', '.join(terms) or 'none alone'}; "
        f"clips (episode:first frame): {', '.join(clips)}{' ...' if batch.batch_size > 8 else ''}"
    )
