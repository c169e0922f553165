"""LeRobot v2.1: one parquet file and one video file per episode, and its metadata in lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jepa_actions.data.lerobot.meta import MOST_BYTES, Info, PathPattern, required
from jepa_actions.data.lerobot.places import (
    LONGEST,
    Places,
    Videos,
    check_apart,
    check_episodes,
    files_of,
    video_pattern,
)
from jepa_actions.errors import DataError

KEYS = ("episode_chunk", "episode_index")


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a file of JSON lines. Raises DataError naming the line."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes, expected at most {MOST_BYTES}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not valid UTF-8 ({error.reason} at byte {error.start})") from error
    for k, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {k}: not valid JSON ({error})") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}: line {k}: {str(value)[:40]!r}, expected an object")
        yield k, value


def whole(path: Path, line: int, row: dict[str, Any], key: str) -> int:
    """A whole number, at least 0, of a line. Raises DataError naming the line."""
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LONGEST:
        raise DataError(f"{path}: line {line}: {key} is {value!r}, expected a whole number, at least 0")
    return value


def read_places(root: Path, info: Info, cameras: Sequence[str]) -> Places:
    """The episodes of `meta/episodes.jsonl`, ordered, each in files of its own."""
    path = required(root / "meta" / "episodes.jsonl", "table of episodes", info.version)
    rows = [
        (whole(path, k, row, "episode_index"), whole(path, k, row, "length"), row.get("seed"))
        for k, row in read_lines(path)
    ]
    rows.sort(key=lambda row: row[0])
    number = np.array([row[0] for row in rows], dtype=np.int64)
    length = np.array([row[1] for row in rows], dtype=np.int64)
    check_episodes(path, info, number, length)
    at = {"episode_chunk": number // info.chunks_size, "episode_index": number}
    data = files_of(at, PathPattern(info.path, info.data_path, KEYS, "episode_index"))
    videos = {}
    for camera in cameras:
        files = files_of(at, video_pattern(info, camera, KEYS, "episode_index"), video_key=camera)
        start = np.zeros(len(number))
        videos[camera] = Videos(files.names, files.numbers, files.of, start, np.full(len(number), np.nan), whole=True)
    check_apart(info, videos)
    seeds = [row[2] if isinstance(row[2], int) and not isinstance(row[2], bool) else None for row in rows]
    unsaid = np.full(len(number), -1, dtype=np.int64)
    return Places(
        number, length, data, videos, unsaid, unsaid, None if all(seed is None for seed in seeds) else tuple(seeds)
    )
