"""The lag of a recording: how many frames an action leads what is seen of it, from motion alone, without a model."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jepa_actions.data import VideoDataset
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.lag_probe import Errors, held_out_errors, share_explained
from jepa_actions.evaluation.lag_rows import Rows, Source, read_rows
from jepa_actions.evaluation.report import commit, hardware

LEAST = 0.05  # R2 below which an action counts as not explained, however sure
NOISE_SHARE = 0.05  # of the resamples: a lag that wins in fewer is no candidate
SURE = 0.9  # of the resamples that must put the best lag within one frame, for it to be reliable


def parse_lags(text: str) -> tuple[int, ...]:
    """`-8:8` as the lags from -8 to 8, both included. Raises ConfigError."""
    low, colon, high = text.partition(":")
    try:
        found = range(int(low), int(high) + 1) if colon else range(0)
    except ValueError:
        found = range(0)
    if len(found) < 2:
        raise ConfigError(f"--scan-lag: found {text!r}, expected two whole numbers of frames, such as -8:8")
    return tuple(found)


def scan_lag(
    dataset: VideoDataset,
    lags: Sequence[int] = tuple(range(-8, 9)),
    *,
    source: Source = "action",
    limit: int = 6000,
    shuffles: int = 50,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """At which lag actions are best explained by the frames.

    For every lag L, a ridge regression explains action a_t by the motion (optical flow on a grid, all cameras) between
    frames t + L and t + L + 1, blocks of time held out. R2 is against the mean of the same stretch of recording. A
    second probe sees one frame, t + L, instead: it finds what the driver reacted to, and is reported for contrast
    only. All lags are compared on the same actions. The peak is that of plain R2: whitened or differenced actions make
    it narrower, but then the reaction of a driver to moving things outweighs the motion that follows.

    An action dimension counts as explained where its R2 at the peak is at least LEAST, has an interval above 0, and is
    above the peak of every one of `shuffles` scans of the same actions at a wrong time (shifted along the recording,
    which keeps how actions follow each other). `best_lag` names explained dimensions only; `reliable` says of which
    of them the peak is inside the scan, stays within one frame in SURE of the block-bootstrap resamples, and explains
    more than a single frame does (else motion may be no more than a trace of what the driver reacted to).

    Args:
        dataset: video with actions, or proprioception for `source="proprio_difference"`.
        lags: consecutive numbers of frames, negative where what is seen leads the action.
        source: what is explained; for commands of an absolute pose take "action_difference".
        limit: about how many frames are read.
        shuffles, resamples, seed: of the floor and of the intervals.

    Returns:
        a report for JSON. `metrics.best_lag`: frames by which each explained action dimension leads; `metrics.lag`:
        one lag for all of these together, left out where there is none; `metrics.peak` and `metrics.r2`: for every
        dimension. `curves` hold the R2 of both probes at each of `lags`, `ci95` their intervals.

    Raises:
        ConfigError: for lags that are not consecutive, or an unknown source.
        DataError: where the data set lacks what the source needs, or has too few known actions.
    """
    began = time.perf_counter()
    if len(lags) < 2 or list(lags) != list(range(lags[0], lags[0] + len(lags))):
        raise ConfigError(f"lags: found {list(lags)}, expected at least two consecutive whole numbers")
    rows = read_rows(dataset, source, lags, limit=limit, seed=seed)
    reading = time.perf_counter() - began
    shifted = [rows.target, *_shifted(rows, len(lags), shuffles, seed)]
    where = (rows.stretch, rows.frame)
    motion = held_out_errors(rows.motion, rows.place, lags, np.concatenate(shifted, axis=1), *where)
    picture = held_out_errors(rows.picture, rows.place, lags, rows.target, *where)
    count, names = len(rows.names), rows.names
    weights = _resamples(motion.mean.shape[0], resamples, seed)
    scan = _Scan(motion, lags, weights, count)
    contrast = _Scan(picture, lags, weights, count)
    floor = _shuffled_peaks(motion, count)

    def named(values: Any, only: Sequence[int] = range(count)) -> dict[str, Any]:
        return {names[k]: np.asarray(values[k]).tolist() for k in only}

    peak = scan.curve.argmax(axis=1)
    top = scan.curve[np.arange(count), peak]
    low = scan.interval[np.arange(count), peak, 0]
    explained = [k for k in range(count) if top[k] >= LEAST and low[k] > 0 and top[k] > floor[k]]
    near = [float(scan.wins[k, max(peak[k] - 1, 0) : peak[k] + 2].sum()) for k in range(count)]
    inside = [0 < peak[k] < len(lags) - 1 for k in range(count)]
    seen = contrast.curve.max(axis=1)
    sure = [inside[k] and near[k] >= SURE and top[k] > seen[k] for k in range(count)]
    metrics: dict[str, Any] = {
        "best_lag": {names[k]: int(lags[peak[k]]) for k in explained},
        "r2": named(top),
        "peak": {names[k]: int(lags[peak[k]]) for k in range(count)},
        "explained": {names[k]: int(k in explained) for k in range(count)},
        "reliable": {names[k]: int(sure[k]) for k in explained},
        "share_of_resamples_within_one_frame": named(near),
        "appearance_peak": {names[k]: int(lags[j]) for k, j in enumerate(contrast.curve.argmax(axis=1))},
        "appearance_r2": named(seen),
        "rows": len(rows.target),
    }
    if explained:
        metrics["lag"] = int(lags[int(scan.curve[explained].mean(axis=0).argmax())])
    return {
        "metrics": metrics,
        "floors": {"mean": {"r2": dict.fromkeys(names, 0.0)}, "shuffled": {"r2": named(floor)}},
        "ci95": {
            "r2": named(scan.interval[np.arange(count), peak]),
            "best_lag": {names[k]: scan.lag_interval(k) for k in explained},
            "motion": named(scan.interval),
            "appearance": named(contrast.interval),
        },
        "lags": [int(lag) for lag in lags],
        "curves": {"motion": named(scan.curve), "appearance": named(contrast.curve)},
        "wins": {
            names[k]: {str(lags[j]): float(share) for j, share in enumerate(scan.wins[k]) if share >= NOISE_SHARE}
            for k in range(count)
        },
        "source": source,
        "cameras": list(dataset.cameras),
        "fps": float(dataset.fps),
        "frames": sum(len(segment) for segment in rows.stretches),
        "left_out": rows.left_out,
        "episodes": len({segment.episode for segment in rows.stretches}),
        "seeds": 1,
        "seconds": reading,
        "seconds_total": time.perf_counter() - began,
        "data": dataset.name,
        "hardware": hardware(),
        "commit": commit(),
    }


class _Scan:
    """R2 per dimension and lag of the real targets, its intervals, and how often each lag is the best."""

    def __init__(self, errors: Errors, lags: Sequence[int], weights: Float[np.ndarray, "r b"], count: int) -> None:
        self.lags = lags
        r2 = errors.r2()[:, :, :count]
        setting = r2.max(axis=0).argmax(axis=0)  # per dimension, the same for every lag
        self.setting = [errors.settings[j] for j in setting]
        self.curve = np.stack([r2[:, j, k] for k, j in enumerate(setting)])
        draws = np.stack(
            [
                share_explained(weights @ errors.probe[:, j, :, k].T, (weights @ errors.mean[:, k])[:, None])
                for k, j in enumerate(setting)
            ]
        )
        self.interval = np.moveaxis(np.quantile(draws, [0.025, 0.975], axis=1), 0, -1)
        self.best = draws.argmax(axis=2)
        self.wins = np.stack([np.bincount(best, minlength=len(lags)) / len(best) for best in self.best])

    def lag_interval(self, k: int) -> list[int]:
        """The lags between which the best one of 95 % of the resamples lies."""
        low, high = np.quantile(self.best[k], [0.025, 0.975], method="inverted_cdf").astype(int)
        return [int(self.lags[low]), int(self.lags[high])]


def _resamples(blocks: int, resamples: int, seed: int) -> Float[np.ndarray, "r b"]:
    """How often each block of time is in each resample (Kuensch 1989), as `statistics.block_bootstrap` draws them."""
    draws = np.random.Generator(np.random.Philox(seed)).integers(blocks, size=(resamples, blocks))
    return np.stack([np.bincount(draw, minlength=blocks) for draw in draws]).astype(np.float64)


def _shifted(rows: Rows, lags: int, shuffles: int, seed: int) -> list[Float[np.ndarray, "n a"]]:
    """The same actions at wrong times: turned along the whole recording by more than the lags that are scanned."""
    means = np.stack([rows.target[rows.stretch == s].mean(axis=0) for s in range(rows.stretch.max() + 1)])
    target = rows.target - means[rows.stretch]
    least = min(2 * lags, len(target) // 3)
    generator = np.random.Generator(np.random.Philox([seed, 1]))
    shifts = generator.integers(least, len(target) - least + 1, size=shuffles)
    return [np.roll(target, int(shift), axis=0) for shift in shifts]


def _shuffled_peaks(errors: Errors, count: int) -> Float[np.ndarray, "a"]:
    """The highest R2 over lags, settings and shuffles, per dimension: what a scan finds where there is nothing."""
    peaks = errors.r2().max(axis=(0, 1))[count:].reshape(-1, count)
    return peaks.max(axis=0) if len(peaks) else np.zeros(count)
