"""Ridge regression of actions on what is seen at every lag, blocks of time held out, the same actions at every lag."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # times the mean eigenvalue of the features' covariance
FOLDS = 5
GAP = 4  # rows on both sides of a held-out block that are not trained on either: neighbours look alike
BLOCKS = 40  # about as many blocks as the rows make, within the next two
SHORTEST_BLOCK, LONGEST_BLOCK = 10, 100  # rows
SINGLES = 128  # stretches at most that get fits of their own
FLOOR = 0.1  # of the features' root mean square: one that moves less is not blown up to unit size


class Setting(NamedTuple):
    """How a probe is fitted: one for all stretches or one for each, and how much ridge."""

    own: bool
    ridge: float


@dataclass(frozen=True)
class Errors:
    """Squared errors on held-out rows, summed per block: of the probe `(lags, settings, blocks, targets)`, and of the
    mean of a stretch's training rows `(blocks, targets)`."""

    probe: Float[np.ndarray, "l s b k"]
    mean: Float[np.ndarray, "b k"]
    settings: tuple[Setting, ...]

    def r2(self) -> Float[np.ndarray, "l s k"]:
        """1 - error of the probe / error of the mean; 0 where a target never changes."""
        return share_explained(self.probe.sum(2), self.mean.sum(0))


def share_explained(probe: Float[np.ndarray, "*n"], mean: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """1 - probe / mean, 0 where the mean makes no error."""
    none = mean <= 0
    share: np.ndarray = np.where(none, 0.0, 1.0 - probe / np.where(none, 1.0, mean))
    return share


def blocks_of(
    stretch: Int64[np.ndarray, "n"], frame: Int64[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The block of time of every row, and the fold in which it is held out."""
    size = min(max(len(stretch) // BLOCKS, SHORTEST_BLOCK), LONGEST_BLOCK)
    first = np.full(stretch.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, stretch, frame)
    within = (frame - first[stretch]) // size
    block = np.unique(np.stack([stretch, within]), axis=1, return_inverse=True)[1].reshape(-1)
    return block, (within + stretch) % FOLDS


def held_out_errors(
    features: Float[np.ndarray, "p d"],
    place: Int64[np.ndarray, "n"],
    lags: Sequence[int],
    target: Float[np.ndarray, "n k"],
    stretch: Int64[np.ndarray, "n"],
    frame: Int64[np.ndarray, "n"],
) -> Errors:
    """Fit and test a ridge regression of `target[i]` on `features[place[i] + lag]` for every lag and setting.

    Features and targets are taken relative to their stretch's mean over training rows, so that a probe explains
    changes within a stretch and not which scene it is. Every fold holds out its blocks of every stretch.
    """
    used = features[place]
    spread = used.std(axis=0)
    spread = np.maximum(spread, max(FLOOR * float(np.sqrt((spread**2).mean())), 1e-12))
    features = features / spread
    block, fold = blocks_of(stretch, frame)
    singles = 1 < len(np.unique(stretch)) <= SINGLES
    settings = tuple(Setting(own, ridge) for own in ((False, True) if singles else (False,)) for ridge in RIDGES)
    probe = np.zeros((len(lags), len(settings), block.max() + 1, target.shape[1]))
    mean = np.zeros(probe.shape[2:])
    for k in np.unique(fold):
        test = fold == k
        train = ~test & ~_near(test, stretch, frame)
        wanted = _centred(target, stretch, train)
        np.add.at(mean, block[test], wanted[test] ** 2)
        for i, lag in enumerate(lags):
            seen = _centred(features[place + lag], stretch, train)
            guesses = _ridge(seen, wanted, train, test, [np.ones(len(stretch), dtype=bool)])
            if singles:
                guesses += _ridge(seen, wanted, train, test, [stretch == s for s in np.unique(stretch)])
            for j, guess in enumerate(guesses):
                np.add.at(probe[i, j], block[test], (wanted[test] - guess) ** 2)
    return Errors(probe, mean, settings)


def _near(
    test: Bool[np.ndarray, "n"], stretch: Int64[np.ndarray, "n"], frame: Int64[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Rows within GAP frames of a test row of their stretch."""
    key = stretch * (int(frame.max()) + 2 * GAP + 1) + frame  # rows of two stretches are never GAP apart
    tested = np.sort(key[test])
    at = np.searchsorted(tested, key)
    distance = np.minimum(
        np.abs(key - tested[np.minimum(at, len(tested) - 1)]), np.abs(key - tested[np.maximum(at - 1, 0)])
    )
    near: np.ndarray = distance <= GAP
    return near


def _centred(
    values: Float[np.ndarray, "n d"], stretch: Int64[np.ndarray, "n"], train: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "n d"]:
    """Relative to the mean of the training rows of each stretch, or of all where a stretch has none."""
    count = np.bincount(stretch[train], minlength=stretch.max() + 1)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, stretch[train], values[train])
    means = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], values[train].mean(axis=0))
    centred: np.ndarray = values - means[stretch]
    return centred


def _ridge(
    seen: Float[np.ndarray, "n d"],
    wanted: Float[np.ndarray, "n k"],
    train: Bool[np.ndarray, "n"],
    test: Bool[np.ndarray, "n"],
    groups: Sequence[Bool[np.ndarray, "n"]],
) -> list[Float[np.ndarray, "m k"]]:
    """Predictions for the test rows, for every ridge; a fit for each group of rows."""
    guesses = [np.zeros((int(test.sum()), wanted.shape[1])) for _ in RIDGES]
    for group in groups:
        x, y, mine = seen[train & group], wanted[train & group], group[test]
        if len(x) == 0 or not mine.any():
            continue
        values, vectors = np.linalg.eigh(x.T @ x)
        values = values.clip(min=0.0)
        projected, held = vectors.T @ (x.T @ y), seen[test & group] @ vectors
        for guess, ridge in zip(guesses, RIDGES, strict=True):
            guess[mine] = held @ (projected / (values + ridge * values.mean() + 1e-9)[:, None])
    return guesses
