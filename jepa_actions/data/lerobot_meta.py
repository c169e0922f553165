"""What a LeRobot v3.0 folder says about itself: `meta/info.json`, the table of episodes, the tasks; and its parquet
columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jepa_actions.errors import DataError

VERSION = "v3.0"
KINDS: dict[str, tuple[type, ...]] = {
    "fps": (int, float),
    "total_episodes": (int,),
    "features": (dict,),
    "data_path": (str,),
    "video_path": (str, type(None)),
}


@dataclass(frozen=True)
class Info:
    """`meta/info.json`, the fields this library reads."""

    path: Path
    fps: float
    total_episodes: int
    features: dict[str, dict[str, Any]]
    data_path: str
    video_path: str | None

    @property
    def video_features(self) -> tuple[str, ...]:
        return tuple(key for key, feature in self.features.items() if feature.get("dtype") == "video")

    def size(self, camera: str) -> tuple[int, int]:
        """(H, W) that a camera's feature states."""
        feature = self.features[camera]
        names, shape = feature.get("names") or ["height", "width", "channels"], feature.get("shape")
        if not isinstance(shape, list) or len(shape) != len(names) or not {"height", "width"} <= set(names):
            raise DataError(
                f"{self.path}: feature {camera!r} has shape {shape} named {names}, expected height, width, channels"
            )
        return int(shape[names.index("height")]), int(shape[names.index("width")])

    def names(self, feature: str) -> tuple[str, ...] | None:
        """Names of a feature's dimensions, numbered where it gives none; `None` where there is no such feature."""
        if feature not in self.features:
            return None
        names, shape = self.features[feature].get("names"), self.features[feature].get("shape")
        if not isinstance(shape, (list, tuple)) or len(shape) != 1:
            raise DataError(f"{self.path}: feature {feature!r} has shape {shape}, expected one dimension")
        if isinstance(names, dict):  # LeRobot also writes {"motors": [...]}
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
        if not isinstance(names, list) or len(names) != shape[0]:
            names = [f"{feature}_{k}" for k in range(shape[0])]
        return tuple(str(name) for name in names)


def required(path: Path, what: str) -> Path:
    """`path`, or DataError saying which file of the data set is missing."""
    if not path.is_file():
        raise DataError(f"{path}: missing, expected the {what} of a LeRobot {VERSION} data set")
    return path


def read_info(root: Path) -> Info:
    """Read and check `meta/info.json`."""
    path = required(root / "meta" / "info.json", "description")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(raw, dict) or raw.get("codebase_version") != VERSION:
        found = raw.get("codebase_version") if isinstance(raw, dict) else None
        raise DataError(
            f"{path}: codebase_version is {found!r}, expected {VERSION!r}; LeRobot has a converter for older ones"
        )
    for key, kinds in KINDS.items():
        if not isinstance(raw.get(key), kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{path}: {key} is {raw.get(key)!r}, expected {wanted}")
    if not raw["fps"] > 0:
        raise DataError(f"{path}: fps is {raw['fps']}, expected a positive number")
    wrong = [key for key, feature in raw["features"].items() if not isinstance(feature, dict)]
    if wrong:
        raise DataError(f"{path}: feature {wrong[0]!r} is {raw['features'][wrong[0]]!r}, expected dtype, shape, names")
    return Info(path, float(raw["fps"]), raw["total_episodes"], raw["features"], raw["data_path"], raw["video_path"])


def read_table(path: Path, columns: list[str] | None = None) -> Any:
    """A pyarrow table. Raises DataError where the file is not parquet or lacks a column."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if missing:
                raise DataError(f"{path}: no column {missing[0]!r}, found {', '.join(file.schema_arrow.names[:12])}")
            return file.read(columns=columns)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


@dataclass(frozen=True)
class FileStamp:
    """Row count and column types of a data file, from its footer alone."""

    rows: int
    types: dict[str, Any]


def read_stamp(path: Path) -> FileStamp:
    """The footer of a data file."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            return FileStamp(file.metadata.num_rows, {field.name: field.type for field in file.schema_arrow})
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


def check_numbers(path: Path, column: str, kind: Any) -> None:
    """Raise DataError unless an arrow type is a number, a truth value, or a list of them."""
    from pyarrow import types

    inner = (
        kind.value_type if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) else kind
    )
    if not (types.is_floating(inner) or types.is_integer(inner) or types.is_boolean(inner)):
        raise DataError(f"{path}: column {column!r} has type {kind}, expected numbers")


def column_rows(path: Path, table: Any, column: str, size: int) -> Float32[np.ndarray, "n size"]:
    """A column of numbers, or of lists of `size` numbers, as rows."""
    from pyarrow import types

    values = table[column].combine_chunks()
    check_numbers(path, column, values.type)
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{path}: column {column!r} is empty in row {row}, expected {size} numbers")
    if types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type):
        flat = values.flatten()
        sizes = np.asarray(values.value_lengths().to_numpy(zero_copy_only=False))
    else:
        flat, sizes = values, np.ones(len(values), dtype=np.int64)
    if (sizes != size).any():
        row = int(np.flatnonzero(sizes != size)[0])
        raise DataError(
            f"{path}: column {column!r} has {int(sizes[row])} numbers in row {row}, expected {size} as in info.json"
        )
    numbers = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32)
    return numbers.reshape(len(values), size)


def read_episodes(root: Path, cameras: tuple[str, ...], total: int) -> dict[str, np.ndarray]:
    """The columns of `meta/episodes` that place an episode's rows and frames, ordered by episode."""
    places = ["data/chunk_index", "data/file_index"]
    for camera in cameras:
        places += [f"videos/{camera}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    columns = ["episode_index", "length", *places]
    folder = root / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/file-*.parquet"))
    if not files:
        required(folder / "chunk-000" / "file-000.parquet", "table of episodes")
    parts: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    for path in files:
        table = read_table(path, columns)
        for column in columns:
            if table[column].null_count:
                raise DataError(f"{path}: column {column!r} has empty rows, expected a number for every episode")
            check_numbers(path, column, table[column].type)
            parts[column].append(table[column].to_numpy())
    joined = {column: np.concatenate(values) for column, values in parts.items()}
    order = np.argsort(joined["episode_index"], kind="stable")
    episodes = {column: values[order] for column, values in joined.items()}
    found = len(np.unique(episodes["episode_index"]))
    if len(order) != total or found != total or total < 1 or (episodes["length"] < 1).any():
        raise DataError(
            f"{folder}: {len(order)} rows of {found} episodes, expected info.json's total_episodes, {total}, each once "
            f"with length >= 1"
        )
    return episodes


def read_tasks(root: Path) -> dict[int, str]:
    """Task text by task index."""
    path = required(root / "meta" / "tasks.parquet", "table of tasks")
    table = read_table(path)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise DataError(f"{path}: columns {', '.join(table.column_names)}, expected task_index and the text")
    return {int(k): str(v) for k, v in zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True)}
