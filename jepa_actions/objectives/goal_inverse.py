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
from jepa_actions.objectives.advantage import AdvantageConfig, weighted_steps
from jepa_actions.objectives.views import Views, masked_mean

UNKNOWN_BEFORE = 0.1  # share of pairs whose head is not told the state before


@dataclass(frozen=True)
class GoalInverseLossConfig(AdvantageConfig):
    """Weight, schedule and pairs of the goal-conditioned inverse; `beta` and `largest` are of stitched pairs."""

    stitched: float = 1.0  # share of the pairs whose goal is any frame of the scene; the others are hindsight
    detach: bool = True  # True trains the head alone and leaves the encoder

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.stitched <= 1.0:
            raise ConfigError(f"GoalInverseLossConfig: found stitched {self.stitched}, expected a share, 0 to 1")


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
        first, goal, far, weight, chosen, total = weighted_steps(model, views, self.config, count, generator)
        rows, steps = z.flatten(0, 1), z.shape[1]
        step = first - first // steps  # of t-1 steps a clip
        gap = far.ceil().clamp(1, head.config.max_gap).long()
        shown = self._shown(total, generator)[chosen].to(first.device)
        before = torch.where((first % steps > 0) & shown, first - 1, first)
        q = head(rows[first], rows[goal], gap, rows[before])
        actions = _actions(views).flatten(0, 1)
        known = views.step_mask().flatten()[step] * weight
        return masked_mean(q.loss(actions[step]), known), views.share.mean(weight, total)

    def _shown(self, count: int, generator: torch.Generator) -> Tensor:
        """Where the state before is shown: not always, as an agent that begins has seen one frame."""
        return torch.rand(count, generator=generator) >= UNKNOWN_BEFORE

    def _hindsight(self, model: WorldModel, views: Views, z: Tensor, count: int, generator: torch.Generator) -> Tensor:
        head = model.goal_inverse
        if head is None:
            raise ConfigError("objectives.goal_inverse needs model.goal_inverse, found null")
        whole, share, steps, actions = views.whole, views.share, z.shape[1] - 1, _actions(views)
        clip = torch.randint(whole.clips, (count,), generator=generator)
        first = torch.randint(steps, (count,), generator=generator)
        unit = torch.rand(count, generator=generator)
        most = (steps - first).clamp(max=head.config.max_gap)
        gap = 1 + (unit * most).long().clamp(max=head.config.max_gap - 1)
        shown = self._shown(count, generator)
        low, high = share.bounds(whole.clips)
        mine = (clip >= low) & (clip < high)
        clip, first, gap, shown, mine = (x.to(z.device) for x in (clip, first, gap, shown, mine))
        known = views.known_steps()[clip, first] * whole.real[clip, first + gap]
        total = known.sum().clamp(min=1.0)
        clip, first, gap, shown, known = (x[mine] for x in (clip - low, first, gap, shown, known))
        before = torch.where((first > 0) & shown, first - 1, first)
        q = head(z[clip, first], z[clip, first + gap], gap, z[clip, before])
        loss: Tensor = (q.loss(actions[clip, first]) * known).sum()
        return loss / (total.to(loss) / share.of)


def _actions(views: Views) -> Tensor:
    actions = views.batch.actions
    if actions is None:
        raise ConfigError("objectives.goal_inverse needs actions, but the batch has none")
    return actions
