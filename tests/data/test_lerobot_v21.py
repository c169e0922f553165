"""LeRobot v2.1: the same episodes and frames as from v3.0, and what is wrong with its own files is named."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import CAMERAS, edit_column, write_lerobot, write_video

from jepa_actions.data import VideoDataset
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import DataError


@pytest.fixture(scope="module")
def legacy(tmp_path_factory):
    """Three episodes in folders of two. Read only."""
    root = tmp_path_factory.mktemp("v21") / "legacy"
    return write_lerobot(root, version="v2.1", lengths=(12, 9, 7), chunks_size=2, rewards=True)


@pytest.fixture
def damaged(legacy, tmp_path):
    return shutil.copytree(legacy, tmp_path / "damaged")


def test_it_reads_as_the_same_recording_in_v30(legacy, tmp_path):
    old = LeRobot(legacy)
    new = LeRobot(write_lerobot(tmp_path / "new", lengths=(12, 9, 7), rewards=True))
    assert isinstance(old, VideoDataset)
    assert (old.fps, old.cameras, old.action_names, old.proprio_names) == (
        10.0,
        CAMERAS,
        ("dx", "dy"),
        ("x", "y", "yaw"),
    )
    assert old.lengths().tolist() == new.lengths().tolist() == [12, 9, 7]
    for i in range(3):
        a, b = old.episode(i), new.episode(i)
        assert np.array_equal(a.actions, b.actions)
        assert np.array_equal(a.proprio, b.proprio)
        assert np.array_equal(a.rewards, b.rewards)
        assert a.text == b.text == f"task {i % 2}"
    episodes, frames = np.array([2, 0, 1]), np.array([[0, 6], [11, 3], [8, 0]])
    for camera, images in old.read_clips(episodes, frames).items():
        assert (images.float() - new.read_clips(episodes, frames)[camera].float()).abs().max() < 6
    assert (old.label_file(2), old.video_file(2, CAMERAS[1])) == (
        "data/chunk-001/episode_000002.parquet",
        f"videos/chunk-001/{CAMERAS[1]}/episode_000002.mp4",
    )


def test_v20_is_laid_out_the_same(damaged):
    path = damaged / "meta" / "info.json"
    path.write_text(path.read_text().replace('"v2.1"', '"v2.0"'))
    assert LeRobot(damaged).episode(2).length == 7


FILES = [
    ("meta/tasks.jsonl", "table of tasks"),
    ("meta/episodes.jsonl", "table of episodes"),
    ("data/chunk-001/episode_000002.parquet", "table of rows"),
    (f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4", f"video of camera '{CAMERAS[0]}'"),
]


@pytest.mark.parametrize(("file", "what"), FILES, ids=[file for file, _ in FILES])
def test_each_missing_file_is_named(damaged, file, what):
    (damaged / file).unlink()
    with pytest.raises(DataError, match=f"{file}: missing, expected the {what} of a LeRobot v2.1 data set"):
        LeRobot(damaged)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("episodes", "{not json", "episodes.jsonl: line 1: not valid JSON"),
        ("episodes", "[" * 100_000, "episodes.jsonl: line 1: not valid JSON"),
        ("episodes", "[1]", r"episodes.jsonl: line 1: '\[1\]', expected an object"),
        ("episodes", '{"episode_index": -1, "length": 3}', "line 1: episode_index is -1, expected a whole number"),
        ("episodes", '{"episode_index": 0, "length": 1e99}', r"line 1: length is 1e\+99, expected a whole number"),
        ("episodes", '{"episode_index": 0, "length": 99999999999}', "line 1: length is 99999999999, expected"),
        ("episodes", '{"episode_index": 0, "length": NaN}', "line 1: length is nan, expected"),
        ("episodes", '{"episode_index": 0, "length": 3}', "episodes.jsonl: 1 rows of 1 episodes, expected .* 3, each"),
        ("tasks", '{"task_index": 0, "task": 5}', "tasks.jsonl: line 1: task is 5, expected text"),
        (
            "tasks",
            '{"task_index": 0, "task": "a"}\n{"task_index": 0, "task": "b"}',
            "tasks.jsonl: task_index 0 a second time",
        ),
    ],
)
def test_lines_that_cannot_be_are_named(damaged, name, text, says):
    (damaged / "meta" / f"{name}.jsonl").write_text(text)
    with pytest.raises(DataError, match=says) as error:
        LeRobot(damaged)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_named(damaged):
    (damaged / "meta" / "tasks.jsonl").write_bytes(b'{"task_index": 0, "task": "\xff"}')
    with pytest.raises(DataError, match=r"tasks.jsonl: not valid UTF-8"):
        LeRobot(damaged)


def test_a_length_that_rows_and_frames_deny_is_refused(damaged):
    path = damaged / "meta" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 9', '"length": 8'))
    data = LeRobot(damaged)
    with pytest.raises(DataError, match=r"episode_000001.parquet: 9 rows of episode 1, expected 8"):
        data.episode(1)
    with pytest.raises(DataError, match=r"episode_000001.mp4: 9 frames, expected 8"):
        data.read_clips(np.array([1]), np.array([[0]]))
    assert data.episode(0).length == 12
    assert [problem.field for problem in data.problems] == ["total_frames"]


def test_swapped_files_are_noticed(damaged):
    first, second = (damaged / "data" / "chunk-000" / f"episode_00000{k}.parquet" for k in (0, 1))
    first.rename(damaged / "kept")
    second.rename(first)
    (damaged / "kept").rename(second)
    with pytest.raises(DataError, match=r"episode_000000.parquet: 9 rows, expected 12"):
        LeRobot(damaged)
    edit_column(second, "episode_index", pa.array([0] * 12))
    table = pq.read_table(second)
    pq.write_table(table, first)
    pq.write_table(table.slice(0, 9), second)
    with pytest.raises(DataError, match=r"episode_000001.parquet: 0 rows of episode 1, expected 9"):
        LeRobot(damaged).episode(1)


def test_a_video_of_another_rate_is_refused(damaged):
    path = damaged / "videos" / "chunk-000" / CAMERAS[0] / "episode_000000.mp4"
    write_video(path, [50] * 12, 5, (32, 48))
    with pytest.raises(DataError, match=r"episode_000000.mp4: no frame at 0.100 s for frame 1 of episode 0"):
        LeRobot(damaged).read_clips(np.array([0]), np.array([[0]]))


def test_chunks_size_that_is_no_number(damaged):
    path = damaged / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chunks_size": 0}))
    with pytest.raises(DataError, match="chunks_size is 0, expected a whole number"):
        LeRobot(damaged)
    path.write_text(json.dumps({**json.loads(path.read_text()), "chunks_size": 10**60}))
    with pytest.raises(DataError, match="chunks_size is 1000"):
        LeRobot(damaged)
