"""A million steps open in seconds: nothing per episode but a row of a table, no video opened."""

import json
import resource
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jepa_actions.data import ClipIndex, Segment
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.data.lerobot.videos import KEPT

EPISODES, LENGTH, FILES = 5000, 200, 13
CAMERAS = ("observation.images.a", "observation.images.b")


def rows(first, stop):
    """A table of the rows of episodes `[first, stop)`."""
    number = np.repeat(np.arange(first, stop), LENGTH)
    frame = np.tile(np.arange(LENGTH), stop - first)
    values = pa.array(np.repeat(number.astype(np.float32), 7))
    lists = pa.FixedSizeListArray.from_arrays(values, 7)
    columns = {"timestamp": (frame / 10).astype(np.float32), "frame_index": frame, "episode_index": number}
    index = {"index": number * LENGTH + frame, "task_index": np.zeros(len(frame), np.int64)}
    return pa.table({**columns, **index, "action": lists, "observation.state": lists})


def describe(root, version, data_path, video_path):
    features = {c: {"dtype": "video", "shape": [32, 48, 3], "names": ["height", "width", "channels"]} for c in CAMERAS}
    features |= {name: {"dtype": "float32", "shape": [7], "names": None} for name in ("action", "observation.state")}
    info = {
        "codebase_version": version,
        "total_episodes": EPISODES,
        "total_frames": EPISODES * LENGTH,
        "fps": 10,
        "chunks_size": 1000,
        "features": features,
        "data_path": data_path,
        "video_path": video_path,
    }
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a video that nobody opens")


def new_layout(root):
    episode, per_file = np.arange(EPISODES), -(-EPISODES // FILES)
    file = episode // per_file
    table = {
        "episode_index": episode,
        "length": np.full(EPISODES, LENGTH),
        "data/chunk_index": 0 * file,
        "data/file_index": file,
        "dataset_from_index": episode * LENGTH,
        "dataset_to_index": (episode + 1) * LENGTH,
    }
    for camera in CAMERAS:
        start = (episode - file * per_file) * LENGTH / 10
        table |= {f"videos/{camera}/chunk_index": 0 * file, f"videos/{camera}/file_index": file}
        table |= {f"videos/{camera}/from_timestamp": start, f"videos/{camera}/to_timestamp": start + LENGTH / 10}
    for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
        (root / folder).mkdir(parents=True)
    for k in range(FILES):
        part = rows(k * per_file, min((k + 1) * per_file, EPISODES))
        pq.write_table(part, root / "data" / "chunk-000" / f"file-{k:03d}.parquet")
        for camera in CAMERAS:
            touch(root / "videos" / camera / "chunk-000" / f"file-{k:03d}.mp4")
    pq.write_table(pa.table(table), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["t"]}), root / "meta" / "tasks.parquet")
    numbered = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    describe(root, "v3.0", f"data/{numbered}.parquet", f"videos/{{video_key}}/{numbered}.mp4")


def old_layout(root):
    for i in range(EPISODES):
        chunk, name = f"chunk-{i // 1000:03d}", f"episode_{i:06d}"
        for camera in CAMERAS:
            touch(root / "videos" / chunk / camera / f"{name}.mp4")
        path = root / "data" / chunk / f"{name}.parquet"
        if i < 2 or i == EPISODES - 1:
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows(i, i + 1), path)
        else:
            touch(path)
    data, video = "data/chunk-{episode_chunk:03d}", "videos/chunk-{episode_chunk:03d}/{video_key}"
    name = "episode_{episode_index:06d}"
    describe(root, "v2.1", f"{data}/{name}.parquet", f"{video}/{name}.mp4")
    lines = [json.dumps({"episode_index": i, "tasks": ["t"], "length": LENGTH}) for i in range(EPISODES)]
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines))
    (root / "meta" / "tasks.jsonl").write_text('{"task_index": 0, "task": "t"}\n')


@pytest.mark.parametrize("layout", [new_layout, old_layout])
def test_a_million_steps_open_in_seconds(tmp_path, layout, record_property):
    layout(tmp_path)
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = LeRobot(tmp_path)
    index = ClipIndex([Segment(i, 0, int(n)) for i, n in enumerate(data.lengths())], frames=16, block=1)
    seconds = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    record_property("seconds", seconds)
    assert len(index) == EPISODES * (LENGTH - 15)
    assert seconds < 5, "the issue's bar"
    assert grown < 200, "MB; the bar is 1 GB for the whole process"
    assert data.episode(EPISODES - 1).actions[0, 0] == EPISODES - 1
    assert data._videos._kept.limit == KEPT
