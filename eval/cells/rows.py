"""Results as lines of JSON, one a run: what is there already is not done again."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jepa_actions.errors import DataError

Row = dict[str, Any]


class Rows:
    """A file of rows. A run is known by the values of some keys."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, **wanted: Any) -> list[Row]:
        """The rows with these values, in the order they came; the newest of the file, which others may write too.

        Raises DataError for a line that is not JSON, naming file and line.
        """
        rows = []
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{self.path}: line {number}: not JSON ({error}), expected a row") from error
            if all(row.get(key) == value for key, value in wanted.items()):
                rows.append(row)
        return rows

    def has(self, **wanted: Any) -> bool:
        """Whether there is a row with these values."""
        return bool(self.read(**wanted))

    def append(self, row: Row) -> None:
        """Add a row, as one write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def mean_and_spread(values: Iterable[float]) -> str:
    """Mean and standard deviation over runs; the mean alone of one."""
    found = list(values)
    if not found:
        return "-"
    mean = sum(found) / len(found)
    if len(found) == 1:
        return f"{mean:.3f}"
    spread = (sum((value - mean) ** 2 for value in found) / (len(found) - 1)) ** 0.5
    return f"{mean:.3f} ± {spread:.3f}"


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """A table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
