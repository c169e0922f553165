r"""Inverse dynamics towards a goal: which action was taken where the way leads to z_goal in k steps?

    L = - w log h(a_t | z_t, z_goal, k)

Two kinds of pairs. *Hindsight*: the goal is a later frame of the same clip, k the steps between them, w = 1; this is
goal-conditioned cloning, told how quick the behaviour was. *Stitched*: the goal is any frame of the scene, k = d(z_t,
z_goal) by the temporal distance, and w is large where the step came nearer to the goal (`weighted_steps`), so that of
all behaviour what leads there is copied. The distance is from video, so actions are needed on the labelled steps only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.objectives.advantage import weighted_steps
from jepa_actions.objectives.views import Views, masked_mean

UNKNOWN_BEFORE = 0.1  # share of pairs whose head is not told the state before


@dataclass(frozen=True)
class GoalInverseLossConfig:
    """Weight, schedule and pairs of the goal-conditioned inverse."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    pairs: int = 2048  # drawn per step of training
    stitched: float = 1.0  # share of them whose goal is any frame of the scene; the others are hindsight
    beta: float = 3.0  # per model step: how much more what gained a step counts
    largest: float = 5.0  # a weight is at most that
    detach: bool = True  # True trains the head alone and leaves the encoder

    def __post_init__(self) -> None:
        if not 0.0 <= self.stitched <= 1.0 or self.pairs < 1 or self.beta < 0 or self.largest < 1:
            raise ConfigError(
                f"objectives.goal_inverse: found pairs {self.pairs}, stitched {self.stitched}, beta {self.beta}, "
                f"largest {self.largest}, expected pairs >= 1, a share, beta >= 0 and largest >= 1"
            )


class GoalInverseObjective:
    """Goal-conditioned inverse dynamics on the batch's labelled steps."""

    def __init__(self, config: GoalInverseLossConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of both kinds' losses by their share; logs each, and the mean weight of stitched pairs."""
        stitched = round(self.config.pairs * self.config.stitched)
        z = views.z.detach() if self.config.detach else views.z
        losses: list[Tensor] = []
        logs: dict[str, Tensor] = {}
        if stitched:
            loss, weight = self._stitched(model, views, z, stitched, generator)
            losses.append(stitched * loss)
            logs |= {"stitched": loss.detach(), "weight": weight.detach()}
        if stitched < self.config.pairs:
            loss = self._hindsight(model, views, z, self.config.pairs - stitched, generator)
            losses.append((self.config.pairs - stitched) * loss)
            logs["hindsight"] = loss.detach()
        return torch.stack(losses).sum() / self.config.pairs, logs

    def _stitched(
        self, model: WorldModel, views: Views, z: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        head = model.goal_inverse
        if head is None:
            raise ConfigError("objectives.goal_inverse needs model.goal_inverse, found null")
        first, goal, far, weight = weighted_steps(
            model, views, z, count, generator, beta=self.config.beta, largest=self.config.largest
        )
        rows, steps = z.flatten(0, 1), z.shape[1]
        step = first - first // steps  # of t-1 steps a clip
        gap = far.ceil().clamp(1, head.config.max_gap).long()
        before = torch.where((first % steps > 0) & self._shown(len(first), generator, first), first - 1, first)
        q = head(rows[first], rows[goal], gap, rows[before])
        actions = _actions(views).flatten(0, 1)
        known = views.step_mask().flatten()[step] * weight
        return masked_mean(q.loss(actions[step]), known), weight.mean()

    def _shown(self, count: int, generator: torch.Generator, like: Tensor) -> Tensor:
        """Where the state before is shown: not always, as an agent that begins has seen one frame."""
        return (torch.rand(count, generator=generator) >= UNKNOWN_BEFORE).to(like.device)

    def _hindsight(self, model: WorldModel, views: Views, z: Tensor, count: int, generator: torch.Generator) -> Tensor:
        head = model.goal_inverse
        if head is None:
            raise ConfigError("objectives.goal_inverse needs model.goal_inverse, found null")
        clips, steps = z.shape[0], z.shape[1] - 1
        clip = torch.randint(clips, (count,), generator=generator)
        first = torch.randint(steps, (count,), generator=generator)
        unit = torch.rand(count, generator=generator)
        most = (steps - first).clamp(max=head.config.max_gap)
        gap = 1 + (unit * most).long().clamp(max=head.config.max_gap - 1)
        clip, first, gap = (x.to(z.device) for x in (clip, first, gap))
        actions, real = _actions(views), views.batch.frame_mask
        known = views.step_mask()[clip, first]
        if real is not None:
            known = known * real[clip, first + gap].to(known)
        before = torch.where((first > 0) & self._shown(count, generator, first), first - 1, first)
        q = head(z[clip, first], z[clip, first + gap], gap, z[clip, before])
        return masked_mean(q.loss(actions[clip, first]), known)


def _actions(views: Views) -> Tensor:
    actions = views.batch.actions
    if actions is None:
        raise ConfigError("objectives.goal_inverse needs actions, but the batch has none")
    return actions
