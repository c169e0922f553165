"""Training and held-out frames: by episode, by the tail of each episode, by contiguous block with a gap, by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from jepa_actions.data.types import Segment
from jepa_actions.errors import DataError

Lengths = Int[np.ndarray, "e"] | Sequence[int]


@dataclass(frozen=True)
class Split:
    """Segments to train on and segments never trained on; no frame is in both."""

    train: tuple[Segment, ...]
    heldout: tuple[Segment, ...]


def _whole(lengths: Lengths, heldout: set[int]) -> Split:
    train = tuple(Segment(e, 0, int(n)) for e, n in enumerate(lengths) if e not in heldout)
    return Split(train, tuple(Segment(e, 0, int(n)) for e, n in enumerate(lengths) if e in heldout))


def _check_fraction(fraction: float, gap: int = 0) -> None:
    if not 0.0 < fraction < 1.0:
        raise DataError(f"split: fraction {fraction} held out, expected between 0 and 1, both excluded")
    if gap < 0:
        raise DataError(f"split: gap of {gap} frames, expected at least 0")


def split_by_episode(lengths: Lengths, fraction: float, seed: int) -> Split:
    """Hold out a random `fraction` of the episodes, at least one, and train on the others.

    Raises DataError for fewer than two episodes.
    """
    _check_fraction(fraction)
    if len(lengths) < 2:
        raise DataError(
            f"split by episode: found {len(lengths)} episodes, expected at least 2 (split_blocks divides one)"
        )
    count = min(max(round(fraction * len(lengths)), 1), len(lengths) - 1)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(lengths))
    return _whole(lengths, {int(e) for e in order[:count]})


def split_tail(lengths: Lengths, fraction: float, gap: int = 0) -> Split:
    """Hold out the last `fraction` of every episode; the `gap` frames before it belong to neither side.

    Raises DataError for an episode too short to give both sides a frame.
    """
    _check_fraction(fraction, gap)
    train, heldout = [], []
    for e, n in enumerate(lengths):
        start = int(n) - round(fraction * int(n))
        if start == n or start - gap < 1:
            raise DataError(
                f"split tail: episode {e} has {n} frames, too few to hold out {fraction:g} of it after a gap "
                f"of {gap} frames"
            )
        train.append(Segment(e, 0, start - gap))
        heldout.append(Segment(e, start, int(n)))
    return Split(tuple(train), tuple(heldout))


def split_blocks(lengths: Lengths, blocks: int, fraction: float, gap: int) -> Split:
    """Hold out `blocks` contiguous, evenly spaced blocks of every episode, `fraction` of its frames in all.

    Each block lies in the middle of its equal share of the episode; `gap` frames on both sides of it belong to neither
    side. Raises DataError for an episode too short to keep training frames around every block.
    """
    _check_fraction(fraction, gap)
    if blocks < 1:
        raise DataError(f"split blocks: {blocks} blocks, expected at least 1")
    train, heldout = [], []
    for e, n in enumerate(lengths):
        edges = np.linspace(0, int(n), blocks + 1).round().astype(int).tolist()
        free = 0
        for low, high in pairwise(edges):
            size = round(fraction * (high - low))
            start = low + (high - low - size) // 2
            if size < 1 or start - gap <= free or start + size + gap >= high:
                raise DataError(
                    f"split blocks: episode {e} has {n} frames, too few for {blocks} held-out blocks of {size} frames "
                    f"with a gap of {gap} on both sides"
                )
            train.append(Segment(e, free, start - gap))
            heldout.append(Segment(e, start, start + size))
            free = start + size + gap
        train.append(Segment(e, free, int(n)))
    return Split(tuple(train), tuple(heldout))


def split_folds(n_episodes: int, folds: int, fold: int, lengths: Lengths) -> Split:
    """Hold out the whole episodes `fold, fold + folds, ...`; over all folds every episode is held out once.

    With `folds == n_episodes` this leaves one video out.
    """
    if n_episodes != len(lengths):
        raise DataError(f"split folds: {len(lengths)} lengths given, expected one per episode, {n_episodes}")
    if not 2 <= folds <= n_episodes or not 0 <= fold < folds:
        raise DataError(
            f"split folds: fold {fold} of {folds} given, expected 2 to {n_episodes} folds and 0 <= fold < folds"
        )
    return _whole(lengths, set(range(fold, n_episodes, folds)))
