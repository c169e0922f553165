r"""Masked latent prediction: fill in the features of hidden tokens from the visible ones.

    L = mean_{i in hidden} | P(E(x_visible), i)  -  LN(E_ema(x))_i |

L1 to the layer-normed features of an EMA encoder that sees the whole clip (V-JEPA, arXiv 2404.08471, equation 1;
V-JEPA 2, arXiv 2506.09985). All mask kinds are used at every step, each on its share of the clips, or, as V-JEPA does,
each on every clip (`split: false`, `kinds: [short, long]`). The targets are computed once per clip for all kinds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.models import MASK_KINDS, WorldModel, sample_mask, sample_ragged_mask, take_tokens
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
    kinds: tuple[str, ...] = MASK_KINDS  # V-JEPA has short and long
    split: bool = True  # each kind on its share of the clips; False gives every clip to every kind, as V-JEPA does
    packed: bool = False  # every sample keeps all tokens of its mask, and all kinds go through in one pass

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(MASK_KINDS) or len(set(self.kinds)) < len(self.kinds):
            found = ", ".join(self.kinds) or "none"
            raise ConfigError(f"masked.kinds: expected different ones of {', '.join(MASK_KINDS)}, found {found}")
        if self.packed and self.spread > 0.0:
            raise ConfigError("masked.packed: samples of unequal length have no masked.spread; expected one of the two")


class _Answer(NamedTuple):
    """One kind's visible tokens, predictions and targets; `*s` is (b, tokens), or all samples' tokens in one row."""

    kind: str
    tokens: Float[Tensor, "*s d"]
    predicted: Float[Tensor, "*s d"]
    target: Float[Tensor, "*s d"]


class Masked:
    """Masked latent prediction on the clips of every camera."""

    def __init__(self, config: MaskedConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss over the mask kinds; logs each kind's loss and the loss of predicting the mean feature."""
        clips, config = views.clips, self.config
        if len(clips) == 0:  # every clip of the batch has padding
            return model.masked_parts()[1].mask_tokens[0].sum() * 0.0, {}
        count = max(len(config.kinds) if config.split else 1, round(config.share * clips.shape[0]))
        spaced = torch.arange(count) * clips.shape[0] // count  # from every camera; repeats where clips are too few
        clips = augment(clips[spaced], config.augment, generator)
        targets = views.target_tokens(clips)
        answer = _packed if config.packed else _each
        losses, logs = [], {}
        for kind, tokens, predicted, target in answer(model, clips, targets, self._shares(count), generator):
            loss = (predicted - target).abs().mean()
            logs[kind] = loss.detach()
            if config.spread > 0.0:
                normed = F.layer_norm(tokens, tokens.shape[-1:])
                hinge, cov = vicreg(gather_rows(normed.flatten(0, -2)), target_std=1.0)
                loss = loss + config.spread * (hinge + cov)
                logs[f"{kind}_hinge"] = hinge.detach()
            losses.append(loss)
        logs["mean_floor"] = (targets - targets.mean((0, 1))).abs().mean()
        return torch.stack(losses).mean(), logs

    def _shares(self, count: int) -> dict[str, range]:
        """The clips of each kind."""
        kinds = self.config.kinds
        if not self.config.split:
            return dict.fromkeys(kinds, range(count))
        return {kind: range(i, count, len(kinds)) for i, kind in enumerate(kinds)}


def _each(
    model: WorldModel,
    clips: Float[Tensor, "b t c h w"],
    targets: Float[Tensor, "b n d"],
    shares: dict[str, range],
    generator: torch.Generator,
) -> Iterator[_Answer]:
    """One pass per kind, in which all samples keep equally many tokens."""
    encoder, predictor = model.masked_parts()
    for kind, members in shares.items():
        part = slice(members.start, members.stop, members.step)
        mask = sample_mask(kind, len(members), _grid(model, clips), generator)
        visible, target = mask.visible.to(clips.device), mask.target.to(clips.device)
        tokens = encoder(clips[part], visible)
        predicted = predictor(tokens, visible, target, kind)
        yield _Answer(kind, tokens, predicted, take_tokens(targets[part], target))


def _packed(
    model: WorldModel,
    clips: Float[Tensor, "b t c h w"],
    targets: Float[Tensor, "b n d"],
    shares: dict[str, range],
    generator: torch.Generator,
) -> Iterator[_Answer]:
    """All kinds in one pass, in which every sample keeps every token of its mask."""
    grid = _grid(model, clips)
    encoder, predictor = model.masked_parts()
    masks = [sample_ragged_mask(kind, len(members), grid, generator) for kind, members in shares.items()]
    visible = _moved([ids for mask in masks for ids in mask.visible], clips.device)
    hidden = _moved([ids for mask in masks for ids in mask.target], clips.device)
    sources = [clip for members in shares.values() for clip in members]
    kinds = [kind for kind, members in shares.items() for _ in members]
    tokens = encoder.packed(clips, visible, sources)
    predicted = predictor.packed(tokens, visible, hidden, kinds)
    first = 0
    for kind, members in shares.items():
        mine = slice(first, first + len(members))
        wanted = [targets[clip][ids] for clip, ids in zip(members, hidden[mine], strict=True)]
        yield _Answer(kind, torch.cat(tokens[mine]), torch.cat(predicted[mine]), torch.cat(wanted))
        first += len(members)


def _grid(model: WorldModel, clips: Tensor) -> tuple[int, int, int]:
    encoder = model.config.encoder
    return clips.shape[1] // encoder.tubelet, *encoder.grid


def _moved(parts: list[Int[Tensor, "k"]], device: torch.device) -> list[Int[Tensor, "k"]]:
    """To the device in one transfer."""
    return list(torch.cat(parts).to(device).split([len(part) for part in parts]))
