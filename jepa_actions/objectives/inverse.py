r"""Inverse dynamics: which action was taken between two latents?

    L = - log q(a_t | z_t, z_{t+k}, k)

k = 1 for every step, and one larger k drawn per step of training up to the head's `max_gap` (multi-step inverse,
arXiv 2207.08229). The likelihood is variance-weighted; see `nn.Gaussian.loss`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_actions.models import WorldModel
from jepa_actions.nn import Distribution, Mixed, OneHots, Share
from jepa_actions.objectives.views import Views


@dataclass(frozen=True)
class InverseLossConfig:
    """Weight and schedule of the inverse term."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    detach: bool = False  # True trains the head alone and leaves the encoder


class Inverse:
    """Inverse dynamics on the batch's labelled steps."""

    def __init__(self, config: InverseLossConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over k = 1 and one larger k; logs each loss, the batch R2 of the k = 1 mean (where all dimensions are
        discrete there is none) and the share of the discrete dimensions' classes that it finds."""
        head, actions, mask = model.inverse, views.batch.actions, views.known_steps()
        assert head is not None
        assert actions is not None
        z = views.z.detach() if self.config.detach else views.z
        steps = actions.shape[1]
        gaps = [1]
        largest = min(head.config.max_gap, steps)
        if largest > 1:
            gaps.append(int(torch.randint(2, largest + 1, (), generator=generator)))
        losses, logs = [], {}
        for k in gaps:
            starts = steps - k + 1
            action, known = actions[:, :starts], mask[:, :starts].flatten()  # known: of the whole batch
            before, after = z[:, :starts].flatten(0, 1), z[:, k:].flatten(0, 1)
            gap = torch.full((before.shape[0],), k, device=z.device)
            q = head(before, after, gap)
            loss = views.mean(q.loss(action.flatten(0, 1)), known)
            losses.append(loss)
            if k == 1:
                logs["k1"] = loss.detach()
                logs |= _scores(views, q, action.flatten(0, 1), known)
            else:
                logs["later"] = loss.detach()
        return torch.stack(losses).mean(), logs


@torch.no_grad()
def _scores(views: Views, q: Distribution, action: Tensor, known: Tensor) -> dict[str, Tensor]:
    """R2 of what is a number, and accuracy of what is a class."""
    assert views.whole.actions is not None
    every = views.whole.actions.flatten(0, 1)
    scores = {}
    if isinstance(q, (OneHots, Mixed)):
        scores["accuracy"] = views.mean(q.correct(action).float().mean(-1), known)
    if isinstance(q, Mixed):
        scores["r2"] = _r2(views.share, q.rest.mean, every[..., q.rest_at], known)
    elif not isinstance(q, OneHots):
        scores["r2"] = _r2(views.share, q.mean, every, known)
    return scores


def _r2(share: Share, predicted: Tensor, action: Tensor, known: Tensor) -> Tensor:
    """Share of the labelled actions' variance that is explained, all dimensions together.

    `predicted` has this part's rows, `action` and `known` those of the global batch.
    """
    known = known[:, None]
    count = known.sum().clamp(min=1.0)
    mean = (action * known).sum(0) / count
    total = (((action - mean) ** 2) * known).sum().clamp(min=1e-8)
    action, known = share.mine(action), share.mine(known)
    return 1.0 - share.of * (((action - predicted) ** 2) * known).sum() / total
