"""The labels of many episodes in one safetensors file and one JSON value, read back exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from jepa_actions.data.types import Episode, Provenance
from jepa_actions.errors import DataError

PER_STEP = ("actions", "rewards", "action_mask", "provenance")  # T-1 rows in an episode of T frames
PER_FRAME = ("proprio", "times", "simulator_state")
WORDS = ("text", "labeller", "seed", "dataset")
VARIES = -1  # an episode's provenance is given per step


def pack(episodes: Sequence[Episode], place: str) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """Arrays and words of `episodes`. A field that no episode has is left out; `has.X` says which episodes have X.

    Raises DataError where a field has another width in one episode than in the others.
    """
    arrays = {
        "length": np.array([episode.length for episode in episodes], dtype=np.int64),
        "index": np.array([episode.index for episode in episodes], dtype=np.int64),
        "origin": np.array([_origin(episode) for episode in episodes], dtype=np.int64),
    }
    for field in (*PER_STEP, *PER_FRAME):
        held = [_array(episode, field) for episode in episodes]
        given = [values for values in held if values is not None]
        if not given:
            continue
        for episode, values in zip(episodes, held, strict=True):
            if values is not None and values.shape[1:] != given[0].shape[1:]:
                raise DataError(
                    f"{place}: {field} of episode {episode.index} has rows of {values.shape[1:]}, expected "
                    f"{given[0].shape[1:]} as before it"
                )
        arrays[field] = np.concatenate(given)
        arrays[f"has.{field}"] = np.array([values is not None for values in held])
    return arrays, {word: [getattr(episode, word) for episode in episodes] for word in WORDS}


def _origin(episode: Episode) -> int:
    return VARIES if isinstance(episode.provenance, np.ndarray) else int(episode.provenance)


def _array(episode: Episode, field: str) -> np.ndarray | None:
    value = getattr(episode, field)
    return value if isinstance(value, np.ndarray) else None


class EpisodeStore:
    """What `pack` gave, by episode. Raises DataError naming `path` where it does not hold together."""

    def __init__(self, path: Path, arrays: dict[str, np.ndarray], words: dict[str, list[Any]]) -> None:
        self.path, self._arrays, self._words = path, arrays, words
        for name in ("length", "index", "origin"):
            if name not in arrays or arrays[name].shape != arrays.get("length", arrays[name]).shape:
                raise DataError(f"{path}: no {name!r} of every episode")
        count = len(arrays["length"])
        if arrays["length"].ndim != 1 or count == 0 or arrays["length"].min() < 1:
            raise DataError(f"{path}: lengths of episodes are {arrays['length'].shape}, expected one each, at least 1")
        for word in WORDS:
            if not isinstance(words.get(word), list) or len(words[word]) != count:
                raise DataError(f"{path}: {word!r} is not a list of {count}, one for every episode")
        self._start = {field: self._starts(field) for field in (*PER_STEP, *PER_FRAME) if field in arrays}

    def _starts(self, field: str) -> Int64[np.ndarray, "e+1"]:
        rows = self.lengths() - (field in PER_STEP)
        has = self._arrays.get(f"has.{field}")
        if has is None or has.shape != rows.shape or has.dtype != bool:
            raise DataError(f"{self.path}: no 'has.{field}' of every episode")
        starts = np.concatenate([[0], np.cumsum(np.where(has, rows, 0))])
        if starts[-1] != len(self._arrays[field]):
            raise DataError(f"{self.path}: {len(self._arrays[field])} rows of {field!r}, expected {starts[-1]}")
        return starts

    def __len__(self) -> int:
        return len(self._arrays["length"])

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._arrays["length"].copy()

    def episode(self, i: int) -> Episode:
        """Episode `i` as it was packed."""
        fields: dict[str, Any] = {field: self._rows(field, i) for field in self._start}
        if fields.get("provenance") is None:
            origin = int(self._arrays["origin"][i])
            try:
                fields["provenance"] = Provenance(origin)
            except ValueError as error:
                raise DataError(f"{self.path}: provenance {origin} of episode {i}, expected 0, 1 or 2") from error
        words: dict[str, Any] = {word: self._words[word][i] for word in WORDS}
        return Episode(int(self._arrays["index"][i]), int(self._arrays["length"][i]), **fields, **words)

    def _rows(self, field: str, i: int) -> np.ndarray | None:
        if not self._arrays[f"has.{field}"][i]:
            return None
        start, stop = self._start[field][i : i + 2]
        return self._arrays[field][start:stop].copy()

    def without_labels(self) -> EpisodeStore:
        """The same episodes with lengths, times and text only."""
        kept = ("length", "index", "times", "has.times")
        arrays = {name: self._arrays[name] for name in kept if name in self._arrays}
        arrays["origin"] = np.zeros(len(self), dtype=np.int64)
        nothing = [None] * len(self)
        return EpisodeStore(self.path, arrays, {**self._words, "labeller": nothing, "seed": nothing})
