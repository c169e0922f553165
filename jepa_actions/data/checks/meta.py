"""What the metadata of a LeRobot folder says that its reader does not need: splits, bounds, statistics, checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jepa_actions.data.checks.values import Bounds
from jepa_actions.data.problems import Problem
from jepa_actions.errors import DataError

INFO, STATS, CHECKSUMS = "meta/info.json", "meta/stats.json", "meta/checksums.json"


def check_sums(root: Path) -> list[Problem] | None:
    """Files against `meta/checksums.json`, which is one of them where it cannot be read; `None` where there is
    none."""
    if not (root / CHECKSUMS).is_file():
        return None
    from jepa_actions.data.lerobot.checksums import verify

    try:
        return verify(root)
    except DataError as error:
        return [Problem(None, CHECKSUMS, "", str(error), True, "checksum")]


def check_splits(root: Path) -> list[Problem]:
    """Problems of the splits that `meta/info.json` names; none where there is no such file."""
    info = _read(root / INFO)
    if not isinstance(info, dict):
        return []
    return [
        Problem(None, INFO, "splits", f"{root / INFO}: {message}", fatal, "split")
        for message, fatal in split_faults(info.get("splits"), info.get("total_episodes"))
    ]


def split_faults(splits: Any, total: Any) -> Iterator[tuple[str, bool]]:
    """Message and gravity of what is wrong with `{"train": "0:90", "validation": "90:100"}`: overlaps are fatal."""
    if splits is None:
        return
    if not isinstance(splits, dict):
        yield f"splits is {splits!r:.80}, expected names and ranges such as '0:90'", False
        return
    ranges: dict[str, range] = {}
    for name, text in splits.items():
        match = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", text) if isinstance(text, str) else None
        if match is None:
            yield f"split {name!r} is {text!r:.80}, expected a range of episodes such as '0:90'", False
            continue
        ranges[name] = range(int(match[1]), int(match[2]))
        if isinstance(total, int) and ranges[name].stop > total:
            yield f"split {name!r} is {text!r}, expected at most the {total} episodes there are", False
    for (a, first), (b, second) in combinations(ranges.items(), 2):
        common = range(max(first.start, second.start), min(first.stop, second.stop))
        if len(common):
            yield f"splits {a!r} and {b!r} share episodes {common.start} to {common.stop - 1}, expected none", True


def action_ranges(root: Path | None, dimensions: int) -> tuple[Bounds | None, Bounds | None]:
    """Bounds that the data set declares for its actions (in the feature's own `info`: `low` and `high`, or `discrete`,
    the number of values), and the smallest and largest action that `meta/stats.json` tells; `None` where it does
    not."""
    if root is None:
        return None, None
    info, stats = _read(root / INFO), _read(root / STATS)
    feature = _inside(_inside(_inside(info, "features"), "action"), "info")
    action = _inside(stats, "action")
    values = _numbers(np.atleast_1d(_inside(feature, "discrete")), dimensions) if isinstance(feature, dict) else None
    if values is not None:
        return (np.zeros(dimensions), values - 1), _pair(action, ("min", "max"), dimensions)
    return _pair(feature, ("low", "high"), dimensions), _pair(action, ("min", "max"), dimensions)


def _inside(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _pair(values: Any, keys: tuple[str, str], dimensions: int) -> Bounds | None:
    low, high = (_numbers(_inside(values, key), dimensions) for key in keys)
    return None if low is None or high is None else (low, high)


def _numbers(values: Any, dimensions: int) -> Float[np.ndarray, "a"] | None:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None  # a statistic that is no list of numbers says nothing about the actions
    return numbers if numbers.shape == (dimensions,) and not np.isnan(numbers).any() else None


def _read(path: Path) -> Any:
    """A JSON file, `None` where there is none or it cannot be read, which its reader reports."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
