"""Write a tiny, valid LeRobot v3.0 data set: several episodes per parquet and per video file, two cameras, known
pictures.

Every frame is a flat colour that says which camera, episode and frame it is (`level`), so a test sees an error of one
frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

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
) -> Path:
    """Write the data set and return `root`. Arrays are per episode, one row per frame: actions (T, 2), proprio (T, 3).

    By default actions and proprio are random, and the last action of an episode is 99, which no reader must return.
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
    _write_table(root / "data" / "chunk-000" / "file-000.parquet", columns)
    for c, camera in enumerate(cameras):
        levels = [level(c, e, f) for e, f in zip(episode.tolist(), frame.tolist(), strict=True)]
        write_video(root / "videos" / camera / "chunk-000" / "file-000.mp4", levels, fps, size)
    _write_meta(root, lengths, fps, cameras, features)
    return root


def _write_meta(
    root: Path, lengths: list[int], fps: int, cameras: Sequence[str], features: dict[str, dict[str, object]]
) -> None:
    stops = np.cumsum(lengths)
    starts = stops - lengths
    zeros = pa.array(np.zeros(len(lengths), np.int64))
    table: dict[str, pa.Array] = {
        "episode_index": pa.array(np.arange(len(lengths))),
        "tasks": pa.array([[f"task {e % 2}"] for e in range(len(lengths))]),
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
    tasks = {"task_index": pa.array([0, 1]), "__index_level_0__": pa.array(["task 0", "task 1"])}
    _write_table(root / "meta" / "tasks.parquet", tasks)
    info = {
        "codebase_version": "v3.0",
        "robot_type": "test",
        "total_episodes": len(lengths),
        "total_frames": int(sum(lengths)),
        "fps": fps,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta" / "info.json").write_text(json.dumps(info, indent=2))


def rows_column(rows: np.ndarray) -> pa.Array:
    """Rows of numbers as a parquet column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).ravel()), rows.shape[1])


def _write_table(path: Path, columns: dict[str, pa.Array]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def edit_column(path: Path, column: str, values: pa.Array | None) -> None:
    """Replace a column of a parquet file, or drop it."""
    table = pq.read_table(path)
    place = table.column_names.index(column)
    table = table.remove_column(place)
    pq.write_table(table if values is None else table.add_column(place, column, values), path)
