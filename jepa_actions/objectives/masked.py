r"""Masked latent prediction: fill in the features of hidden tokens from the visible ones.

    L = mean_{i in hidden} | P(E(x_visible), i)  -  LN(E_ema(x))_i |

L1 to the layer-normed features of an EMA encoder that sees the whole clip (V-JEPA, arXiv 2404.08471, equation 1;
V-JEPA 2, arXiv 2506.09985). All mask kinds are used at every step, each on its share of the clips, or, as V-JEPA does,
each on every clip (`split: false`, `kinds: [short, long]`). The targets are computed once per clip for all kinds.

Samples, masks and augmentations are drawn for the global batch; each part of it works on the samples of its own clips.
A part without a sample of some kind works on one that weighs nothing, so that every process takes the same path and its
messages meet those of the others.
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
from jepa_actions.nn import Share, gather_uneven, process_of, sum_over_processes
from jepa_actions.objectives.anti_collapse import vicreg
from jepa_actions.objectives.augment import AugmentConfig, augment
from jepa_actions.objectives.global_batch import clip_places
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
    total: int  # rows of `predicted` over all parts of the batch
    counts: list[int]  # rows of `tokens` on every process


class _Samples(NamedTuple):
    """This part's samples of one mask kind."""

    kind: str
    total: int  # samples of this kind in the global batch
    rows: Int[Tensor, "k"]  # which of those are here
    clips: Int[Tensor, "k"]  # and the number of each one's clip among the clips here
    weightless: bool  # there is none: the one here stands in
    counts: list[int]  # on every process


class Masked:
    """Masked latent prediction on the clips of every camera."""

    def __init__(self, config: MaskedConfig) -> None:
        self.config = config

    def __call__(self, model: WorldModel, views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss over the mask kinds; logs each kind's loss and the loss of predicting the mean feature."""
        clips, config, share = views.clips, self.config, views.share
        owner, place = clip_places(views.whole, share.of, len(model.config.cameras))
        if len(place) == 0:  # every clip of the batch has padding
            return model.masked_parts()[1].mask_tokens[0].sum() * 0.0, {}
        count = max(len(config.kinds) if config.split else 1, round(config.share * len(place)))
        spaced = torch.arange(count) * len(place) // count  # from every camera; repeats where clips are too few
        owner, place = owner[spaced], place[spaced]
        here = (owner == share.index).nonzero()[:, 0]
        if len(here):
            clips = augment(clips[place[here]], config.augment, generator, here, count)
        else:
            clips = clips.new_zeros(1, *clips.shape[1:])
        targets = views.target_tokens(clips)
        samples = self._samples(count, owner, here, share)
        answer = _packed if config.packed else _each
        losses, logs = [], {}
        for kind, tokens, predicted, target, total, counts in answer(model, clips, targets, samples, generator):
            loss = share.mean((predicted - target).abs(), total)
            logs[kind] = loss.detach()
            if config.spread > 0.0:
                normed = F.layer_norm(tokens, tokens.shape[-1:])
                hinge, cov = vicreg(gather_uneven(normed, counts).flatten(0, -2), target_std=1.0)
                loss = loss + config.spread * (hinge + cov)
                logs[f"{kind}_hinge"] = hinge.detach()
            losses.append(loss)
        logs["mean_floor"] = _mean_floor(targets[: len(here)], count, share)
        return torch.stack(losses).mean(), logs

    def _samples(self, count: int, owner: Tensor, here: Tensor, share: Share) -> list[_Samples]:
        """The samples of each kind: each has its share of them, or, without `split`, all."""
        kinds, found = self.config.kinds, []
        parts = share.of // process_of()[1]  # of each process
        for i, kind in enumerate(kinds):
            members = torch.arange(i, count, len(kinds)) if self.config.split else torch.arange(count)
            rows = (owner[members] == share.index).nonzero()[:, 0]
            clips = torch.searchsorted(here, members[rows])
            counts = torch.bincount(owner[members] // parts, minlength=share.of // parts).tolist()
            nothing = len(rows) == 0
            if nothing:
                rows = clips = torch.zeros(1, dtype=torch.int64)
            found.append(_Samples(kind, len(members), rows, clips, nothing, counts))
        return found


@torch.no_grad()
def _mean_floor(targets: Float[Tensor, "k n d"], total: int, share: Share) -> Float[Tensor, ""]:
    """The loss of predicting the mean feature of all processes' samples."""
    one = targets.sum((0, 1)) if share.of > 1 else targets.mean((0, 1))
    if share.of > 1:
        held = sum_over_processes(torch.tensor(float(len(targets)), device=targets.device))
        one = sum_over_processes(one) / (held.to(one) * targets.shape[1])
    return share.mean((targets - one).abs(), total)


def _each(
    model: WorldModel,
    clips: Float[Tensor, "b t c h w"],
    targets: Float[Tensor, "b n d"],
    samples: list[_Samples],
    generator: torch.Generator,
) -> Iterator[_Answer]:
    """One pass per kind, in which all samples keep equally many tokens."""
    encoder, predictor = model.masked_parts()
    for kind, total, rows, numbers, weightless, counts in samples:
        mask = sample_mask(kind, total, _grid(model, clips), generator)
        visible, target = mask.visible[rows].to(clips.device), mask.target[rows].to(clips.device)
        tokens = encoder(clips[numbers], visible)
        predicted = predictor(tokens, visible, target, kind)
        some = slice(0, 0 if weightless else len(rows))
        wanted = take_tokens(targets[numbers], target)
        yield _Answer(kind, tokens[some], predicted[some], wanted[some], total, counts)


def _packed(
    model: WorldModel,
    clips: Float[Tensor, "b t c h w"],
    targets: Float[Tensor, "b n d"],
    samples: list[_Samples],
    generator: torch.Generator,
) -> Iterator[_Answer]:
    """All kinds in one pass, in which every sample keeps every token of its mask."""
    grid = _grid(model, clips)
    encoder, predictor = model.masked_parts()
    masks = [sample_ragged_mask(part.kind, part.total, grid, generator) for part in samples]
    pairs = list(zip(masks, samples, strict=True))
    visible = _moved([mask.visible[row] for mask, part in pairs for row in part.rows.tolist()], clips.device)
    hidden = _moved([mask.target[row] for mask, part in pairs for row in part.rows.tolist()], clips.device)
    sources = [clip for part in samples for clip in part.clips.tolist()]
    kinds = [part.kind for part in samples for _ in part.rows]
    tokens = encoder.packed(clips, visible, sources)
    predicted = predictor.packed(tokens, visible, hidden, kinds)
    first = 0
    for mask, part in pairs:
        mine = slice(first, first + len(part.rows))
        wanted = [targets[clip][ids] for clip, ids in zip(part.clips.tolist(), hidden[mine], strict=True)]
        some = slice(0, 0) if part.weightless else slice(None)
        total = sum(len(ids) for ids in mask.target)
        seen, said, asked = (torch.cat(parts)[some] for parts in (tokens[mine], predicted[mine], wanted))
        yield _Answer(part.kind, seen, said, asked, total, part.counts)
        first += len(part.rows)


def _grid(model: WorldModel, clips: Tensor) -> tuple[int, int, int]:
    encoder = model.config.encoder
    return clips.shape[1] // encoder.tubelet, *encoder.grid


def _moved(parts: list[Int[Tensor, "k"]], device: torch.device) -> list[Int[Tensor, "k"]]:
    """To the device in one transfer."""
    return list(torch.cat(parts).to(device).split([len(part) for part in parts]))
