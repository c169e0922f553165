"""`check` on whole data sets: what is wrong with files, rows, frames, splits; nothing wrong where nothing is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import edit_column, rows_column, write_lerobot, write_video
from made_dataset import MadeDataset, made_episode

from jepa_actions.data.checks.check import check
from jepa_actions.data.checks.meta import split_faults
from jepa_actions.data.lerobot.checksums import seal
from jepa_actions.data.problems import Problem

DATA, VIDEO = "data/chunk-000/file-000.parquet", "videos/observation.images.wrist/chunk-000/file-000.mp4"


def fatal(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.fatal]


def test_a_good_data_set_has_no_problem(robot: Path):
    assert check(robot) == []
    seal(robot)
    assert check(robot) == []


def test_something_that_is_no_data_set_is_a_problem_and_not_an_error(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "a" / "b"):
        (problem,) = check(path)
        assert (problem.episode, problem.fatal) == (None, True)
        assert path.name in problem.message


def test_every_damaged_missing_and_extra_file_of_a_sealed_data_set_is_named(robot: Path):
    seal(robot)
    data = bytearray((robot / VIDEO).read_bytes())
    data[len(data) // 2] ^= 1
    (robot / VIDEO).write_bytes(data)
    (robot / "meta" / "tasks.parquet").write_bytes(b"PAR1")
    shutil.copy(robot / DATA, robot / "data/chunk-000/file-007.parquet")
    (robot / "README.md").write_text("words")
    problems = check(robot)
    named = {p.file for p in problems if p.kind in ("checksum", "missing", "extra")}
    assert named == {VIDEO, "meta/tasks.parquet", "data/chunk-000/file-007.parquet", "README.md"}
    assert {p.episode for p in problems if p.file == VIDEO} == {0, 1}  # those that are in it
    assert not any(p.fatal for p in problems if p.file == "README.md")


def test_an_undecodable_camera_is_named_with_its_episodes(robot: Path):
    path = robot / VIDEO
    data = path.read_bytes()
    start, stop = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:start] + bytes(stop - start) + data[stop:])
    found = fatal(check(robot))
    assert {(p.file, p.field) for p in found} == {(VIDEO, "observation.images.wrist")}
    assert {p.episode for p in found} == {0, 1}


def test_rows_that_do_not_fit_their_episode_are_fatal_and_good_episodes_are_still_checked(robot: Path):
    frames = pq.read_table(robot / DATA)["frame_index"].to_numpy().copy()
    frames[13] = 5  # in episode 1
    edit_column(robot / DATA, "frame_index", pa.array(frames))
    assert {(p.episode, p.file) for p in fatal(check(robot))} == {(1, DATA)}


def test_timestamps_that_go_back_are_fatal(robot: Path):
    times = pq.read_table(robot / DATA)["timestamp"].to_numpy().copy()
    times[5] = times[2]
    edit_column(robot / DATA, "timestamp", pa.array(times))
    (problem,) = fatal(check(robot))
    assert problem.episode == 0
    assert "timestamp" in problem.message


def test_actions_that_are_not_numbers_or_are_text_are_fatal(robot: Path, tmp_path: Path):
    actions = np.random.default_rng(0).normal(size=(21, 2)).astype(np.float32)
    actions[3] = np.nan
    edit_column(robot / DATA, "action", rows_column(actions))
    found = fatal(check(robot))
    assert {p.episode for p in found} == {0}
    edit_column(robot / DATA, "action", pa.array(["left"] * 21))
    found = fatal(check(robot))
    assert found
    assert all("action" in p.message for p in found)


def test_declared_bounds_hold(robot: Path):
    path = robot / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action"]["info"] = {"low": [-9.0, -0.1], "high": [9.0, 0.1]}
    path.write_text(json.dumps(info))
    assert {p.field for p in fatal(check(robot))} == {"action.dy"}


def test_a_validation_set_may_not_repeat_the_training_set(robot: Path, tmp_path: Path):
    other = write_lerobot(tmp_path / "other", lengths=(11, 13), seed=5)
    assert check(robot, validation=other) == []
    copy = shutil.copytree(robot, tmp_path / "copy")
    found = fatal(check(robot, validation=copy))
    assert {(p.episode, p.kind) for p in found} == {(0, "split"), (1, "split")}
    assert fatal(check(robot, validation=tmp_path / "none"))


@pytest.mark.parametrize(
    ("splits", "faults"),
    [
        (None, []),
        ({"train": "0:8", "val": "8:10"}, []),
        ({"train": "0:8", "val": "6:10"}, [True]),
        ({"train": "0:8", "val": "8:12"}, [False]),
        ({"train": 8}, [False]),
        ("0:8", [False]),
    ],
)
def test_splits_that_overlap_are_fatal(splits: object, faults: list[bool]):
    assert [fatal for _, fatal in split_faults(splits, 10)] == faults


def test_overlapping_splits_of_info_json_are_reported(robot: Path):
    path = robot / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": {"train": "0:2", "test": "1:2"}}))
    (problem,) = check(robot)
    assert (problem.fatal, problem.field, problem.kind) == (True, "splits", "split")


def test_an_episode_that_comes_twice_is_fatal(tmp_path: Path):
    for name, start in (("a", 20), ("b", 60), ("c", 20)):
        write_video(tmp_path / f"{name}.mp4", [start + 7 * k for k in range(12)], 10, (32, 32))
    (problem,) = fatal(check(tmp_path))
    assert (problem.episode, problem.kind) == (2, "duplicate")


def test_any_data_set_can_be_checked():
    episodes = [made_episode(k) for k in range(3)]
    assert check(MadeDataset(episodes)) == []
    episodes[1].actions[2, 0] = np.nan
    (problem,) = check(MadeDataset(episodes))
    assert (problem.episode, problem.fatal) == (1, True)


def test_without_decoding_frames_are_not_looked_at(robot: Path):
    path = robot / VIDEO
    data = path.read_bytes()
    start, stop = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:start] + bytes(stop - start) + data[stop:])
    assert check(robot, decode=False) == []


def test_real_recordings_have_no_fatal_problem(real_data: Path):
    assert fatal(check(real_data / "droid_franka", cameras=["wrist"])) == []
    assert fatal(check(real_data / "donkeycar")) == []
