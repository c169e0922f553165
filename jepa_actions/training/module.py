"""Model and weighted objectives as one module: what a step computes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jepa_actions.data import Batch
from jepa_actions.errors import ConfigError, JepaActionsError
from jepa_actions.models import WorldModel
from jepa_actions.nn import Share, gather_rows, gather_uneven, process_of
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
from jepa_actions.objectives.global_batch import GlobalBatch, clip_places
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


MEASURED_CLIPS = 8  # clips whose targets the meters look at


class NonFiniteLossError(JepaActionsError):
    """A loss became infinite or NaN; the message names the term, the step and the clips."""


class TrainingModule(nn.Module):
    """Model and objectives as one module whose forward is the total loss, so that DDP sees every use of a weight.

    `lap`, where it is set, is told that a part of the step, `forward` or `meters`, has just been done.
    """

    def __init__(self, model: WorldModel, config: TrainConfig) -> None:
        super().__init__()
        self.lap: Callable[[str], None] = lambda part: None
        self.model = model
        self.terms: dict[str, tuple[Any, Objective]] = {}
        for name, build in OBJECTIVES.items():
            term = getattr(config.objectives, name)
            if term is not None:
                self.terms[name] = (term, build(term))
        if not self.terms:
            raise ConfigError("objectives: at least one term is needed, found none")
        self.steps = config.train.steps
        self.in_float64 = config.train.dtype == "float64"

    def forward(
        self,
        batch: Batch,
        target: TargetEncoder | None,
        step: int,
        seed: int,
        measure: bool,
        share: Share | None = None,
        whole: GlobalBatch | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the active terms, and their logs as `term/name`; with `measure`, also the collapse meters.

        Loss and logs are those of a part of the global batch: their mean over all parts is what one process computes.
        The meters alone look at all processes' clips, and, with `train.accumulate`, at one part of each.

        Args:
            batch: the clips of this part.
            target: the EMA copy.
            step, seed: what every draw depends on.
            measure: whether to take the meters.
            share: which part of the global batch the clips are; None: this process's.
            whole: the labels of the global batch; None gathers them.
        """
        views = Views(self.model, in_double(batch) if self.in_float64 else batch, target, share, whole)
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
            self.lap("forward")
            logs.update(self._meters(views))
            self.lap("meters")
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
        z = gather_rows(views.z.detach())
        meters = {f"z/{key}": value for key, value in spread(z).items()}
        if views.target is not None and "masked" in self.terms:
            tokens = self._target_tokens(views)
            if len(tokens):
                meters.update({f"target/{key}": value for key, value in spread(tokens).items()})
        return {key: torch.tensor(value) for key, value in meters.items()}

    def _target_tokens(self, views: Views) -> Float[Tensor, "v n d"]:
        """The target's tokens of the first clips of the global batch, or of those in the parts now at hand."""
        share, processes = views.share, process_of()[1]
        owner, place = clip_places(views.whole, share.of, len(self.model.config.cameras))
        owner, place = owner[:MEASURED_CLIPS], place[:MEASURED_CLIPS]
        parts = share.of // processes
        here = owner == share.index
        clips = views.clips[place[here].to(views.batch.frame.device)]
        stand_in = clips if len(clips) else clips.new_zeros(1, *clips.shape[1:])
        tokens = views.target_tokens(stand_in)[: len(clips)]
        at_hand = owner[owner % parts == share.index % parts] // parts
        return gather_uneven(tokens, torch.bincount(at_hand, minlength=processes).tolist())


def in_double(batch: Batch) -> Batch:
    """The same batch with float64 labels and latents, for a model that computes in float64."""

    def double(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.double()

    tokens = None if batch.tokens is None else {camera: value.double() for camera, value in batch.tokens.items()}
    actions, proprio, z = (double(value) for value in (batch.actions, batch.proprio, batch.z))
    return replace(batch, actions=actions, proprio=proprio, tokens=tokens, z=z)


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
