r"""Masked latent prediction: fill in the features of hidden tokens from the visible ones.

    L = mean_{i in hidden} | P(E(x_visible), i)  -  LN(E_ema(x))_i |

L1 to the layer-normed features of an EMA encoder that sees the whole clip (V-JEPA, arXiv 2404.08471, equation 1;
V-JEPA 2, arXiv 2506.09985). All mask kinds are used at every step, each on its share of the clips.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa_actions.models import MASK_KINDS, WorldModel, sample_mask, take_tokens
from jepa_actions.nn import gather_rows
from jepa_actions.objectives.anti_collapse import vicreg
from jepa_actions.objectives.augment import AugmentConfig, augment
from jepa_actions.objectives.views import Views


@dataclass(frozen=True)
class MaskedConfig:
    """Weight and schedule of the masked term."""

    weight: float = 1.0
    start: float = 0.0  # share of training at which the term begins and ends
    stop: float = 1.0
    share: float = 1.0  # share of the batch's clips used at each step
    spread: float = 0.0  # weight of VICReg's variance and covariance on the visible tokens, against shrinking targets
    augment: AugmentConfig = field(default_factory=AugmentConfig)


class Masked:
    """Masked latent prediction on the clips of every camera."""

    def __init__(self, config: MaskedConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss over the mask kinds; logs each kind's loss and the loss of predicting the mean feature."""
        clips = views.clips
        count = max(len(MASK_KINDS), round(self.config.share * clips.shape[0]))
        spaced = torch.arange(count) * clips.shape[0] // count  # from every camera; repeats where clips are too few
        clips = augment(clips[spaced], self.config.augment, generator)
        targets = views.target_tokens(clips)
        grid = (clips.shape[1] // model.config.encoder.tubelet, *model.config.encoder.grid)
        losses, logs = [], {}
        for i, kind in enumerate(MASK_KINDS):
            part = slice(i, None, len(MASK_KINDS))
            mask = sample_mask(kind, clips[part].shape[0], grid, generator)
            visible, target = mask.visible.to(clips.device), mask.target.to(clips.device)
            tokens = model.encoder(clips[part], visible)
            predicted = model.predictor(tokens, visible, target, kind)
            loss = (predicted - take_tokens(targets[part], target)).abs().mean()
            logs[kind] = loss.detach()
            if self.config.spread > 0.0:
                normed = F.layer_norm(tokens, tokens.shape[-1:])
                hinge, cov = vicreg(gather_rows(normed.flatten(0, 1)), target_std=1.0)
                loss = loss + self.config.spread * (hinge + cov)
                logs[f"{kind}_hinge"] = hinge.detach()
            losses.append(loss)
        logs["mean_floor"] = (targets - targets.mean((0, 1))).abs().mean()
        return torch.stack(losses).mean(), logs
