"""The raw actions of a recorded episode, as an action codec understands them: picked, shifted, seen from proprio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from jepa_actions.data.actions.scaling import not_a_class, wrong_class
from jepa_actions.data.types import Episode, Provenance, VideoDataset, check_finite
from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from jepa_actions.data.actions.codec import ActionCodec

Source = Literal["action", "proprio_difference", "action_minus_proprio"]


def missing(dataset: VideoDataset, source: Source) -> str | None:
    """What an action codec of this source needs and the data set does not hold: `actions`, `proprio`, or None."""
    if source != "proprio_difference" and dataset.action_names is None:
        return "actions"
    if source != "action" and dataset.proprio_names is None:
        return "proprio"
    return None


def shifted(rows: np.ndarray, lag: int) -> np.ndarray:
    """Row s of the answer is row s - lag, or zero where there is none."""
    out = np.zeros_like(rows)
    count = max(0, len(rows) - abs(lag))
    out[max(lag, 0) : max(lag, 0) + count] = rows[max(-lag, 0) : max(-lag, 0) + count]
    return out


def known_steps(codec: ActionCodec, episode: Episode) -> Bool[np.ndarray, "t-1"]:
    """True where the raw action of a step is known."""
    known = np.ones(episode.length - 1, dtype=bool)
    if codec.source != "proprio_difference":
        known &= shifted(episode.labelled(), codec.lag)
    if codec.source != "action":
        known &= episode.proprio is not None
    return known


def step_origins(codec: ActionCodec, episode: Episode) -> Int64[np.ndarray, "t-1"]:
    """Provenance of every step's raw action; a change of proprio is true."""
    if codec.source == "proprio_difference":
        return np.full(episode.length - 1, int(Provenance.TRUE), dtype=np.int64)
    return shifted(episode.origins(), codec.lag)


def read_raw(codec: ActionCodec, episode: Episode) -> Float32[np.ndarray, "t-1 a"] | None:
    """The raw actions of an episode; see `ActionCodec.raw_actions`."""
    commands = readings = None
    if codec.source != "proprio_difference":
        if episode.actions is None:
            return None
        commands = _commands(codec, episode, episode.actions)
    if codec.source != "action":
        if episode.proprio is None:
            return None
        readings = _readings(codec, episode, episode.proprio)
    steps = np.flatnonzero(known_steps(codec, episode))
    start = codec.displacement.origin() if readings is None else torch.from_numpy(readings[steps])
    if commands is not None:
        end = torch.from_numpy(commands[steps - codec.lag])
    else:
        assert readings is not None
        end = torch.from_numpy(readings[steps + 1])
    raw = np.zeros((episode.length - 1, len(codec.names)), dtype=np.float32)
    raw[steps] = codec.displacement.between(start, end).numpy()
    return raw


def _commands(codec: ActionCodec, episode: Episode, values: np.ndarray) -> Float64[np.ndarray, "t-1 w"]:
    """The recorded actions in the codec's columns, checked where they are labelled."""
    place = f"{episode.dataset}: action of episode {episode.index}"
    width = codec.displacement.width
    rows = _picked(codec, values, list(range(width) if codec.columns is None else codec.columns), place)
    labelled = episode.labelled()
    check_finite(rows, place, _labels(codec), labelled)
    numbers = np.flatnonzero(labelled)
    codec.displacement.check(rows[numbers], numbers, place)
    _check_classes(codec, rows[numbers], numbers, place)
    return rows


def _readings(codec: ActionCodec, episode: Episode, values: np.ndarray) -> Float64[np.ndarray, "t w"]:
    """Proprio in the codec's columns; those that it has no part in are zero."""
    place = f"{episode.dataset}: proprio of episode {episode.index}"
    picked, columns = codec.seen_from
    rows = np.zeros((len(values), codec.displacement.width))
    rows[:, picked] = _picked(codec, values, columns, place)
    check_finite(rows, place, _labels(codec), None)
    numbers = np.arange(len(rows))
    codec.displacement.check(rows, numbers, place)
    if codec.source == "proprio_difference":
        _check_classes(codec, rows, numbers, place)
    return rows


def _picked(codec: ActionCodec, values: np.ndarray, columns: list[int], place: str) -> np.ndarray:
    width = codec.displacement.width
    exact = codec.columns is None and columns == list(range(width))
    if max(columns, default=-1) >= values.shape[1] or (exact and width != values.shape[1]):
        raise DataError(
            f"{place} has {values.shape[1]} dimensions, expected those of the codec, {', '.join(codec.names)}"
        )
    rows: np.ndarray = values[:, columns].astype(np.float64)
    return rows


def _labels(codec: ActionCodec) -> tuple[str, ...]:
    """Names of the columns, for errors: those of the raw dimensions, and `rotation` where these are others."""
    names = ["rotation"] * codec.displacement.width
    for k, place in codec.displacement.places[0].items():
        names[k] = codec.names[place]
    for pose, at in zip(codec.displacement.poses, codec.displacement.places[1], strict=True):
        if pose.form == pose.change:
            for k, place in zip(pose.rotation, at, strict=True):
                names[k] = codec.names[place]
    return tuple(names)


def _check_classes(codec: ActionCodec, rows: np.ndarray, numbers: np.ndarray, place: str) -> None:
    """Raise DataError naming the row and the dimension of a number that is none of its classes."""
    if not any(codec.classes):
        return
    for k, d in codec.displacement.places[0].items():
        count = codec.classes[d]
        bad = not_a_class(torch.from_numpy(rows[:, k]), count).numpy() if count else np.zeros(0, dtype=bool)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{place}, row {int(numbers[first])}, dimension {k} ({codec.names[d]}): found "
                f"{wrong_class(torch.tensor(rows[first, k]), count)}"
            )
