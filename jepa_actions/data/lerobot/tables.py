"""The parquet files of a LeRobot data set: read whole with their page checksums, or the footer alone, and columns as
arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from jepa_actions.data.lerobot.meta import listed
from jepa_actions.errors import DataError

THREADED = 100_000  # rows from which reading in several threads is worth their start
LARGEST = 1 << 53  # whole numbers beyond are damage, and not exact as a float


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what arrow raises for a damaged file into a DataError naming it."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: cannot be read as parquet ({reason})") from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A pyarrow ParquetFile. Raises DataError where the file is not parquet, also while it is being read."""
    import pyarrow.parquet as parquet

    with readable(path), parquet.ParquetFile(path, page_checksum_verification=True) as file:
        yield file


def read_table(
    path: Path, columns: Sequence[str] | None = None, optional: Sequence[str] = (), *, most: int | None = None
) -> Any:
    """A pyarrow table of `columns` (default all) and of those of `optional` that there are.

    Raises DataError where the file is not parquet, lacks a column, or has more than `most` rows.
    """
    with opened(path) as file:
        if columns is not None:
            columns = [*columns, *(column for column in optional if column in file.schema_arrow.names)]
        _check_columns(path, file, columns or ())
        if most is not None and _rows(file) > most:
            raise DataError(f"{path}: {_rows(file)} rows, expected at most {most}")
        many = _rows(file) > THREADED
        return file.read(columns=None if columns is None else list(columns), use_threads=many)


def _check_columns(path: Path, file: Any, columns: Sequence[str]) -> None:
    names = file.schema_arrow.names
    for column in columns:
        if names.count(column) != 1:
            found = f"{names.count(column)} columns" if column in names else "no column"
            raise DataError(f"{path}: {found} {column!r}, found {listed(names[:12])}")


def _rows(file: Any) -> int:
    """The footer counts rows twice; damage to one count shows in the other."""
    counts = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
    return int(max(file.metadata.num_rows, sum(counts)))


@dataclass(frozen=True)
class FileStamp:
    """Row count and column types of a data file, from its footer alone."""

    rows: int
    types: dict[str, Any]


def read_stamp(path: Path) -> FileStamp:
    """The footer of a data file."""
    with opened(path) as file:
        return FileStamp(_rows(file), {field.name: field.type for field in file.schema_arrow})


def is_list(kind: Any) -> bool:
    """Whether an arrow type is a list of any sort."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def check_numbers(path: Path, column: str, kind: Any) -> None:
    """Raise DataError unless an arrow type is a number, a truth value, or a list of them."""
    from pyarrow import types

    inner = kind.value_type if is_list(kind) else kind
    if not (types.is_floating(inner) or types.is_integer(inner) or types.is_boolean(inner)):
        raise DataError(f"{path}: column {column!r} has type {kind}, expected numbers")


def column_rows(
    path: Path, table: Any, column: str, size: int, kind: type = np.float32
) -> Float32[np.ndarray, "n size"] | Float64[np.ndarray, "n size"]:
    """A column of numbers, or of lists of `size` numbers, as rows."""
    with readable(path), np.errstate(over="ignore"):  # a number too large becomes infinite, which is refused where used
        return _rows_of(path, table[column].combine_chunks(), column, size, kind)


def _rows_of(path: Path, values: Any, column: str, size: int, kind: type) -> np.ndarray:
    check_numbers(path, column, values.type)
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{path}: column {column!r} is empty in row {row}, expected {size} numbers")
    if is_list(values.type):
        flat = values.flatten()
        sizes = np.asarray(values.value_lengths().to_numpy(zero_copy_only=False))
    else:
        flat, sizes = values, np.ones(len(values), dtype=np.int64)
    if (sizes != size).any():
        row = int(np.flatnonzero(sizes != size)[0])
        raise DataError(
            f"{path}: column {column!r} has {int(sizes[row])} numbers in row {row}, expected {size} as in info.json"
        )
    numbers: np.ndarray = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=kind)
    return numbers.reshape(len(values), size)


def real_numbers(path: Path, table: Any, column: str) -> Float64[np.ndarray, "n"]:
    """A column of finite numbers, one a row; a list of one number counts. Raises DataError naming the row."""
    values = column_rows(path, table, column, 1, np.float64)[:, 0]
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"{path}: column {column!r} has {values[bad[0]]} in row {bad[0]}, expected a finite number")
    return values


def whole_numbers(path: Path, table: Any, column: str) -> Int64[np.ndarray, "n"]:
    """A column of whole numbers, one a row, also where they are stored as floats. Raises DataError naming the row."""
    values = real_numbers(path, table, column)
    bad = np.flatnonzero((values != np.floor(values)) | (np.abs(values) > LARGEST))
    if len(bad):
        raise DataError(f"{path}: column {column!r} has {values[bad[0]]} in row {bad[0]}, expected a whole number")
    return values.astype(np.int64)


def texts(path: Path, table: Any, column: str) -> list[str | None]:
    """A column of text, `None` where it is empty. Raises DataError where it is something else."""
    import pyarrow

    kind = table[column].type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_null(kind)):
        raise DataError(f"{path}: column {column!r} has type {kind}, expected text")
    with readable(path):
        return list(table[column].to_pylist())
