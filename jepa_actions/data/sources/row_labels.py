"""The labels of one recording as a row of a table, of a JSON line or of a streamed example, turned into an Episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from jepa_actions.data.types import Episode, Provenance, check_finite
from jepa_actions.errors import DataError

# Each field by every name it may have in a row, ours first.
FIELDS: dict[str, tuple[str, ...]] = {
    "action": ("action", "actions"),
    "action_valid": ("action_valid", "action_mask"),
    "pseudo_action": ("pseudo_action", "pseudo_actions"),
    "latent_action": ("latent_action", "latent_actions"),
    "labeller": ("labeller",),
    "state": ("state", "proprio", "observation.state"),
    "reward": ("reward", "rewards", "next.reward"),
    "simulator_state": ("simulator_state", "simulator.state"),
    "text": ("text", "task", "caption"),
    "seed": ("seed",),
    "fps": ("fps",),
    "action_names": ("action_names",),
    "state_names": ("state_names", "proprio_names"),
}
ACTIONS = ("action", "pseudo_action", "latent_action")
_FIELD_OF = {name: field for field, names in FIELDS.items() for name in names}


def field_of(column: str) -> str | None:
    """The field that a column of this name holds, `None` for a column that is no label."""
    return _FIELD_OF.get(column)


def fields(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The labels of a row by field; null ones, and columns that are no label, are left out.

    Raises DataError where a field is given under two names.
    """
    found: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for column, value in row.items():
        field = _FIELD_OF.get(column)
        if field is None or value is None:
            continue
        if field in found:
            raise DataError(f"{place}: both {origin[field]!r} and {column!r} are given, expected one of them")
        found[field], origin[field] = value, column
    return found


def rows_of(value: Any, place: str, *, unknown_rows: bool = False) -> Float64[np.ndarray, "n d"]:
    """Nested lists or an array as rows of numbers; a flat list is one number per row.

    With `unknown_rows` a null row is a row of NaN. Raises DataError naming the first row that is not numbers, or is of
    another width than the first.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim:
        rows = value.astype(np.float64)
        return rows[:, None] if rows.ndim == 1 else rows.reshape(len(rows), -1)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise DataError(f"{place}: found {_shown(value)}, expected a list of rows")
    width = next((len(row) if _is_row(row) else 1 for row in value if row is not None), 0)
    out = np.full((len(value), width), np.nan)
    for number, row in enumerate(value):
        if row is None and unknown_rows:
            continue
        items = list(row) if _is_row(row) else [row]
        bad = next((item for item in items if not _is_number(item)), None)
        if bad is not None or any(item is None for item in items):
            raise DataError(f"{place}, row {number}: found {_shown(bad)}, expected {width or 'some'} numbers")
        if len(items) != width:
            raise DataError(f"{place}, row {number}: found {len(items)} values, expected {width} as in the first row")
        out[number] = items
    return out


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < 1 << 1023  # JSON has whole numbers that no float holds
    return isinstance(value, float | np.integer | np.floating | np.bool_)


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return f"{text[:40]}{'...' if len(text) > 40 else ''} ({type(value).__name__})"


def _steps(value: Any, length: int, place: str, *, unknown_rows: bool = False) -> Float64[np.ndarray, "t-1 d"]:
    """Values of the T-1 steps of an episode; of T rows the last leads nowhere and is dropped."""
    rows = rows_of(value, place, unknown_rows=unknown_rows)
    if len(rows) not in (length - 1, length):
        raise DataError(f"{place}: found {len(rows)} rows, expected {length - 1} or {length} for {length} frames")
    return rows[: length - 1]


def _frames(value: Any, length: int, place: str) -> Float64[np.ndarray, "t d"]:
    rows = rows_of(value, place)
    if len(rows) != length:
        raise DataError(f"{place}: found {len(rows)} rows, expected {length}, one per frame")
    return rows


def episode_of(
    labels: Mapping[str, Any], *, index: int, length: int, times: Float64[np.ndarray, "t"] | None, name: str, place: str
) -> Episode:
    """The episode of `length` frames that these labels (by field, see `fields`) belong to.

    Actions and rewards have T-1 rows, or T of which the last is dropped; an action that is null is unknown. A step
    whose true action is not known has the inferred one, where there is one, with its provenance. Raises DataError
    naming `place` and the field: wrong numbers of rows, widths that differ, what is not a number, inferred actions
    without a labeller.
    """
    actions, mask, provenance = _actions(labels, length, place)
    rewards = None
    if "reward" in labels:
        rewards = _steps(labels["reward"], length, f"{place}: reward")
        if rewards.shape[1] != 1:
            raise DataError(f"{place}: reward has {rewards.shape[1]} values per step, expected 1")
    state = labels.get("state")
    simulator = labels.get("simulator_state")
    labeller = _text(labels, "labeller", place)
    if labeller is None and provenance is not None:
        raise DataError(f"{place}: inferred actions without a 'labeller', expected the name of the model they are from")
    return Episode(
        index=index,
        length=length,
        actions=actions,
        proprio=None if state is None else _frames(state, length, f"{place}: state").astype(np.float32),
        rewards=None if rewards is None else rewards[:, 0].astype(np.float32),
        text=_text(labels, "text", place),
        action_mask=mask,
        provenance=Provenance.TRUE if provenance is None else provenance,
        labeller=labeller if provenance is not None else None,
        times=times,
        simulator_state=None if simulator is None else _frames(simulator, length, f"{place}: simulator_state"),
        seed=_integer(labels, "seed", place),
        dataset=name,
    )


def _actions(
    labels: Mapping[str, Any], length: int, place: str
) -> tuple[Float32[np.ndarray, "t-1 a"] | None, Bool[np.ndarray, "t-1"] | None, np.ndarray | None]:
    """Actions, where they are known, and their provenance per step (`None`: all are true ones)."""
    found = {
        field: _steps(labels[field], length, f"{place}: {field}", unknown_rows=True)
        for field in ACTIONS
        if field in labels and not _empty(labels[field])
    }
    if not found:
        return None, None, None
    if "latent_action" in found and len(found) > 1:
        raise DataError(f"{place}: 'latent_action' beside {next(iter(found))!r}, expected one kind of action")
    if len({rows.shape[1] for rows in found.values()}) > 1:
        widths = ", ".join(f"{field} of {rows.shape[1]}" for field, rows in found.items())
        raise DataError(f"{place}: {widths} dimensions, expected the same number")
    known = {field: _known(labels[field], length) for field in found}
    if "action" in found and "action_valid" in labels:
        known["action"] = known["action"] & _valid(labels["action_valid"], length, f"{place}: action_valid")
    first = next(iter(found))
    actions, mask = found[first].copy(), known[first].copy()
    origin = {"action": Provenance.TRUE, "pseudo_action": Provenance.PSEUDO, "latent_action": Provenance.LATENT}[first]
    provenance = np.full(length - 1, int(origin), dtype=np.int64)
    if first == "action" and "pseudo_action" in found:
        inferred = ~mask & known["pseudo_action"]
        actions[inferred], provenance[inferred] = found["pseudo_action"][inferred], int(Provenance.PSEUDO)
        mask |= inferred
    actions[~mask] = 0.0
    inferred_any = bool((provenance[mask] != Provenance.TRUE).any())
    return actions.astype(np.float32), None if mask.all() else mask, provenance if inferred_any else None


def _empty(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(row is None for row in value)


def _known(value: Any, length: int) -> Bool[np.ndarray, "t-1"]:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return np.ones(length - 1, dtype=bool)
    return np.array([row is not None for row in value][: length - 1], dtype=bool)


def _valid(value: Any, length: int, place: str) -> Bool[np.ndarray, "t-1"]:
    rows = _steps(value, length, place)
    if rows.shape[1] != 1 or not np.isin(rows, (0.0, 1.0)).all():
        raise DataError(f"{place}: found something else than 0 and 1, expected one truth value per step")
    return rows[:, 0] > 0.5


def _text(labels: Mapping[str, Any], field: str, place: str) -> str | None:
    value = labels.get(field)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{place}: {field} is {_shown(value)}, expected a string")
    return value


def _integer(labels: Mapping[str, Any], field: str, place: str) -> int | None:
    value = labels.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not _is_number(value) or not np.isfinite(float(value)) or value != int(value):
        raise DataError(f"{place}: {field} is {_shown(value)}, expected a whole number")
    return int(value)


def rate_of(labels: Mapping[str, Any], place: str) -> float | None:
    """Frames per second as the labels say, `None` where they do not. Raises DataError unless it is positive."""
    value = labels.get("fps")
    if value is None:
        return None
    if not _is_number(value) or isinstance(value, bool) or not (np.isfinite(float(value)) and value > 0):
        raise DataError(f"{place}: fps is {_shown(value)}, expected a number above 0")
    return float(value)


def names_of(
    episodes: Iterable[tuple[Episode, Mapping[str, Any], str]], given: Mapping[str, Any], place: str
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Names of the dimensions of actions and of proprio, `None` where no episode has them.

    They come from `given` (of the whole data set), else from the first episode that has names of its own, else they are
    `action_0`, ... Raises DataError where episodes differ in width or names.
    """
    return _names(episodes_ := list(episodes), given, place, "action"), _names(episodes_, given, place, "state")


def _names(
    episodes: Sequence[tuple[Episode, Mapping[str, Any], str]], given: Mapping[str, Any], place: str, field: str
) -> tuple[str, ...] | None:
    key = f"{field}_names"
    names = checked_names(given[key], f"{place}: {key}") if given.get(key) is not None else None
    width, origin = (None, "") if names is None else (len(names), place)
    for episode, labels, line in episodes:
        values = episode.actions if field == "action" else episode.proprio
        if values is None:
            continue
        if width is None:
            width, origin = values.shape[1], line
        if values.shape[1] != width:
            raise DataError(f"{line}: {field} has {values.shape[1]} dimensions, expected {width} as in {origin}")
        own = checked_names(labels[key], f"{line}: {key}") if labels.get(key) is not None else None
        if own is not None and len(own) != width:
            raise DataError(f"{line}: {key} has {len(own)} entries, expected {width}")
        if own is not None and names is not None and own != names:
            raise DataError(f"{line}: {key} is {', '.join(own)}, expected {', '.join(names)} as in {origin}")
        names = names or own
    if not any((e.actions if field == "action" else e.proprio) is not None for e, _, _ in episodes):
        return None
    return names or tuple(f"{'proprio' if field == 'state' else 'action'}_{k}" for k in range(width or 0))


def checked_names(value: Any, place: str) -> tuple[str, ...]:
    """Names of dimensions. Raises DataError unless they are strings, each once."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{place}: found {_shown(value)}, expected a list of strings")
    if len(set(value)) < len(value):
        raise DataError(f"{place}: found {', '.join(value)}, expected each name once")
    return tuple(value)


def check_labels(episode: Episode, place: str, names: Sequence[str] | None, state_names: Sequence[str] | None) -> None:
    """Raise DataError naming the first label that is not finite where it is known: action, state, reward."""
    if episode.actions is not None:
        check_finite(episode.actions, f"{place}: action", names, episode.labelled())
    if episode.proprio is not None:
        check_finite(episode.proprio, f"{place}: state", state_names)
    if episode.rewards is not None:
        check_finite(episode.rewards[:, None], f"{place}: reward", None)
