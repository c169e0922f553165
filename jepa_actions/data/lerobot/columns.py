"""An episode's labels as LeRobot columns, and the features that describe them. Only true actions come into `action`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from jepa_actions.data.types import Episode, Provenance, check_finite
from jepa_actions.errors import DataError, ShapeError

Feature = dict[str, Any]  # dtype, shape, names and, where there is more to say, info
Columns = dict[str, np.ndarray]  # one row per frame: (T,) or (T, n)

ACTION, VALID, PROPRIO, REWARD, SIMULATOR = (
    "action",
    "action_valid",
    "observation.state",
    "next.reward",
    "simulator.state",
)
INFERRED = {Provenance.PSEUDO: "pseudo_action", Provenance.LATENT: "latent_action"}
INDEX: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")


@dataclass
class Columnist:
    """Turns labels into columns, the same for every episode of a data set.

    `discrete` holds the number of values of every action dimension where actions are whole numbers, `bounds` the lowest
    and highest of others, `extra` the features of further columns. `features` grows with what episodes bring. Raises
    DataError or ShapeError naming the episode for labels that differ in kind or width from those of earlier episodes.
    """

    action_names: Sequence[str] | None = None
    proprio_names: Sequence[str] | None = None
    discrete: Sequence[int] | None = None
    bounds: tuple[Sequence[float], Sequence[float]] | None = None
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    features: dict[str, Feature] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, spec in self.extra.items():
            reserved = name in (*INDEX, VALID, PROPRIO, REWARD, SIMULATOR) or "/" in name
            if reserved or name.startswith((ACTION, *INFERRED.values())):
                raise DataError(f"extra column {name!r}: expected another name; actions and states are given as labels")
            shape = tuple(spec.get("shape", (1,)))
            if spec.get("dtype") not in DTYPES or len(shape) != 1 or shape[0] < 1:
                raise DataError(f"extra column {name!r}: found {dict(spec)}, expected dtype of {DTYPES} and shape (n,)")
            self.features[name] = feature(str(spec["dtype"]), shape[0], spec.get("names"), spec.get("info"))

    def columns(
        self, labels: Episode, extra: Mapping[str, np.ndarray], place: str
    ) -> tuple[Columns, dict[str, Feature]]:
        """The columns of one episode, T rows each, and their features."""
        columns: Columns = {}
        features: dict[str, Feature] = {}

        def put(name: str, rows: np.ndarray, spec: Feature) -> None:
            columns[name], features[name] = rows.astype(spec["dtype"]), spec

        self._put_actions(labels, put, place)
        if labels.proprio is not None:
            check_finite(labels.proprio, f"{place}, proprio", self.proprio_names)
            put(
                PROPRIO, labels.proprio, feature("float32", *_named(labels.proprio, self.proprio_names, "state", place))
            )
        if labels.rewards is not None:
            put(REWARD, np.append(labels.rewards, np.float32(0)), feature("float32", 1))
        if labels.simulator_state is not None:
            width = labels.simulator_state.shape[1]
            put(SIMULATOR, labels.simulator_state, feature("float64", width, [f"state_{k}" for k in range(width)]))
        if set(extra) != set(self.extra):
            raise DataError(f"{place}: extra columns {sorted(extra)}, expected {sorted(self.extra)}")
        for name, values in extra.items():
            spec = self.features[name]
            rows = np.asarray(values)
            if rows.shape not in ((labels.length, *spec["shape"]), (labels.length,) if spec["shape"] == [1] else ()):
                raise ShapeError(f"{place}: column {name!r} has shape {rows.shape}, expected {labels.length} rows")
            put(name, rows, spec)
        self._agree(features, place)
        return {
            name: rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows for name, rows in columns.items()
        }, (features)

    def _put_actions(self, labels: Episode, put: Any, place: str) -> None:
        if labels.actions is None:
            return
        origins, known = labels.origins(), labels.labelled()
        check_finite(labels.actions, f"{place}, actions", self.action_names, known)
        for kind in Provenance:
            mine = origins == kind
            if not mine.any() and (kind != Provenance.TRUE or len(mine)):
                continue
            valid = mine & known
            latent = kind == Provenance.LATENT
            width, names = _named(labels.actions, None if latent else self.action_names, "action", place)
            name = ACTION if kind == Provenance.TRUE else self._inferred(kind, str(labels.labeller))
            dtype = "float32" if self.discrete is None or latent else "int64"
            spec = feature(dtype, width, names, self._action_info(kind, labels, valid, place))
            put(name, hold(labels.actions, valid), spec)
            put(f"{name}_valid", np.append(valid, False), feature("int64", 1))

    def _action_info(
        self, kind: Provenance, labels: Episode, valid: Bool[np.ndarray, "t-1"], place: str
    ) -> dict[str, Any] | None:
        info: dict[str, Any] = {}
        if kind != Provenance.TRUE:
            info = {"provenance": kind.name.lower(), "model": labels.labeller}
        if self.discrete is not None and kind != Provenance.LATENT:
            assert labels.actions is not None, "called for episodes with actions"
            actions = labels.actions[valid]
            if labels.actions.shape[1] != len(self.discrete) or (actions != np.round(actions)).any():
                raise DataError(
                    f"{place}: actions of {labels.actions.shape[1]} numbers, expected {len(self.discrete)} whole ones"
                )
            info["discrete"] = list(self.discrete) if len(self.discrete) > 1 else self.discrete[0]
        elif self.bounds is not None and kind == Provenance.TRUE:
            info["low"], info["high"] = ([float(value) for value in side] for side in self.bounds)
        return info or None

    def _inferred(self, kind: Provenance, model: str) -> str:
        """The column of inferred actions: the kind's own for the first model, one with a tag for every other."""
        plain = INFERRED[kind]
        for name, spec in self.features.items():
            if name.startswith(plain) and (spec.get("info") or {}).get("model") == model:
                return name
        tagged = f"{plain}.{re.sub(r'[^A-Za-z0-9_-]+', '_', model)}"
        name = plain if plain not in self.features else tagged
        if name in self.features:
            raise DataError(f"model {model!r}: its column {name} is taken by another model of nearly the same name")
        return name

    def _agree(self, features: Mapping[str, Feature], place: str) -> None:
        for name, spec in features.items():
            if self.features.setdefault(name, spec) != spec:
                raise DataError(f"{place}: column {name} is {spec}, expected {self.features[name]} as before")


def feature(
    dtype: str, width: int, names: Sequence[str] | None = None, info: Mapping[str, Any] | None = None
) -> Feature:
    """A feature of `meta/info.json`."""
    found: Feature = {"dtype": dtype, "shape": [int(width)], "names": None if names is None else list(names)}
    return found if info is None else found | {"info": dict(info)}


def hold(actions: Float32[np.ndarray, "t-1 a"], valid: Bool[np.ndarray, "t-1"]) -> Float32[np.ndarray, "t a"]:
    """T rows of actions from T-1, the last known one repeated where none is known: a harmless value, for other software
    reads these rows too. Before the first known action it is the first known one, without any it is zero."""
    rows = np.zeros((len(actions) + 1, actions.shape[1]), dtype=np.float32)
    if valid.any():
        known = np.flatnonzero(valid)
        last = np.searchsorted(known, np.arange(len(rows)), side="right") - 1
        rows = actions[known[np.maximum(last, 0)]]
    return rows


def filler(spec: Feature, length: int) -> Shaped[np.ndarray, "t ..."]:
    """Rows of a column that an episode has no labels for."""
    width = spec["shape"][0]
    return np.zeros((length, width) if width > 1 else (length,), dtype=spec["dtype"])


def may_be_absent(name: str) -> bool:
    """Whether episodes without this column may stand beside others that have it: it says which rows are known."""
    return name.removesuffix("_valid").split(".")[0] in (ACTION, *INFERRED.values())


def _named(
    rows: Shaped[np.ndarray, "t n"], names: Sequence[str] | None, what: str, place: str
) -> tuple[int, Sequence[str]]:
    width = rows.shape[1]
    if names is not None and len(names) != width:
        raise ShapeError(f"{place}: {what} of {width} numbers, expected {len(names)}: {', '.join(names)}")
    return width, names if names is not None else [f"{what}_{k}" for k in range(width)]
