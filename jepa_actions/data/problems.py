"""What is wrong with a data set, one fact at a time: found by a reader opened with `tolerant=True`, printed by `data
check`, and what `skip_bad` goes by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from jepa_actions.errors import DataError

Kind = Literal[
    "checksum",  # a file's size or content is not that of meta/checksums.json
    "missing",  # a file that should be there is not
    "extra",  # a file that the checksums do not know
    "unreadable",  # a file that is not what its ending says: damaged, truncated, undecodable
    "description",  # a field of the metadata that cannot be, or that another contradicts
    "rows",  # rows against the table of episodes: their number, order, index, time stamps
    "frames",  # video against rows: number, times, place in the file, size, rate, identity
    "labels",  # actions, states, rewards: not numbers, not finite, out of range, constant
    "text",  # a missing or empty task
    "duplicate",  # the same episode twice
    "split",  # a validation split that repeats the training split
]


@dataclass(frozen=True)
class Problem:
    """One fault.

    Attributes:
        episode: number of the episode concerned, as the reader counts; `None` where it is the whole file or data set.
        file: path relative to the data set's root, with forward slashes; empty where no file can be named.
        field: the column, key or camera concerned; empty where the file as a whole is.
        message: one line: place, what was found, what was expected.
        fatal: whether the episode (or, without one, the data set) must not be trained on; otherwise a warning.
        kind: what sort of fault it is.
    """

    episode: int | None
    file: str
    field: str
    message: str
    fatal: bool
    kind: Kind


def raise_first(problems: Iterable[Problem]) -> None:
    """Raise DataError with the message of the first fatal problem, and how many more there are; nothing if none is."""
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        more = f" (and {len(fatal) - 1} more problems)" if len(fatal) > 1 else ""
        raise DataError(fatal[0].message + more)


def bad_episodes(problems: Iterable[Problem]) -> tuple[int, ...]:
    """The episodes with a fatal problem of their own, in order, each once."""
    return tuple(sorted({p.episode for p in problems if p.fatal and p.episode is not None}))
