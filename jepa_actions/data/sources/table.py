"""Parquet files with videos in their cells, one row per episode, as Hugging Face `datasets` writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jepa_actions.data.sources.folder import file_hash
from jepa_actions.data.sources.folder_labels import FRAMES, ROWS, Labels, read_info, read_parquet
from jepa_actions.data.sources.labelled_videos import LabelledVideos
from jepa_actions.data.sources.row_labels import field_of, fields
from jepa_actions.data.sources.spool import CAPACITY, Spool, SpooledVideo
from jepa_actions.errors import DataError


def parquet_files(root: str | Path) -> list[Path]:
    """The parquet files in a folder and its sub-folders, by path, or the file itself; labels of a video folder and
    hidden files are left out."""
    root = Path(root)
    if root.is_file():
        return [root] if root.suffix == ".parquet" else []
    found = [path for path in root.rglob("*.parquet") if path.is_file() and path.name not in (*ROWS, FRAMES)]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def looks_like_table(path: str | Path) -> bool:
    """Whether `TableVideos` is meant for what is at this path."""
    return not (Path(path) / "meta").is_dir() and bool(parquet_files(path))


class TableVideos(LabelledVideos):
    """The rows of the parquet files in `root` as episodes: columns of video bytes are cameras, others are labels.

    Videos are columns of `datasets`' type `Video`, or of bytes, or of structs with `bytes`; `cameras` picks columns,
    `image_size` (H, W) resizes on decode without keeping the aspect. Labels are called as in `row_labels`: `action`
    (nested lists, T or T-1 rows), `state`, `reward`, `text`, ...; names of dimensions may be in an `info.json` beside
    the files. `split` ("train") keeps the files that `datasets` names so. Every video is indexed once, at the start; a
    video is copied to a temporary folder while it is in use, of at most `capacity` bytes.

    Raises DataError naming file and row: what cannot be read, no column of videos, a cell without bytes, labels that do
    not fit.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        split: str | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        place = Path(root)
        folder = place.parent if place.is_file() else place
        paths = [path for path in parquet_files(place) if split is None or _split(path, folder) == split]
        if not paths:
            of = "" if split is None else f" of split {split!r}"
            raise DataError(f"{root}: no parquet file{of}, expected one with a column of videos")
        chosen = _cameras(paths, cameras)
        spool = Spool(capacity)
        rows: list[Labels] = []
        videos: dict[str, list[SpooledVideo]] = {camera: [] for camera in chosen}
        for path in paths:
            rows += _labels(path)
            for camera, structs in chosen.items():
                for part in _cells(path, camera, structs):
                    key = len(videos[camera]) * len(chosen) + list(chosen).index(camera)
                    videos[camera].append(SpooledVideo(spool, key, part, image_size=image_size))
        if not rows:
            raise DataError(f"{root}: {len(paths)} parquet files without a row, expected at least one episode")
        info = folder / "info.json"
        used = [*paths, info] if info.is_file() else paths
        content = partial(hashes, folder, used)
        super().__init__(place.resolve().stem, str(root), videos, rows, read_info(info), content)


def hashes(folder: Path, paths: Sequence[Path]) -> list[Any]:
    """Names and contents of files, for a fingerprint."""
    return [[path.relative_to(folder).as_posix(), file_hash(path)] for path in paths]


def _split(path: Path, root: Path) -> str:
    """The split that `datasets` sees in `train-00000-of-00001.parquet`, `train.parquet` or `train/0.parquet`."""
    parts = path.relative_to(root).parts
    folders = [part for part in parts[:-1] if part != "data"]
    return folders[0] if folders else path.stem.split("-")[0]


def video_columns(schema: Any) -> dict[str, bool]:
    """The columns of videos in an Arrow schema, and whether each is of structs; what `datasets` says of them counts."""
    import pyarrow as pa

    try:
        known = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        types = {name: feature.get("_type") for name, feature in known.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        types = {}  # not written by `datasets`
    found = {}
    for field in schema:
        if types.get(field.name, "Video") not in ("Video", "Value"):
            continue
        if pa.types.is_struct(field.type):
            inner = {part.name: part.type for part in field.type}
            if "bytes" in inner and _is_bytes(inner["bytes"]):
                found[field.name] = True
        elif _is_bytes(field.type):
            found[field.name] = False
    return found


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _schema(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({_line(error)})") from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cameras(paths: Sequence[Path], cameras: Sequence[str] | None) -> dict[str, bool]:
    """The columns of videos that were asked for, or all, which every file must have."""
    first = video_columns(_schema(paths[0]))
    for camera in cameras or ():
        if camera not in first:
            raise DataError(
                f"{paths[0]}: no camera {camera!r}, expected {', '.join(first) or 'a column of video bytes'}"
            )
    if not first:
        names = ", ".join(_schema(paths[0]).names)
        raise DataError(f"{paths[0]}: no column of video bytes, found {names}")
    chosen = {camera: first[camera] for camera in cameras or first}
    for path in paths[1:]:
        found = video_columns(_schema(path))
        for camera, structs in chosen.items():
            if found.get(camera) is not structs:
                raise DataError(
                    f"{path}: no column of videos {camera!r} as in {paths[0].name}, found {', '.join(found)}"
                )
    return chosen


def _labels(path: Path) -> list[Labels]:
    columns = [name for name in _schema(path).names if field_of(name) is not None]
    table = read_parquet(path, columns)
    rows = table.to_pylist() if columns else [{}] * table.num_rows
    return [Labels(fields(row, f"{path}, row {k}"), f"{path}, row {k}") for k, row in enumerate(rows)]


def _cells(path: Path, column: str, structs: bool) -> Iterator[_Cell]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({_line(error)})") from error
    first = 0
    for group, count in enumerate(counts):
        reader = _GroupReader(path, group, count, column, structs)
        for row in range(count):
            yield _Cell(reader, row, first + row)
        first += count


class _Cell:
    """One video of a parquet file; see `spool.Part`."""

    def __init__(self, reader: _GroupReader, row: int, number: int) -> None:
        self._reader, self._row, self._number = reader, row, number

    @property
    def place(self) -> str:
        return f"{self._reader.path}, row {self._number}, {self._reader.column}"

    def read(self) -> Any:
        return self._reader.read(self._row, self.place)


class _GroupReader:
    """The cells of one column in one row group; reading them in order reads the file once. Not for two threads."""

    def __init__(self, path: Path, group: int, count: int, column: str, structs: bool) -> None:
        self.path, self.column = path, column
        self._group, self._count, self._structs = group, count, structs
        self._cells: Iterator[Any] | None = None
        self._next, self._pid = 0, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cells": None}

    def read(self, row: int, place: str) -> Any:
        """The bytes of a cell, as an Arrow buffer."""
        import pyarrow as pa

        try:
            if self._cells is None or row < self._next or self._pid != os.getpid():
                self._cells, self._next, self._pid = self._open(), 0, os.getpid()
            cell: Any = None
            while self._next <= row:
                cell = next(self._cells, None)
                self._next += 1
            if self._next == self._count:
                self._cells = None  # closes the file
        except (pa.ArrowException, OSError) as error:
            self._cells = None
            raise DataError(f"{place}: cannot be read as parquet ({_line(error)})") from error
        if cell is None:
            raise DataError(f"{place}: holds no bytes, expected those of a video")
        return cell

    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        columns = [f"{self.column}.bytes" if self._structs else self.column]
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=1, row_groups=[self._group], columns=columns, use_threads=False):
                cell = batch.column(0).field("bytes")[0] if self._structs else batch.column(0)[0]
                yield cell.as_buffer() if cell.is_valid else None
