"""Write a tiny, valid LeRobot data set: v3.0, several episodes per parquet and per video file, or v2.1, a file
each; two cameras, known pictures.

Every frame is a flat colour that says which camera, episode and frame it is (`level`), so a test sees an error of one
frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CAMERAS = ("observation.images.front", "observation.images.wrist")
ACTIONS = ("dx", "dy")
PROPRIO = ("x", "y", "yaw")


def level(camera: int, episode: int, frame: int) -> int:
    """Grey level of a frame; neighbouring frames differ by 12, more than compression changes them."""
    return 20 + (12 * frame + 40 * episode + 90 * camera) % 216


def write_video(
    path: Path, levels: Sequence[int], fps: int, size: tuple[int, int], codec: str = "libx264", **options: str
) -> None:
    """A video of flat grey frames with a brighter left half, GOP of 10 unless `options` say otherwise. `size` is (H,
    W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=fps, options={"g": "10", **({"crf": "12"} if codec == "libx264" else {}), **options}
        )
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for value in levels:
            image = np.full((*size, 3), value, np.uint8)
            image[:, : size[1] // 2] = min(value + 15, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_lerobot(
    root: Path,
    *,
    lengths: Sequence[int] = (12, 9),
    fps: int = 10,
    size: tuple[int, int] = (32, 48),
    cameras: Sequence[str] = CAMERAS,
    actions: Sequence[np.ndarray] | None = None,
    proprio: Sequence[np.ndarray] | None = None,
    action_valid: Sequence[np.ndarray] | None = None,
    rewards: bool = False,
    with_actions: bool = True,
    seed: int = 0,
    version: str = "v3.0",
    chunks_size: int = 1000,
    extra: Mapping[str, tuple[np.ndarray, dict[str, object]]] | None = None,
    texts: Sequence[str | None] = ("task 0", "task 1"),
) -> Path:
    """Write the data set and return `root`. Arrays are per episode, one row per frame: actions (T, 2), proprio (T, 3).

    By default actions and proprio are random, and the last action of an episode is 99, which no reader must return.
    `extra` are further columns by name, `(rows, n)` over all episodes, and what their features say beside dtype and
    shape. `version` "v2.1" writes one file per episode, `chunks_size` of them to a folder.
    """
    rng = np.random.default_rng(seed)
    lengths = list(lengths)
    if actions is None:
        actions = [rng.normal(size=(n, len(ACTIONS))).astype(np.float32) for n in lengths]
        for rows in actions:
            rows[-1] = 99.0
    proprio = proprio or [rng.normal(size=(n, len(PROPRIO))).astype(np.float32) for n in lengths]
    features: dict[str, dict[str, object]] = {
        camera: {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"]} for camera in cameras
    }
    episode = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.arange(n) for n in lengths])
    columns: dict[str, pa.Array] = {
        "timestamp": pa.array((frame / fps).astype(np.float32)),
        "frame_index": pa.array(frame),
        "episode_index": pa.array(episode),
        "index": pa.array(np.arange(len(frame))),
        "task_index": pa.array(episode % 2),
        "observation.state": rows_column(np.concatenate(proprio)),
    }
    features["observation.state"] = {"dtype": "float32", "shape": [len(PROPRIO)], "names": list(PROPRIO)}
    if with_actions:
        columns["action"] = rows_column(np.concatenate(actions))
        features["action"] = {"dtype": "float32", "shape": [len(ACTIONS)], "names": {"motors": list(ACTIONS)}}
    if action_valid is not None:
        columns["action_valid"] = pa.array(np.concatenate(action_valid).astype(np.int64))
        features["action_valid"] = {"dtype": "int64", "shape": [1], "names": None}
    if rewards:
        columns["next.reward"] = pa.array(frame.astype(np.float32))
        features["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    for name, (rows, more) in (extra or {}).items():
        columns[name] = rows_column(rows) if rows.dtype == np.float32 else pa.array(rows.tolist())
        features[name] = {"dtype": str(rows.dtype), "shape": list(rows.shape[1:]) or [1], "names": None, **more}
    info: dict[str, Any] = {
        "codebase_version": version,
        "robot_type": "test",
        "total_episodes": len(lengths),
        "total_frames": int(sum(lengths)),
        "total_tasks": len(texts),
        "chunks_size": chunks_size,
        "fps": fps,
        "features": features,
    }
    write = _write_v30 if version == "v3.0" else _write_v21
    write(root, lengths, pa.table(columns), cameras, info, size, texts)
    (root / "meta" / "info.json").write_text(json.dumps(info, indent=2))
    return root


def _write_v21(
    root: Path,
    lengths: list[int],
    table: pa.Table,
    cameras: Sequence[str],
    info: dict[str, Any],
    size: tuple[int, int],
    texts: Sequence[str | None],
) -> None:
    info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    starts = np.cumsum(lengths) - lengths
    for e, (start, length) in enumerate(zip(starts.tolist(), lengths, strict=True)):
        chunk, name = f"chunk-{e // int(info['chunks_size']):03d}", f"episode_{e:06d}"
        _write_table(root / "data" / chunk / f"{name}.parquet", table.slice(start, length))
        for c, camera in enumerate(cameras):
            levels = [level(c, e, f) for f in range(length)]
            write_video(root / "videos" / chunk / camera / f"{name}.mp4", levels, int(info["fps"]), size)
    meta = root / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = [
        {"episode_index": e, "tasks": [texts[e % 2]], "length": length} for e, length in enumerate(lengths)
    ]
    (meta / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (meta / "tasks.jsonl").write_text(
        "".join(json.dumps({"task_index": k, "task": text}) + "\n" for k, text in enumerate(texts))
    )
    stats = [{"episode_index": e, "stats": {}} for e in range(len(lengths))]
    (meta / "episodes_stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stats))


def _write_v30(
    root: Path,
    lengths: list[int],
    rows: pa.Table,
    cameras: Sequence[str],
    info: dict[str, Any],
    size: tuple[int, int],
    texts: Sequence[str | None],
) -> None:
    info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    fps = int(info["fps"])
    _write_table(root / "data" / "chunk-000" / "file-000.parquet", rows)
    for c, camera in enumerate(cameras):
        levels = [level(c, e, f) for e, length in enumerate(lengths) for f in range(length)]
        write_video(root / "videos" / camera / "chunk-000" / "file-000.mp4", levels, fps, size)
    stops = np.cumsum(lengths)
    starts = stops - lengths
    zeros = pa.array(np.zeros(len(lengths), np.int64))
    table: dict[str, pa.Array] = {
        "episode_index": pa.array(np.arange(len(lengths))),
        "tasks": pa.array([[texts[e % 2]] for e in range(len(lengths))], pa.list_(pa.string())),
        "length": pa.array(np.asarray(lengths, np.int64)),
        "data/chunk_index": zeros,
        "data/file_index": zeros,
        "dataset_from_index": pa.array(starts),
        "dataset_to_index": pa.array(stops),
    }
    for camera in cameras:
        table[f"videos/{camera}/chunk_index"] = zeros
        table[f"videos/{camera}/file_index"] = zeros
        table[f"videos/{camera}/from_timestamp"] = pa.array(starts / fps)
        table[f"videos/{camera}/to_timestamp"] = pa.array(stops / fps)
    _write_table(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet", table)
    tasks = {"task_index": pa.array(np.arange(len(texts))), "__index_level_0__": pa.array(list(texts), pa.string())}
    _write_table(root / "meta" / "tasks.parquet", tasks)


def rows_column(rows: np.ndarray) -> pa.Array:
    """Rows of numbers as a parquet column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).ravel()), rows.shape[1])


def _write_table(path: Path, columns: dict[str, pa.Array] | pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)


def edit_column(path: Path, column: str, values: pa.Array | None) -> None:
    """Replace a column of a parquet file, or drop it."""
    table = pq.read_table(path)
    place = table.column_names.index(column)
    table = table.remove_column(place)
    pq.write_table(table if values is None else table.add_column(place, column, values), path)
