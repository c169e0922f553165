"""What is in a data set: shapes, rates, statistics per dimension, labels by origin, and hints for a recipe."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jepa_actions.data.checks.values import ANGLE, angle_faults
from jepa_actions.data.types import Episode, Provenance, VideoDataset

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
FEW = 16  # distinct whole numbers, at most, of a dimension that may be discrete
ALIKE = 0.95  # correlation of a command with a state at which it is taken for an absolute one


def describe_dataset(dataset: VideoDataset) -> dict[str, Any]:
    """Facts about `dataset`, as something JSON holds. No frame is decoded.

    Returns:
        `name`, `kind`, `episodes`, `frames`, `hours`, `fps` (`nominal`; `measured`, the median over time stamps, and
        its range over episodes, where there are any), `lengths`, `cameras` (height and width), `actions` and `proprio`
        (one row per dimension: min, max, mean, std, quantiles, `distinct` values, `repeated`, the share of rows equal
        to the one before), `labels` (steps, known ones, and how many are true, pseudo or latent, and by which
        labeller), `rewards`, `text`, and `hints`.

    Raises:
        DataError: for an episode whose labels cannot be read.
    """
    episodes = [dataset.episode(i) for i in range(len(dataset))]
    frames = sum(episode.length for episode in episodes)
    lengths = np.array([episode.length for episode in episodes])
    actions = [(e.actions, e.labelled()) for e in episodes if e.actions is not None]
    proprio = [(e.proprio, np.ones(e.length, dtype=bool)) for e in episodes if e.proprio is not None]
    rewards = [(e.rewards[:, None], np.ones(e.length - 1, dtype=bool)) for e in episodes if e.rewards is not None]
    facts: dict[str, Any] = {
        "name": dataset.name,
        "kind": type(dataset).__name__,
        "episodes": len(dataset),
        "frames": frames,
        "hours": frames / dataset.fps / 3600,
        "fps": _rates(dataset, episodes),
        "lengths": {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())},
        "cameras": {camera: list(dataset.image_size(camera)) for camera in dataset.cameras},
        "actions": _dimensions(dataset.action_names or (), actions),
        "proprio": _dimensions(dataset.proprio_names or (), proprio),
        "rewards": _dimensions(("reward",), rewards),
        "labels": _origins(episodes),
        "text": _text(episodes),
    }
    facts["hints"] = _hints(dataset, facts, episodes)
    return facts


def _rates(dataset: VideoDataset, episodes: list[Episode]) -> dict[str, Any]:
    gaps = [np.diff(e.times) for e in episodes if e.times is not None and e.length > 1]
    if not gaps:
        return {"nominal": dataset.fps, "measured": None}
    each = np.array([1 / np.median(gap) if np.median(gap) > 0 else np.inf for gap in gaps])
    typical = float(np.median(np.concatenate(gaps)))
    return {
        "nominal": dataset.fps,
        "measured": 1 / typical if typical > 0 else None,
        "episodes": {"min": float(each.min()), "max": float(each.max())},
    }


def _dimensions(
    names: tuple[str, ...], parts: list[tuple[Float[np.ndarray, "t d"], Bool[np.ndarray, "t"]]]
) -> list[dict[str, Any]]:
    """Statistics over the known rows of all episodes."""
    shown = [values[known].astype(np.float64) for values, known in parts]
    rows = np.concatenate(shown) if shown else np.zeros((0, len(names)))
    if len(rows) == 0:
        return [{"name": name} for name in names] if parts else []
    again = np.zeros(len(names))
    pairs = 0
    for values, known in parts:
        both = known[1:] & known[:-1]
        again += (values[1:][both] == values[:-1][both]).sum(axis=0)
        pairs += int(both.sum())
    return [
        {
            "name": name,
            "min": float(column.min()),
            "max": float(column.max()),
            "mean": float(column.mean()),
            "std": float(column.std()),
            "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(column, QUANTILES), strict=True)},
            "distinct": len(np.unique(column)),
            "whole": bool((column == np.round(column)).all()),
            "repeated": float(again[k] / pairs) if pairs else 0.0,
        }
        for k, (name, column) in enumerate(zip(names, rows.T, strict=True))
    ]


def _origins(episodes: list[Episode]) -> dict[str, Any]:
    counts = Counter[str]()
    labellers = Counter[str]()
    for episode in episodes:
        known = episode.labelled()
        origins = episode.origins()[known]
        for kind in Provenance:
            counts[kind.name.lower()] += int((origins == kind).sum())
        if episode.labeller is not None:
            labellers[episode.labeller] += int((origins != Provenance.TRUE).sum())
    steps = sum(episode.length - 1 for episode in episodes)
    return {
        "steps": steps,
        "known": sum(counts.values()),
        "share": sum(counts.values()) / steps if steps else 0.0,
        "episodes": sum(bool(episode.labelled().any()) for episode in episodes),
        **counts,
        "labellers": dict(labellers),
    }


def _text(episodes: list[Episode]) -> dict[str, Any]:
    texts = Counter(episode.text for episode in episodes if episode.text)
    return {"episodes": sum(texts.values()), "distinct": len(texts), "common": dict(texts.most_common(5))}


def _hints(dataset: VideoDataset, facts: dict[str, Any], episodes: list[Episode]) -> list[str]:
    """What a user should know before writing a recipe."""
    hints = []
    for kind in ("actions", "proprio"):
        few = [row["name"] for row in facts[kind] if row.get("whole") and 1 < row["distinct"] <= FEW]
        if few and kind == "actions":
            hints.append(f"few whole numbers in action {', '.join(few)}: could be discrete")
        still = [row["name"] for row in facts[kind] if row.get("distinct") == 1]
        if still:
            hints.append(f"{kind}: {', '.join(still)} never changes")
        held = [row["name"] for row in facts[kind] if row.get("repeated", 0) > 0.5 and row["distinct"] > FEW]
        if held and kind == "actions":
            hints.append(f"more than half of the values of {', '.join(held)} repeat the one before: a held command?")
    for label, names, values in (
        ("action", dataset.action_names or (), [e.actions for e in episodes]),
        ("proprio", dataset.proprio_names or (), [e.proprio for e in episodes]),
    ):
        wraps = {f.field.removeprefix(f"{label}.") for v in values if v is not None for f in _wraps(label, names, v)}
        if wraps:
            hints.append(f"{label} {', '.join(n for n in names if n in wraps)} wraps: name it under codec angles")
    absolute = _absolute(dataset, episodes)
    if absolute:
        hints.append(f"action {', '.join(absolute)} follows the state: an absolute pose? consider proprio_difference")
    if facts["labels"]["known"] < facts["labels"]["steps"] and facts["actions"]:
        hints.append(f"{facts['labels']['known']} of {facts['labels']['steps']} steps have a known action")
    measured = facts["fps"]["measured"]
    if measured is not None and abs(measured / dataset.fps - 1) > 0.05:
        hints.append(f"time stamps say {measured:.3g} frames a second, the data set {dataset.fps:g}")
    return hints


def _wraps(label: str, names: tuple[str, ...], values: Float[np.ndarray, "t d"]) -> list[Any]:
    if not any(ANGLE.search(name) for name in names):
        return []
    return list(angle_faults(label, names, values, np.ones(len(values), dtype=bool)))


def _absolute(dataset: VideoDataset, episodes: list[Episode]) -> list[str]:
    """Action dimensions that move with the proprio dimension of their name, inside episodes."""
    shared = [
        (name, k, dataset.proprio_names.index(name))
        for k, name in enumerate(dataset.action_names or ())
        if dataset.proprio_names is not None and name in dataset.proprio_names and not ANGLE.search(name)
    ]
    pairs = [
        (e.actions[known], e.proprio[:-1][known])
        for e in episodes
        if e.actions is not None and e.proprio is not None and (known := e.labelled()).sum() > 2
    ]
    found = []
    for name, k, p in shared:
        command = np.concatenate([a[:, k] - a[:, k].mean() for a, _ in pairs]) if pairs else np.zeros(0)
        state = np.concatenate([s[:, p] - s[:, p].mean() for _, s in pairs]) if pairs else np.zeros(0)
        scale = float(np.sqrt((command**2).sum() * (state**2).sum()))
        if scale > 0 and float((command * state).sum()) / scale > ALIKE:
            found.append(name)
    return found


def describe_table(facts: dict[str, Any]) -> str:
    """`describe_dataset`'s facts as lines for a terminal."""
    fps, lengths, labels, text = facts["fps"], facts["lengths"], facts["labels"], facts["text"]
    measured = "" if fps["measured"] is None else f" (time stamps: {fps['measured']:.4g})"
    lines = [
        f"{facts['name']} ({facts['kind']}): {facts['episodes']} episodes, {facts['frames']} frames, "
        f"{facts['hours']:.3g} hours at {fps['nominal']:g} fps{measured}",
        f"  frames per episode: {lengths['min']} to {lengths['max']}, median {lengths['median']:g}",
        *(f"  camera {camera}: {size[0]} x {size[1]} (height x width)" for camera, size in facts["cameras"].items()),
        f"  actions: {labels['known']} of {labels['steps']} steps known, in {labels['episodes']} episodes "
        f"({labels['true']} true, {labels['pseudo']} pseudo, {labels['latent']} latent)"
        + "".join(f", {count} by {name}" for name, count in labels["labellers"].items()),
        f"  text: {text['episodes']} episodes, {text['distinct']} different"
        + "".join(f"\n    {count} x {words!r}" for words, count in text["common"].items()),
    ]
    for kind in ("actions", "proprio", "rewards"):
        if facts[kind]:
            lines += ["", *_rows(kind, facts[kind])]
    if facts["hints"]:
        lines += ["", *(f"  hint: {hint}" for hint in facts["hints"])]
    return "\n".join(lines)


def _rows(kind: str, dimensions: list[dict[str, Any]]) -> list[str]:
    width = max(len(kind), *(len(row["name"]) for row in dimensions))
    heads = ("min", "1 %", "median", "99 %", "max", "mean", "std", "distinct", "repeated")
    lines = [f"  {kind:{width}}" + "".join(f"{head:>11}" for head in heads)]
    for row in dimensions:
        if "min" not in row:
            lines.append(f"  {row['name']:{width}}  (no known value)")
            continue
        q = row["quantiles"]
        numbers = (row["min"], q["0.01"], q["0.5"], q["0.99"], row["max"], row["mean"], row["std"])
        cells = "".join(f"{value:>11.4g}" for value in numbers)
        lines.append(f"  {row['name']:{width}}{cells}{row['distinct']:>11}{row['repeated']:>10.0%} ")
    return [line.rstrip() for line in lines]
