"""Confidence intervals: Wilson for shares of successes, bootstrap over blocks for everything else."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jepa_actions.errors import ConfigError

Statistic = Callable[[Int[np.ndarray, "m"]], float]


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927), sensible at 0 and at `n` successes too.

    Raises: ConfigError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ConfigError(f"wilson_interval: found {successes} of {n}, expected 0 <= successes <= n and n >= 1")
    z = NormalDist().inv_cdf(0.5 + _checked(confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def block_bootstrap(
    values: Float[np.ndarray, "n"] | Statistic,
    blocks: Int[np.ndarray, "n"],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval when rows of one block (an episode, a stretch of a drive) are not independent.

    Whole blocks are drawn with replacement, as many as there are (Kuensch 1989; Efron and Tibshirani 1993, 8.6).

    Arguments:
        values: one number per row, whose mean is wanted, or a function of row indices (with repeats), such as an R2.
        blocks: the block that each row belongs to.

    Raises: ConfigError for fewer than two blocks, or values and blocks of different lengths.
    """
    statistic = values if callable(values) else _mean_of(values, len(blocks))
    names, rows = np.unique(np.asarray(blocks), return_inverse=True)
    if len(names) < 2:
        raise ConfigError(f"block_bootstrap: found {len(names)} blocks, expected at least 2")
    members = [np.flatnonzero(rows == block) for block in range(len(names))]
    generator = np.random.Generator(np.random.Philox(seed))
    draws = generator.integers(len(names), size=(resamples, len(names)))
    scores = np.array([statistic(np.concatenate([members[block] for block in draw])) for draw in draws])
    tail = (1 - _checked(confidence)) / 2
    low, high = np.nanquantile(scores, [tail, 1 - tail])
    return Interval(float(statistic(np.arange(len(rows)))), float(low), float(high))


def paired_bootstrap(
    first: Float[np.ndarray, "n"] | Statistic,
    second: Float[np.ndarray, "n"] | Statistic,
    *,
    seed: int,
    blocks: Int[np.ndarray, "n"] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Interval of `first - second` on the same rows, so that what makes a row hard for both cancels.

    Arguments:
        first, second: one number per row, or functions of row indices (then `blocks` is needed).
        blocks: as in `block_bootstrap`; every row is its own block when None.

    Raises: ConfigError as `block_bootstrap`, or for functions without blocks.
    """
    if blocks is None:
        if callable(first) or callable(second):
            raise ConfigError("paired_bootstrap: found functions and no blocks, expected one block per row")
        blocks = np.arange(len(first))
    one = first if callable(first) else _mean_of(first, len(blocks))
    two = second if callable(second) else _mean_of(second, len(blocks))
    return block_bootstrap(
        lambda rows: one(rows) - two(rows), blocks, seed=seed, resamples=resamples, confidence=confidence
    )


def _mean_of(values: Float[np.ndarray, "n"], rows: int) -> Statistic:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (rows,):
        raise ConfigError(f"bootstrap: found values of shape {numbers.shape}, expected ({rows},), one per row")
    return lambda picked: float(numbers[picked].mean())


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: found {confidence}, expected a number between 0 and 1")
    return confidence
