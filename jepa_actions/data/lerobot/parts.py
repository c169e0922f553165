"""What a writer has finished so far: a folder per episode, from which the data set is put together at the end, also
after the writer was killed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jepa_actions.data.lerobot.columns import Columns, Feature
from jepa_actions.data.lerobot.stats import Stats
from jepa_actions.data.lerobot.video_writer import Codec
from jepa_actions.errors import DataError

Version = Literal["v3.0", "v2.1"]
WORK = ".unfinished"


@dataclass(frozen=True)
class Settings:
    """How a data set is written. `cameras` maps feature names to (H, W)."""

    fps: float
    cameras: dict[str, tuple[int, int]]
    robot_type: str | None = None
    version: Version = "v3.0"
    codec: Codec = "h264"
    gop: int = 2
    crf: int | None = None
    data_mb: float = 100
    video_mb: float = 200
    chunk_files: int = 1000

    @property
    def rate(self) -> int | float:
        """fps, whole where it is."""
        return int(self.fps) if float(self.fps).is_integer() else float(self.fps)


@dataclass(frozen=True)
class Part:
    """One finished episode."""

    folder: Path
    length: int
    text: str
    seed: int | None
    features: dict[str, Feature]
    video_bytes: dict[str, int] = field(default_factory=dict)

    def video(self, camera: str) -> Path:
        """Its video, until that is joined to others."""
        return self.folder / f"{camera}.mp4"

    def columns(self) -> Columns:
        """Its rows."""
        import pyarrow.parquet as parquet

        table = parquet.read_table(self.folder / "rows.parquet")
        return {name: as_rows(table[name].combine_chunks(), self.features[name]) for name in table.column_names}

    def stats(self) -> dict[str, Stats]:
        """Its statistics by feature."""
        stats = json.loads((self.folder / "stats.json").read_text(encoding="utf-8"))
        return {name: {key: np.asarray(value) for key, value in entry.items()} for name, entry in stats.items()}


def as_column(rows: np.ndarray) -> Any:
    """Rows of numbers as an arrow array: plain for (T,), lists of a fixed size for (T, n)."""
    import pyarrow as pa

    if rows.ndim == 1:
        return pa.array(rows)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def as_rows(column: Any, spec: Feature) -> np.ndarray:
    """The reverse of `as_column`."""
    width = spec["shape"][0]
    flat = column.flatten() if width > 1 else column
    rows = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=spec["dtype"])
    return rows.reshape(-1, width) if width > 1 else rows


def write_table(columns: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """A parquet file with a checksum per page; it appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(columns), metadata=None if metadata is None else dict(metadata))
    work = path.with_name(f".{path.name}.partial")
    try:
        parquet.write_table(table, work, write_page_checksum=True)
        os.replace(work, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_text(path: Path, text: str) -> None:
    """A text file; it appears whole or not at all."""
    work = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write_text(text, encoding="utf-8")
        os.replace(work, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_settings(root: Path, settings: Settings) -> None:
    """Remember how the data set is to be written."""
    write_text(root / WORK / "settings.json", json.dumps(asdict(settings)))
    (root / "meta").mkdir(exist_ok=True)  # so that nobody takes what is there for a folder of videos


def open_folder(root: Path, number: int) -> Path:
    """Where episode `number` is written until it is finished."""
    return root / WORK / f"open-{number:06d}"


def keep(root: Path, number: int, part: Part, columns: Columns, stats: Mapping[str, Stats]) -> Part:
    """Finish the episode in `open_folder(root, number)`: from here on it is kept, whatever happens."""
    write_table({name: as_column(rows) for name, rows in columns.items()}, part.folder / "rows.parquet")
    lists = {name: {key: value.tolist() for key, value in entry.items()} for name, entry in stats.items()}
    write_text(part.folder / "stats.json", json.dumps(lists))
    sizes = {path.stem: path.stat().st_size for path in sorted(part.folder.glob("*.mp4"))}
    record = {"length": part.length, "text": part.text, "seed": part.seed, "features": part.features}
    record |= {"video_bytes": sizes}
    write_text(part.folder / "record.json", json.dumps(record))
    kept = root / WORK / f"episode-{number:06d}"
    os.replace(part.folder, kept)
    return Part(kept, part.length, part.text, part.seed, part.features, sizes)


def read_parts(root: Path) -> tuple[Settings, list[Part]]:
    """What a writer left in `root`: its settings and the finished episodes in their order."""
    path = root / WORK / "settings.json"
    if not path.is_file():
        raise DataError(f"{root}: no unfinished recording in it, expected {WORK}/settings.json")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["cameras"] = {name: tuple(size) for name, size in raw["cameras"].items()}
        settings = Settings(**raw)
        folders = sorted(f for f in (root / WORK).iterdir() if re.fullmatch(r"episode-\d{6,}", f.name))
        parts = []
        for folder in sorted(folders, key=lambda f: int(f.name.removeprefix("episode-"))):
            parts.append(Part(folder, **json.loads((folder / "record.json").read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{root / WORK}: what an unfinished recording left is damaged ({error})") from error
    return settings, parts


def drop_open(folder: Path) -> None:
    """Remove an episode that was not finished."""
    shutil.rmtree(folder, ignore_errors=True)


def drop_work(root: Path) -> None:
    """Remove what was kept until the end."""
    shutil.rmtree(root / WORK, ignore_errors=True)
