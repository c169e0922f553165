"""What the rows of a Hugging Face `datasets` stream hold: which columns are videos and which are labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from jepa_actions.data.sources.row_labels import field_of, fields
from jepa_actions.data.sources.tars import camera_of
from jepa_actions.errors import DataError


def load_stream(source: Any, split: str) -> tuple[str, Any]:
    """Name and stream of a folder, a Hub id or an `IterableDataset`. Raises DataError."""
    import datasets

    if isinstance(source, datasets.IterableDataset):
        return str(source.info.dataset_name or "stream"), source
    if not isinstance(source, str | Path):
        raise DataError(f"{type(source).__name__} given, expected a folder, a Hub id or a datasets.IterableDataset")
    try:
        name = Path(source).resolve().name if Path(source).exists() else str(source)
        return name, datasets.load_dataset(str(source), split=split, streaming=True)
    except Exception as error:  # whatever file system, Hub client and builder of `datasets` raise
        raise DataError(f"{source}: datasets cannot stream its split {split!r} ({_line(error)})") from error


def undecoded(data: Any, videos: Iterable[str], labels: Sequence[str]) -> Any:
    """The stream with these columns alone, videos as they are stored."""
    import datasets

    for name in videos:
        if data.features and isinstance(data.features[name], datasets.Video):
            data = data.cast_column(name, datasets.Video(decode=False))
    return data.select_columns([*videos, *labels])


def examples(data: Any, place: str) -> Iterator[dict[str, Any]]:
    """The rows of a stream. Raises DataError naming the row that cannot be read."""
    rows = iter(data)
    for row in count():
        try:
            example = next(rows)
        except StopIteration:
            return
        except Exception as error:  # whatever file system, Hub client and reader of `datasets` raise
            raise DataError(f"{place}, row {row}: cannot be read ({_line(error)})") from error
        yield example


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def is_video(name: str, features: Mapping[str, Any] | None, first: Mapping[str, Any] | None) -> bool:
    """Whether a column holds videos, by its type, or where a stream has none, by its first row."""
    import datasets

    if features:
        kind = features[name]
        if isinstance(kind, Mapping):
            kind = kind.get("bytes")
        binary = isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")
        return isinstance(kind, datasets.Video) or (binary and not name.startswith("__"))
    value = (first or {}).get(name)
    value = value.get("bytes") if isinstance(value, Mapping) else value
    return isinstance(value, bytes) and (camera_of(name) is not None or "." not in name)


def label_name(column: str) -> str | None:
    """What a column of labels is called in a row; `json` holds several."""
    if column == "json":
        return column
    if column == "txt":
        return "text"
    stem, _, suffix = column.rpartition(".")
    if suffix == "npy":
        return (stem or "action") if field_of(stem or "action") else None
    return column if field_of(column) else None


def example_labels(example: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Labels by field of a row; a WebDataset has some in its `json` and `npy`. Raises DataError."""
    row: dict[str, Any] = {}
    for column, value in example.items():
        name = label_name(column)
        if name is None or value is None:
            continue
        if name == "json" and not isinstance(value, Mapping):
            raise DataError(f"{place}, json: found {type(value).__name__}, expected an object")
        for label, found in fields(value if name == "json" else {name: value}, place).items():
            if label in row:
                raise DataError(f"{place}, {column}: {label!r} comes a second time, expected it once")
            row[label] = found
    return row


def download(path: str, place: str) -> bytes:
    """The bytes of a file that a row points at. Raises DataError."""
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # whatever file system and Hub client raise
        raise DataError(f"{place}: {path} cannot be read ({_line(error)})") from error
