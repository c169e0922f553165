"""Finished episodes put together as a LeRobot v3.0 data set: many to a parquet file and to a video file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jepa_actions.data.lerobot.columns import INDEX, Columns, Feature, feature, filler
from jepa_actions.data.lerobot.parts import Part, Settings, as_column, write_table, write_text
from jepa_actions.data.lerobot.stats import Stats, aggregate, column_stats
from jepa_actions.data.lerobot.video_writer import join
from jepa_actions.errors import DataError

MIB = 2**20
NUMBERED = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{NUMBERED}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{NUMBERED}.mp4"
EPISODES_PATH = f"meta/episodes/{NUMBERED}.parquet"


@dataclass(frozen=True)
class VideoPlan:
    """One video file: episodes `[first, stop)`."""

    chunk: int
    file: int
    first: int
    stop: int


def plan_videos(parts: Sequence[Part], camera: str, settings: Settings, final: bool) -> list[VideoPlan]:
    """Which episodes share a video file, in order; without `final` only files that no further episode comes into."""
    bounds, size = [0], 0
    for k, part in enumerate(parts):
        mine = part.video_bytes[camera]
        if k > bounds[-1] and size + mine >= settings.video_mb * MIB:
            bounds.append(k)
            size = 0
        size += mine
    if final:
        bounds.append(len(parts))
    return [
        VideoPlan(*divmod(k, settings.chunk_files), first, stop) for k, (first, stop) in enumerate(pairwise(bounds))
    ]


def write_videos(root: Path, parts: Sequence[Part], settings: Settings, *, final: bool) -> None:
    """Join the videos of every full file (with `final` of all) and drop what was joined. May be called again."""
    for camera in settings.cameras:
        for plan in plan_videos(parts, camera, settings, final):
            target = root / VIDEO_PATH.format(video_key=camera, chunk_index=plan.chunk, file_index=plan.file)
            sources = [part.video(camera) for part in parts[plan.first : plan.stop]]
            if target.exists():
                continue
            join(sources, target, settings.fps, {"camera": camera, "chunk": plan.chunk, "file": plan.file})
            for source in sources:
                source.unlink()


def write_v30(root: Path, parts: Sequence[Part], settings: Settings, features: dict[str, Feature]) -> dict[str, Any]:
    """Write everything but `meta/info.json`, and return that."""
    write_videos(root, parts, settings, final=True)
    tasks = number_tasks(parts)
    rows = _write_data(root, parts, settings, features, tasks)
    for camera in settings.cameras:
        for plan in plan_videos(parts, camera, settings, final=True):
            start = 0
            for row, part in zip(rows[plan.first : plan.stop], parts[plan.first : plan.stop], strict=True):
                row[f"videos/{camera}/chunk_index"], row[f"videos/{camera}/file_index"] = plan.chunk, plan.file
                row[f"videos/{camera}/from_timestamp"] = start / settings.fps
                start += part.length
                row[f"videos/{camera}/to_timestamp"] = start / settings.fps
    _write_episodes(root, rows, settings)
    _write_tasks(root, tasks)
    return describe(settings, parts, features, len(tasks)) | {
        "data_files_size_in_mb": settings.data_mb,
        "video_files_size_in_mb": settings.video_mb,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
    }


def number_tasks(parts: Sequence[Part]) -> dict[str, int]:
    """Task texts in the order they first come."""
    return {text: k for k, text in enumerate(dict.fromkeys(part.text for part in parts))}


def describe(settings: Settings, parts: Sequence[Part], features: dict[str, Feature], tasks: int) -> dict[str, Any]:
    """What `meta/info.json` says in every version."""
    return {
        "codebase_version": settings.version,
        "robot_type": settings.robot_type,
        "total_episodes": len(parts),
        "total_frames": sum(part.length for part in parts),
        "total_tasks": tasks,
        "chunks_size": settings.chunk_files,
        "fps": settings.rate,
        "splits": {"train": f"0:{len(parts)}"},
        "video_labels": True,  # other software that renumbers our videos drops this key, and keeps the labels
        "features": {camera: video_feature(camera, settings) for camera in settings.cameras}
        | features
        | index_features(),
    }


def video_feature(camera: str, settings: Settings) -> Feature:
    """The feature of a camera."""
    height, width = settings.cameras[camera]
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": settings.codec,
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": settings.rate,
        "video.channels": 3,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": info}


def index_features() -> dict[str, Feature]:
    """The features that every LeRobot data set has."""
    return {name: feature(dtype, 1) for name, dtype in INDEX.items()}


def episode_columns(
    part: Part, number: int, start: int, task: int, settings: Settings, features: dict[str, Feature]
) -> tuple[Columns, dict[str, Stats]]:
    """All columns of an episode whose first row is row `start` of the data set, and their statistics."""
    frame = np.arange(part.length)
    own, stats = part.columns(), part.stats()
    columns = {name: own[name] if name in own else filler(spec, part.length) for name, spec in features.items()}
    nothing = np.zeros(part.length, dtype=bool)
    stats |= {name: column_stats(columns[name], nothing) for name in features if name not in own}
    index: Columns = {
        "timestamp": (frame / settings.fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(part.length, number),
        "index": start + frame,
        "task_index": np.full(part.length, task),
    }
    return columns | index, stats | {name: column_stats(rows) for name, rows in index.items()}


def each_episode(
    parts: Sequence[Part], settings: Settings, features: dict[str, Feature], tasks: dict[str, int]
) -> Iterator[tuple[Part, int, Columns, dict[str, Stats]]]:
    """Every episode's part, first row, columns and statistics, in order."""
    start = 0
    for number, part in enumerate(parts):
        columns, stats = episode_columns(part, number, start, tasks[part.text], settings, features)
        yield part, start, columns, stats
        start += part.length


def _write_data(
    root: Path, parts: Sequence[Part], settings: Settings, features: dict[str, Feature], tasks: dict[str, int]
) -> list[dict[str, Any]]:
    """Write the rows and `meta/stats.json`; returns a row of the table of episodes for each."""
    rows: list[dict[str, Any]] = []
    held: list[Columns] = []
    file, size = 0, 0
    every: list[dict[str, Stats]] = []
    with_seeds = any(part.seed is not None for part in parts)

    def flush() -> None:
        chunk_index, file_index = divmod(file, settings.chunk_files)
        joined = {name: as_column(np.concatenate([columns[name] for columns in held])) for name in held[0]}
        write_table(joined, root / DATA_PATH.format(chunk_index=chunk_index, file_index=file_index))
        held.clear()

    for number, (part, start, columns, stats) in enumerate(each_episode(parts, settings, features, tasks)):
        mine = sum(values.nbytes for values in columns.values())
        if held and size + mine >= settings.data_mb * MIB:
            flush()
            file, size = file + 1, 0
        held.append(columns)
        size += mine
        every.append(stats)
        row: dict[str, Any] = {"episode_index": number, "tasks": [part.text], "length": part.length}
        row["data/chunk_index"], row["data/file_index"] = divmod(file, settings.chunk_files)
        row["dataset_from_index"], row["dataset_to_index"] = start, start + part.length
        row |= {"seed": part.seed} if with_seeds else {}
        row |= {f"stats/{name}/{key}": value.tolist() for name, entry in stats.items() for key, value in entry.items()}
        rows.append(row)
    flush()
    write_stats(root, every)
    return rows


def write_stats(root: Path, episodes: Sequence[dict[str, Stats]]) -> None:
    """`meta/stats.json` of all episodes."""
    total = {name: aggregate([stats[name] for stats in episodes]) for name in episodes[0]}
    lists = {name: {key: value.tolist() for key, value in entry.items()} for name, entry in total.items()}
    write_text(root / "meta" / "stats.json", json.dumps(lists, indent=2, allow_nan=False))


def _write_episodes(root: Path, rows: list[dict[str, Any]], settings: Settings) -> None:
    import pyarrow as pa

    def column(name: str, mine: list[dict[str, Any]]) -> Any:
        values = [row[name] for row in mine]
        return pa.array(values, pa.int64()) if name == "seed" else pa.array(values)

    row_bytes = sum(column(name, rows[:1]).nbytes for name in rows[0])
    per_file = max(int(settings.data_mb * MIB) // row_bytes, 1)
    for file, first in enumerate(range(0, len(rows), per_file)):
        mine = rows[first : first + per_file]
        place = dict(zip(("chunk_index", "file_index"), divmod(file, settings.chunk_files), strict=True))
        for row in mine:
            row |= {f"meta/episodes/{name}": number for name, number in place.items()}
        write_table({name: column(name, mine) for name in mine[0]}, root / EPISODES_PATH.format(**place))


def _write_tasks(root: Path, tasks: dict[str, int]) -> None:
    """A table that pandas opens with the text as its index, as LeRobot expects."""
    import pyarrow as pa

    index = "__index_level_0__"
    described = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object"},
        ],
    }
    columns = {"task_index": pa.array(list(tasks.values()), pa.int64()), index: pa.array(list(tasks), pa.string())}
    write_table(columns, root / "meta" / "tasks.parquet", {"pandas": json.dumps(described)})


def same_columns(parts: Sequence[Part]) -> dict[str, Feature]:
    """The features of all episodes together. Raises DataError where one feature has two meanings."""
    features: dict[str, Feature] = {}
    for k, part in enumerate(parts):
        for name, spec in part.features.items():
            if features.setdefault(name, spec) != spec:
                raise DataError(f"episode {k}: column {name} is {spec}, expected {features[name]} as before")
    return features
