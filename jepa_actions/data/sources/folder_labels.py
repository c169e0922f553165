"""Labels beside a folder of videos: `metadata.jsonl`, `.csv` or `.parquet` with one row per video, or `actions.parquet`
with one row per frame."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jepa_actions.data.sources.row_labels import FIELDS, field_of, fields
from jepa_actions.errors import DataError

ROWS = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # one row per video, as `datasets`' videofolder has them
FRAMES = "actions.parquet"
INFO = "info.json"
FILE, FRAME = "file_name", "frame_index"
_WORDS = ("text", "labeller")  # what a cell of a .csv holds as it is; other labels in it are JSON


@dataclass(frozen=True)
class Labels:
    """What one row says of one video: labels by field, and where they were read ("metadata.jsonl, line 3")."""

    values: Mapping[str, Any]
    place: str


def read_labels(root: Path) -> tuple[dict[str, Labels], Labels]:
    """Labels by the path of their video inside `root`, and what `info.json` says of all of them.

    Label files may lie in `root` and in its sub-folders; file names in them are relative to the label file's folder.
    Raises DataError naming file and line for what cannot be read, a row without a file name, and a video that comes
    twice with the same label.
    """
    found: dict[str, Labels] = {}
    for path in label_files(root):
        if path.name == INFO:
            continue
        folder = PurePosixPath(path.parent.relative_to(root).as_posix())
        for name, labels in _rows(path, root):
            key = _inside(folder, name, labels.place)
            other = found.get(key)
            twice = sorted(set(labels.values) & set(other.values)) if other else []
            if other is not None and (twice or other.place.split(",")[0] == labels.place.split(",")[0]):
                raise DataError(f"{labels.place}: {name} comes a second time, expected it only in {other.place}")
            found[key] = labels if other is None else Labels({**other.values, **labels.values}, labels.place)
    return found, read_info(root / INFO)


def label_files(root: Path) -> list[Path]:
    """The files that `read_labels` reads, by path, hidden ones left out."""
    found = [path for name in (*ROWS, FRAMES) for path in root.rglob(name)]
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    return sorted(path for path in [*shown, root / INFO] if path.is_file())


def _inside(folder: PurePosixPath, name: str, place: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{place}: {FILE} is {name!r}, expected a path inside the folder")
    return str(folder / path)


def read_info(path: Path) -> Labels:
    """What an `info.json` says of a whole data set; nothing where there is no such file."""
    if not path.is_file():
        return Labels({}, str(path))
    value = _json(_read(path), str(path))
    if not isinstance(value, dict):
        raise DataError(f"{path}: found {type(value).__name__}, expected an object")
    return Labels(fields(value, str(path)), str(path))


def _rows(path: Path, root: Path) -> Iterator[tuple[str, Labels]]:
    if path.suffix == ".jsonl":
        rows = _json_lines(path)
    elif path.suffix == ".csv":
        rows = _csv_lines(path)
    else:
        table = read_parquet(path)
        if FRAME in table.column_names:
            yield from _frame_rows(path, table)
            return
        if path.name == FRAMES:
            raise DataError(f"{path}: no column {FRAME!r}, found {', '.join(table.column_names)}")
        rows = ((row, f"{path}, row {k}") for k, row in enumerate(table.to_pylist()))
    for row, place in rows:
        name = row.get(FILE)
        if not isinstance(name, str) or not name:
            raise DataError(f"{place}: {FILE} is {name!r}, expected the path of a video")
        yield name, Labels(fields(row, place), place)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from error


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error})") from error


def _json_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        row = _json(line, place)
        if not isinstance(row, dict):
            raise DataError(f"{place}: found {type(row).__name__}, expected an object")
        yield row, place


def _csv_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    reader = csv.DictReader(_read(path).splitlines(), strict=True)
    try:
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    f"{place}: another number of cells than the header, expected {len(row) - (None in row)}"
                )
            yield {column: _cell(column, cell, place) for column, cell in row.items()}, place
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _cell(column: str, cell: str, place: str) -> Any:
    field = field_of(column)
    if field is None or field in _WORDS:
        return cell or (None if field else cell)
    return _json(cell, f"{place}: {column}") if cell.strip() else None


def read_parquet(path: Path, columns: list[str] | None = None) -> Any:
    """A parquet file as a pyarrow table, without columns of bytes. Raises DataError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            kept = (
                [
                    name
                    for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)
                    if "binary" not in str(kind)
                ]
                if columns is None
                else columns
            )
            table = file.read(columns=kept)
            table.validate(full=True)
            return table
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _frame_rows(path: Path, table: Any) -> Iterator[tuple[str, Labels]]:
    """Rows of single frames, put together per video; every video needs its frames 0 to T-1 (or T-2), each once."""
    if FILE not in table.column_names:
        raise DataError(f"{path}: no column {FILE!r}, found {', '.join(table.column_names)}")
    if (
        table.column(FILE).null_count
        or table.column(FRAME).null_count
        or str(table.schema.field(FILE).type)
        not in ("string", "large_string", "dictionary<values=string, indices=int32, ordered=0>")
    ):
        raise DataError(f"{path}: null or a wrong type in {FILE!r} or {FRAME!r}, expected strings and whole numbers")
    names = np.array(table.column(FILE).to_pylist(), dtype=object)
    frame = np.asarray(table.column(FRAME).to_numpy())
    if frame.dtype.kind not in "iu":
        raise DataError(f"{path}: {FRAME} is {frame.dtype}, expected whole numbers")
    columns = _frame_columns(path, table)
    order = np.lexsort((frame, names.astype(str)))
    starts = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    for rows in np.split(order, starts) if len(names) else []:
        name = str(names[rows[0]])
        wrong = np.flatnonzero(frame[rows] != np.arange(len(rows)))
        if len(wrong):
            k = int(wrong[0])
            raise DataError(f"{path}: frame {int(frame[rows[k]])} of {name}, expected frame {k}, each from 0 once")
        values = {
            field: _of_video(field, column, rows, f"{path}: {field} of {name}") for field, column in columns.items()
        }
        yield name, Labels({f: v for f, v in values.items() if v is not None}, f"{path}, {name}")


def _frame_columns(path: Path, table: Any) -> dict[str, Any]:
    """Columns by field: one of lists, or several called `action.x`, `action.y`, which then name the dimensions."""
    found: dict[str, Any] = {}
    parts: dict[str, dict[str, list[Any]]] = {}
    for column in table.column_names:
        stem, _, part = column.partition(".")
        field = field_of(column)
        if field is not None:
            if field in found:
                raise DataError(
                    f"{path}: {field!r} is given in two columns, expected one of {', '.join(FIELDS[field])}"
                )
            found[field] = table.column(column).to_pylist()
        elif part and (field := field_of(stem)) is not None:
            parts.setdefault(field, {})[part] = table.column(column).to_pylist()
    for field, columns in parts.items():
        if field in found:
            raise DataError(f"{path}: both {field!r} and {field}.{next(iter(columns))} are given, expected one of them")
        found[field] = [list(row) for row in zip(*columns.values(), strict=True)]
        if field in ("action", "state"):
            found[f"{field}_names"] = [list(columns)] * len(found[field])
    return found


def _of_video(field: str, column: list[Any], rows: np.ndarray, place: str) -> Any:
    """A video's labels of one field: a list with one entry per frame, or the one value that holds for all of it."""
    picked = [column[k] for k in rows]
    if field not in ("text", "labeller", "seed", "fps", "action_names", "state_names"):
        return None if all(value is None for value in picked) else picked
    given = [value for value in picked if value is not None]
    other = next((value for value in given if value != given[0]), None)
    if other is not None:
        raise DataError(f"{place}: {given[0]!r} and {other!r}, expected one value for all of its frames")
    return given[0] if given else None
