"""Faults of a data set: raised where they are found, or collected, so that its good episodes can be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from jepa_actions.data.problems import Kind, Problem
from jepa_actions.errors import DataError


class Faults:
    """What a reader found at opening. With `tolerant` nothing is raised, and `check` raises for an episode it
    concerns."""

    def __init__(self, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.problems: list[Problem] = []
        self._bad: dict[int, str] = {}

    def add(
        self,
        message: str,
        *,
        file: str,
        kind: Kind,
        field: str = "",
        episodes: Iterable[int] | None = None,
        fatal: bool = True,
    ) -> None:
        """One fault, of these episodes or (`None`) of the data set. Raises DataError if it is fatal, unless faults are
        tolerated."""
        if fatal and not self.tolerant:
            raise DataError(message)
        for i in [None] if episodes is None else [int(e) for e in episodes]:
            self.problems.append(Problem(i, file, field, message, fatal, kind))
            if fatal and i is not None:
                self._bad.setdefault(i, message)

    @contextmanager
    def collected(
        self, *, file: str, kind: Kind, field: str = "", episodes: Iterable[int] | None = None
    ) -> Iterator[None]:
        """A DataError that is raised inside becomes a fault."""
        try:
            yield
        except DataError as error:
            if not self.tolerant:
                raise
            self.add(str(error), file=file, kind=kind, field=field, episodes=episodes)

    def check(self, i: int) -> None:
        """Raise DataError where an episode has a fatal fault."""
        if i in self._bad:
            raise DataError(self._bad[i])
