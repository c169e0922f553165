"""Where each episode of a LeRobot data set is: its file of rows, and its place in a video file per camera. Both
versions become the same tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from jepa_actions.data.lerobot.meta import VERSION, Info, PathPattern, required
from jepa_actions.data.lerobot.tables import check_numbers, read_table, real_numbers, whole_numbers
from jepa_actions.errors import DataError

MOST_EPISODES = 10_000_000
LONGEST = 1 << 31  # frames of an episode
LATEST = 1e9  # seconds inside a video file
EPISODES = "meta/episodes"


@dataclass(frozen=True)
class Files:
    """The file each episode is in: `names[of[e]]`, relative to the data set. `numbers` are what its path was made
    of."""

    names: tuple[str, ...]
    numbers: tuple[dict[str, int], ...]
    of: Int64[np.ndarray, "e"]

    def name(self, i: int) -> str:
        """The file of episode `i`."""
        return self.names[int(self.of[i])]

    def members(self, file: int) -> Int64[np.ndarray, "n"]:
        """The episodes of a file, in order."""
        return np.flatnonzero(self.of == file)


@dataclass(frozen=True)
class Videos(Files):
    """The video file of each episode, and from when to when it lasts there, in seconds. `stop` is NaN where the data
    set does not say; `whole` where every file is one episode."""

    start: Float64[np.ndarray, "e"]
    stop: Float64[np.ndarray, "e"]
    whole: bool = False


@dataclass(frozen=True)
class Places:
    """One row per episode. `number` is its `episode_index`; `first_row` (-1: not said) the `index` of its first row;
    `last_row` one past its last."""

    number: Int64[np.ndarray, "e"]
    length: Int64[np.ndarray, "e"]
    data: Files
    videos: dict[str, Videos]
    first_row: Int64[np.ndarray, "e"]
    last_row: Int64[np.ndarray, "e"]
    seed: tuple[int | None, ...] | None = None


def files_of(numbers: dict[str, np.ndarray], pattern: PathPattern, **keys: str) -> Files:
    """The files that a pattern gives for every episode's numbers. Raises DataError where two files have one path."""
    stacked = np.stack(list(numbers.values()), axis=1)
    if (stacked < 0).any():
        row, column = (int(k) for k in np.argwhere(stacked < 0)[0])
        name = list(numbers)[column]
        raise DataError(f"{pattern.where}: {name} {stacked[row, column]} of episode row {row}, expected at least 0")
    unique, of = np.unique(stacked, axis=0, return_inverse=True)
    rows = tuple(dict(zip(numbers, (int(v) for v in row), strict=True)) for row in unique)
    names = tuple(pattern.fill({**row, **keys}) for row in rows)
    if len(set(names)) < len(names):
        raise DataError(f"{pattern.where}: path pattern {pattern.pattern!r} gives one path for two files")
    return Files(names, rows, of.reshape(-1).astype(np.int64))


def episode_files(root: Path, info: Info) -> list[str]:
    """The files of the table of episodes, relative to the data set."""
    if info.version != VERSION:
        return ["meta/episodes.jsonl"]
    return [path.relative_to(root).as_posix() for path in sorted((root / EPISODES).glob("*/*.parquet"))]


def check_apart(info: Info, videos: dict[str, Videos]) -> None:
    """Raise DataError where two cameras would be read from one file."""
    names = [name for places in videos.values() for name in places.names]
    if len(set(names)) < len(names):
        raise DataError(f"{info.path}: video_path {info.video_path!r} gives one file for two cameras")


def video_pattern(info: Info, camera: str, keys: tuple[str, ...], needed: str) -> PathPattern:
    """The pattern of video files. Raises DataError where info.json has none."""
    if info.video_path is None:
        raise DataError(f"{info.path}: video_path is None, expected a path pattern for camera {camera!r}")
    return PathPattern(info.path, info.video_path, (*keys, "video_key"), needed)


def read_places(root: Path, info: Info, cameras: Sequence[str]) -> Places:
    """The table of episodes of a v3.0 data set (`meta/episodes`), ordered by episode."""
    table = _read_episodes(root, cameras)
    order = np.argsort(table["episode_index"], kind="stable")
    table = {column: values[order] for column, values in table.items()}
    number, length = table["episode_index"], table["length"]
    check_episodes(root / EPISODES, info, number, length)
    keys = ("chunk_index", "file_index")
    data = files_of(
        {key: table[f"data/{key}"] for key in keys}, PathPattern(info.path, info.data_path, keys, "file_index")
    )
    videos = {}
    for camera in cameras:
        pattern = video_pattern(info, camera, keys, "file_index")
        files = files_of({key: table[f"videos/{camera}/{key}"] for key in keys}, pattern, video_key=camera)
        start, stop = table[f"videos/{camera}/from_timestamp"], table[f"videos/{camera}/to_timestamp"]
        videos[camera] = Videos(files.names, files.numbers, files.of, start, stop)
    check_apart(info, videos)
    seeds = table["seed"]
    seed = None if np.isnan(seeds).all() else tuple(None if np.isnan(s) else int(s) for s in seeds)
    return Places(number, length, data, videos, table["dataset_from_index"], table["dataset_to_index"], seed)


def check_episodes(place: Path, info: Info, number: Int64[np.ndarray, "e"], length: Int64[np.ndarray, "e"]) -> None:
    """Raise DataError unless every episode comes once, as many as info.json says, with a length that can be."""
    found = len(np.unique(number))
    good = (length >= 1) & (length <= LONGEST) & (number >= 0)
    if len(number) != info.total_episodes or found != info.total_episodes or found < 1 or not good.all():
        raise DataError(
            f"{place}: {len(number)} rows of {found} episodes, expected info.json's total_episodes, "
            f"{info.total_episodes}, each once with length >= 1"
        )


def _read_episodes(root: Path, cameras: Sequence[str]) -> dict[str, np.ndarray]:
    whole = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    whole += [f"videos/{camera}/{part}" for camera in cameras for part in ("chunk_index", "file_index")]
    real = [f"videos/{camera}/from_timestamp" for camera in cameras]
    folder = root / EPISODES
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        required(folder / "chunk-000" / "file-000.parquet", "table of episodes")
    parts: list[dict[str, np.ndarray]] = []
    for path in files:
        optional = {f"videos/{camera}/to_timestamp": np.nan for camera in cameras}
        optional |= {"dataset_from_index": -1, "dataset_to_index": -1, "seed": np.nan}
        table = read_table(path, [*whole, *real], list(optional), most=MOST_EPISODES)
        columns: dict[str, np.ndarray] = {column: whole_numbers(path, table, column) for column in whole}
        columns |= {column: _seconds(path, table, column) for column in real}
        for column, absent in optional.items():
            if column not in table.column_names:
                columns[column] = np.full(len(table), absent, dtype=np.int64 if absent == -1 else np.float64)
            elif column == "seed":
                columns[column] = _seeds(path, table)
            else:
                reader = whole_numbers if absent == -1 else _seconds
                columns[column] = reader(path, table, column)
        parts.append(columns)
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _seconds(path: Path, table: Any, column: str) -> Float64[np.ndarray, "n"]:
    values = real_numbers(path, table, column)
    bad = np.flatnonzero((values < -1e-6) | (values > LATEST))
    if len(bad):
        raise DataError(f"{path}: column {column!r} has {values[bad[0]]} in row {bad[0]}, expected seconds from 0")
    return values


def _seeds(path: Path, table: Any) -> Float64[np.ndarray, "n"]:
    check_numbers(path, "seed", table["seed"].type)
    return np.asarray(table["seed"].to_numpy(), dtype=np.float64)  # empty where an episode has none


def check_ranges(places: Places, fps: float) -> Iterator[tuple[int, str, str]]:
    """What in the table of episodes contradicts itself: episode, field, message."""
    first, last, length, number = places.first_row, places.last_row, places.length, places.number
    said = first >= 0
    for i in np.flatnonzero(said & (last >= 0) & (last - first != length)):
        found = f"dataset_from_index {first[i]} to dataset_to_index {last[i]} of episode {number[i]}"
        yield int(i), "dataset_to_index", f"{found}, expected its length apart, {length[i]}"
    for b in np.flatnonzero(said[1:] & said[:-1] & (first[1:] < first[:-1] + length[:-1])) + 1:
        a, end = b - 1, first[b - 1] + length[b - 1]
        found = f"dataset_from_index {first[b]} of episode {number[b]}"
        yield int(b), "dataset_from_index", f"{found}, expected at least {end}, where episode {number[a]} ends"
    for camera, videos in places.videos.items():
        yield from _check_video_ranges(places, camera, videos, fps)


def _check_video_ranges(places: Places, camera: str, videos: Videos, fps: float) -> Iterator[tuple[int, str, str]]:
    number, start, stop = places.number, videos.start, videos.stop
    lasts, slack = places.length / fps, 0.5 / fps
    for i in np.flatnonzero(np.abs(stop - start - lasts) > slack):  # false where stop is not said
        found = f"from_timestamp {start[i]:.3f} to to_timestamp {stop[i]:.3f} s of episode {number[i]}, {camera!r}"
        message = f"{found}, expected {lasts[i]:.3f} s for {places.length[i]} frames at {fps:g} fps"
        yield int(i), f"videos/{camera}/to_timestamp", message
    if videos.whole:
        return
    order = np.argsort(videos.of, kind="stable")  # by file, and within a file by episode
    before, after = order[:-1], order[1:]
    ends, same = start + lasts, videos.of[before] == videos.of[after]
    for k in np.flatnonzero(same & (start[after] < ends[before] - slack)):
        a, b = int(before[k]), int(after[k])
        found = f"from_timestamp {start[b]:.3f} s of episode {number[b]}, {camera!r}"
        message = f"{found}, expected at least {ends[a]:.3f}, where episode {number[a]} ends in the same file"
        yield b, f"videos/{camera}/from_timestamp", message


def placed_by_row(places: Places, rows: dict[str, int]) -> Places | None:
    """The places with every episode in the file where its `first_row` falls when the files of `rows` (name to number
    of rows) are put behind each other; `None` where that does not account for every row.

    LeRobot's own converter of v2.1 names the file before for an episode that opens a new one, and its reader does not
    notice, since it goes by row numbers.
    """
    names = sorted(rows)
    ends = np.cumsum([rows[name] for name in names])
    of = np.searchsorted(ends, places.first_row, side="right").astype(np.int64)
    if (places.first_row < 0).any() or (of >= len(names)).any():
        return None
    held = np.bincount(of, weights=places.length, minlength=len(names))
    if (held != [rows[name] for name in names]).any():
        return None
    return replace(places, data=Files(tuple(names), ({},) * len(names), of))
