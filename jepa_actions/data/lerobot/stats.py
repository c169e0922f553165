"""Statistics as LeRobot stores them, per episode and for the whole data set: range, mean, standard deviation,
quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Shaped, UInt8

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, np.ndarray]  # min, max, mean, std, count and QUANTILES; count has shape (1,)


class ImageStats:
    """Statistics of a camera's pixels per channel, in [0, 1], from a histogram: exact for the pixels it sees.

    Large frames are thinned to about 150 pixels a side.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._histogram = np.zeros((3, 256), dtype=np.int64)

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Count one RGB frame."""
        step = max(min(frame.shape[:2]) // 150, 1)
        thin = frame[::step, ::step]
        for channel in range(3):
            self._histogram[channel] += np.bincount(thin[..., channel].ravel(), minlength=256)
        self.frames += 1

    def stats(self) -> Stats:
        """Every entry has shape (3, 1, 1), but the count, which is of frames."""
        level = np.arange(256) / 255.0
        total = self._histogram.sum(axis=1)
        mean = (self._histogram * level).sum(axis=1) / total
        variance = (self._histogram * (level - mean[:, None]) ** 2).sum(axis=1) / total
        reached = np.cumsum(self._histogram, axis=1) / total[:, None]
        found = {
            "min": np.array([level[np.flatnonzero(row)[0]] for row in self._histogram]),
            "max": np.array([level[np.flatnonzero(row)[-1]] for row in self._histogram]),
            "mean": mean,
            "std": np.sqrt(variance),
        } | {name: np.array([level[np.searchsorted(row, q)] for row in reached]) for name, q in QUANTILES.items()}
        return {name: value.reshape(3, 1, 1) for name, value in found.items()} | {"count": np.array([self.frames])}


def column_stats(rows: Shaped[np.ndarray, "t ..."], known: np.ndarray | None = None) -> Stats:
    """Statistics of a column's rows where `known` is true (`None`: everywhere).

    Without a known row the count is 0, so that the episode has no weight, and the numbers are those of all rows.
    """
    values = np.asarray(rows, dtype=np.float64)
    values = values.reshape(len(values), -1)
    count = len(values) if known is None else int(known.sum())
    if known is not None and count:
        values = values[known]
    found = {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
    }
    found |= dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values()), axis=0), strict=True))
    return found | {"count": np.array([count])}


def aggregate(episodes: Sequence[Stats]) -> Stats:
    """Statistics of all episodes together, weighted by their counts.

    Range, mean and standard deviation are those of the joined rows; quantiles are the weighted mean of the episodes'
    own, as LeRobot has them.
    """
    weighty = [stats for stats in episodes if stats["count"][0] > 0] or list(episodes)
    counts = np.array([max(int(stats["count"][0]), 1) for stats in weighty], dtype=np.float64)

    def mean_of(values: Sequence[Float[np.ndarray, "..."]]) -> Float64[np.ndarray, "..."]:
        return np.asarray(np.average(np.stack(values), axis=0, weights=counts))

    mean = mean_of([stats["mean"] for stats in weighty])
    spread = mean_of([stats["std"] ** 2 + (stats["mean"] - mean) ** 2 for stats in weighty])
    return {
        "min": np.min([stats["min"] for stats in weighty], axis=0),
        "max": np.max([stats["max"] for stats in weighty], axis=0),
        "mean": mean,
        "std": np.sqrt(spread),
        "count": np.array([sum(int(stats["count"][0]) for stats in weighty)]),
    } | {name: mean_of([stats[name] for stats in weighty]) for name in QUANTILES}
