"""The labels of a whole data set: what each episode shows by itself, and what only all of them together show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from jepa_actions.data.checks.values import (
    ABSURD,
    Bounds,
    Fault,
    angle_faults,
    number_faults,
    range_faults,
    rotation_faults,
    time_faults,
)
from jepa_actions.data.problems import Problem
from jepa_actions.data.types import Episode, VideoDataset
from jepa_actions.errors import JepaActionsError

OUTLIER = 20.0  # robust standard deviations from the median: a warning
STILL = 10  # this many known steps whose actions never change are fatal; fewer say little


@dataclass
class _Rows:
    """One kind of label of all episodes."""

    name: str
    names: tuple[str, ...]
    episodes: list[int] = field(default_factory=list)
    values: list[Float[np.ndarray, "t d"]] = field(default_factory=list)
    known: list[Bool[np.ndarray, "t"]] = field(default_factory=list)

    def usable(self) -> list[Bool[np.ndarray, "t"]]:
        """Rows that are known, finite and not absurd."""
        return [
            known & (np.nan_to_num(np.abs(values), nan=np.inf) <= ABSURD).all(axis=1)
            for values, known in zip(self.values, self.known, strict=True)
        ]


def check_labels(
    dataset: VideoDataset,
    *,
    file_of: Callable[[int], str] = lambda _: "",
    angles: Collection[str] = (),
    bounds: Bounds | None = None,
    stated: Bounds | None = None,
    skip: Collection[int] = (),
) -> list[Problem]:
    """Every problem of the labels of `dataset`.

    Fatal: an episode that cannot be read, actions, proprio or rewards that are not finite, actions beyond 1e6 or
    `bounds`, rotations that are none, time that does not grow, actions that are all the same over at least 10 known
    steps of an episode or of the data set. Warnings: wrapped angles, outliers beyond 20 robust standard deviations, one
    dimension that never changes (a gripper that stays open), jumps in time, missing text, episodes of one frame.

    Args:
        dataset: any data set.
        file_of: the file that holds an episode's labels, for the reports.
        angles: names of dimensions that are angles, beside those whose name says so.
        bounds: lowest and highest action of every dimension, where they are declared; beyond them is fatal.
        stated: smallest and largest action by the data set's own statistics; beyond them is a warning.
        skip: episodes to leave out, because the reader has refused them already.
    """
    problems: list[Problem] = []
    actions, proprio = _Rows("action", dataset.action_names or ()), _Rows("proprio", dataset.proprio_names or ())
    texts: dict[int, str | None] = {}
    for i in range(len(dataset)):
        if i in skip:
            continue
        try:
            episode = dataset.episode(i)
        except JepaActionsError as error:
            problems.append(Problem(i, file_of(i), "", str(error), True, "labels"))
            continue
        texts[i] = episode.text
        for rows, values, known in (
            (actions, episode.actions, episode.labelled()),
            (proprio, episode.proprio, np.ones(episode.length, dtype=bool)),
        ):
            if values is not None:
                rows.episodes.append(i)
                rows.values.append(values)
                rows.known.append(known)
        for fault in _episode_faults(dataset, episode, angles, bounds, stated):
            problems.append(_problem(fault, i, file_of(i)))
    found = [*_text_faults(dataset.name, texts), *_constant_faults(dataset.name, actions)]
    for number, fault in [*found, *_outliers(actions), *_outliers(proprio)]:
        problems.append(_problem(fault, number, "" if number is None else file_of(number)))
    return problems


def _problem(fault: Fault, episode: int | None, file: str) -> Problem:
    message = fault.message if episode is None else f"episode {episode}: {fault.message}"
    return Problem(episode, file, fault.field, message, fault.fatal, fault.kind)


def _episode_faults(
    dataset: VideoDataset, episode: Episode, angles: Collection[str], bounds: Bounds | None, stated: Bounds | None
) -> Iterator[Fault]:
    if episode.length < 2:
        yield Fault("rows", "length", "1 frame, expected at least 2 for an action", False)
    everywhere = np.ones(episode.length, dtype=bool)
    for label, names, values, known in (
        ("action", dataset.action_names or (), episode.actions, episode.labelled()),
        ("proprio", dataset.proprio_names or (), episode.proprio, everywhere),
        ("reward", ("reward",), None if episode.rewards is None else episode.rewards[:, None], everywhere[1:]),
    ):
        if values is not None:
            yield from number_faults(label, names, values, known)
            yield from angle_faults(label, names, values, known, angles)
            yield from rotation_faults(label, names, values, known)
    for limits, source, fatal in ((bounds, "info.json", True), (stated, "stats.json", False)):
        if episode.actions is not None and limits is not None:
            names, known = dataset.action_names or (), episode.labelled()
            yield from range_faults("action", names, episode.actions, known, limits, source, fatal)
    if episode.times is not None:
        yield from time_faults(episode.times, dataset.fps)


def _text_faults(name: str, texts: dict[int, str | None]) -> Iterator[tuple[int | None, Fault]]:
    bare = [i for i, text in texts.items() if text is None or not text.strip()]
    if bare and len(bare) == len(texts):
        yield None, Fault("text", "text", f"{name}: no episode has a text", False)
    elif bare:
        for i in bare:
            yield i, Fault("text", "text", "no text, although other episodes have one", False)


def _constant_faults(name: str, actions: _Rows) -> Iterator[tuple[int | None, Fault]]:
    """One dimension that never changes is worth knowing; actions none of which ever change teach nothing."""
    shown = [values[usable] for values, usable in zip(actions.values, actions.usable(), strict=True)]
    rows = np.concatenate(shown) if shown else np.zeros((0, 0))
    if len(rows) < 2:
        return
    still = (rows == rows[0]).all(axis=0)
    same = f"known actions are the same, {np.round(rows[0], 4).tolist()[:8]}, expected some that differ"
    if still.all():
        yield None, Fault("labels", "action", f"{name}: all {len(rows)} {same}", len(rows) >= STILL)
        return
    for k in np.flatnonzero(still).tolist():
        message = f"{name}: action {actions.names[k]} is {rows[0, k]:g} in all {len(rows)} known steps"
        yield None, Fault("labels", f"action.{actions.names[k]}", message, False)
    for i, mine in zip(actions.episodes, shown, strict=True):
        if len(mine) >= STILL and (mine == mine[0]).all():
            same = f"known actions are the same, {np.round(mine[0], 4).tolist()[:8]}, expected some that differ"
            yield i, Fault("labels", "action", f"all {len(mine)} {same}", True)


def _outliers(label: _Rows) -> Iterator[tuple[int | None, Fault]]:
    """Values far from all others of their dimension; one fault per episode and dimension."""
    if not label.values:
        return
    usable = label.usable()
    kept = np.concatenate([v[u] for v, u in zip(label.values, usable, strict=True)]).astype(np.float64)
    owner = np.repeat(label.episodes, [int(u.sum()) for u in usable])
    if len(kept) < 3 * STILL:
        return
    middle, sigma = robust_scale(kept)
    for k in np.flatnonzero(sigma > 0).tolist():
        far = np.abs(kept[:, k] - middle[k]) / sigma[k]
        for i in np.unique(owner[far > OUTLIER]).tolist():
            mine = np.flatnonzero((owner == i) & (far > OUTLIER))
            worst = mine[np.argmax(far[mine])]
            yield (
                i,
                Fault(
                    "labels",
                    f"{label.name}.{label.names[k]}",
                    f"{label.name} {label.names[k]} reaches {kept[worst, k]:g}, {far[worst]:.0f} robust standard "
                    f"deviations from the median {middle[k]:g} ({len(mine)} rows beyond {OUTLIER:g})",
                    False,
                ),
            )


def robust_scale(rows: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Median and robust standard deviation per dimension: the larger one of those that the median absolute deviation
    and the middle 90 % give, since either is small for a value that mostly rests; 0 where both are."""
    middle = np.median(rows, axis=0)
    deviation = 1.4826 * np.median(np.abs(rows - middle), axis=0)
    low, high = np.quantile(rows, [0.05, 0.95], axis=0)
    return middle, np.maximum(deviation, (high - low) / 3.29)
