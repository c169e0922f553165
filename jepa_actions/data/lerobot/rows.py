"""The rows of an episode, out of its parquet file, and the proof that they are its rows, in order and on time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from jepa_actions.data.lerobot.files import LocalFiles
from jepa_actions.data.lerobot.labels import SIMULATOR, Labels
from jepa_actions.data.lerobot.places import Places
from jepa_actions.data.lerobot.tables import column_rows, read_table, real_numbers, whole_numbers
from jepa_actions.data.recent import Recent
from jepa_actions.errors import DataError

KEPT = 128 << 20  # bytes of rows that stay in memory
WHOLE, OPTIONAL = ("episode_index", "frame_index"), ("index", "task_index")


@dataclass(frozen=True)
class RowFile:
    """The columns of one file, and which rows each episode has: its first and how many, in all."""

    path: Path
    columns: dict[str, np.ndarray]
    runs: dict[int, tuple[int, int]]

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.columns.values())


def _weigh(rows: RowFile) -> int:
    return rows.nbytes


def _runs(episodes: Int64[np.ndarray, "n"]) -> dict[int, tuple[int, int]]:
    if not len(episodes):
        return {}
    starts = np.flatnonzero(np.diff(episodes, prepend=episodes[0] - 1))
    counts = np.diff(starts, append=len(episodes))
    found: dict[int, tuple[int, int]] = {}
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        number = int(episodes[start])
        first, before = found.get(number, (start, 0))
        found[number] = (first, before + count)
    return found


class RowReader:
    """Rows by episode; files that were used last stay in memory. `fps` is what time stamps must agree with."""

    def __init__(self, files: LocalFiles, places: Places, labels: Labels, fps: float) -> None:
        self.files, self.places, self.labels, self.fps = files, places, labels, fps
        self._kept: Recent[int, RowFile] = Recent(KEPT, _weigh)

    def rows(self, i: int) -> tuple[Path, dict[str, np.ndarray]]:
        """The file and the columns of episode `i`: label columns `(T, n)`, the others `(T,)`."""
        file = self._file(i)
        start, stop = self._span(file, i)
        return file.path, {column: values[start:stop] for column, values in file.columns.items()}

    def start(self, i: int) -> tuple[Path, int]:
        """The file and the number of the first row of episode `i`."""
        file = self._file(i)
        return file.path, self._span(file, i)[0]

    def _file(self, i: int) -> RowFile:
        file = int(self.places.data.of[i])
        return self._kept.get(file, lambda: self._read(file))

    def _read(self, file: int) -> RowFile:
        path = self.files.use(self.places.data.names[file], "table of rows")
        frames = int(self.places.length[self.places.data.members(file)].sum())
        widths = self.labels.columns
        table = read_table(path, [*WHOLE, *widths], [*OPTIONAL, "timestamp"], most=4 * frames + 1000)
        columns: dict[str, np.ndarray] = {
            column: column_rows(path, table, column, width, np.float64 if column == SIMULATOR else np.float32)
            for column, width in widths.items()
        }
        for column in (*WHOLE, *OPTIONAL):
            if column in table.column_names:
                columns[column] = whole_numbers(path, table, column)
        if "timestamp" in table.column_names:
            columns["timestamp"] = real_numbers(path, table, "timestamp")
        return RowFile(path, columns, _runs(columns["episode_index"]))

    def _span(self, file: RowFile, i: int) -> tuple[int, int]:
        number, length = int(self.places.number[i]), int(self.places.length[i])
        start, count = file.runs.get(number, (0, 0))
        mine = slice(start, start + length)
        frames = np.arange(length)
        ordered = count == length and np.array_equal(file.columns["frame_index"][mine], frames)
        if not ordered or (file.columns["episode_index"][mine] != number).any():
            raise DataError(
                f"{file.path}: {count} rows of episode {number}, expected {length} with frame_index 0 to {length - 1}"
            )
        if "timestamp" in file.columns:
            times = file.columns["timestamp"][mine]
            late = np.flatnonzero(np.abs(times - frames / self.fps) > 0.25 / self.fps)
            if len(late):
                k = int(late[0])
                raise DataError(
                    f"{file.path}: row {start + k} has timestamp {times[k]:.3f} s, expected {k / self.fps:.3f} for "
                    f"frame {k} of episode {number} at {self.fps:g} fps"
                )
        if "index" in file.columns:
            index = file.columns["index"][mine]
            first = int(self.places.first_row[i]) if self.places.first_row[i] >= 0 else int(index[0])
            wrong = np.flatnonzero(index != first + frames)
            if len(wrong):
                k = int(wrong[0])
                raise DataError(
                    f"{file.path}: row {start + k} has index {index[k]}, expected {first + k} for frame {k} of episode "
                    f"{number}"
                )
        return start, start + length
