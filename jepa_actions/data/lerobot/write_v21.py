"""Finished episodes put together as a LeRobot v2.1 data set: one parquet file and one video per episode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa_actions.data.lerobot.columns import Feature
from jepa_actions.data.lerobot.layout import describe, each_episode, number_tasks, write_stats
from jepa_actions.data.lerobot.parts import Part, Settings, as_column, write_table, write_text
from jepa_actions.data.lerobot.stats import Stats
from jepa_actions.data.lerobot.video_writer import join

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def write_v21(root: Path, parts: Sequence[Part], settings: Settings, features: dict[str, Feature]) -> dict[str, Any]:
    """Write everything but `meta/info.json`, and return that. The seed is a key of `meta/episodes.jsonl`."""
    tasks = number_tasks(parts)
    with_seeds = any(part.seed is not None for part in parts)
    episodes: list[dict[str, Any]] = []
    every: list[dict[str, Stats]] = []
    for number, (part, _, columns, stats) in enumerate(each_episode(parts, settings, features, tasks)):
        place = {"episode_chunk": number // settings.chunk_files, "episode_index": number}
        write_table({name: as_column(rows) for name, rows in columns.items()}, root / DATA_PATH.format(**place))
        for camera in settings.cameras:
            target = root / VIDEO_PATH.format(video_key=camera, **place)
            if not target.exists():
                join([part.video(camera)], target, settings.fps, {"camera": camera, "episode": number})
            part.video(camera).unlink(missing_ok=True)
        seed = {"seed": part.seed} if with_seeds else {}
        episodes.append({"episode_index": number, "tasks": [part.text], "length": part.length, **seed})
        every.append(stats)
    lines = [{"episode_index": k, "stats": _lists(stats)} for k, stats in enumerate(every)]
    _write_lines(root / "meta" / "episodes.jsonl", episodes)
    _write_lines(root / "meta" / "episodes_stats.jsonl", lines)
    _write_lines(root / "meta" / "tasks.jsonl", [{"task_index": k, "task": text} for text, k in tasks.items()])
    write_stats(root, every)
    return describe(settings, parts, features, len(tasks)) | {
        "total_videos": len(parts) * len(settings.cameras),
        "total_chunks": -(-len(parts) // settings.chunk_files),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
    }


def _lists(stats: dict[str, Stats]) -> dict[str, dict[str, Any]]:
    return {name: {key: value.tolist() for key, value in entry.items()} for name, entry in stats.items()}


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
