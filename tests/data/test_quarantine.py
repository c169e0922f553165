"""Bad episodes are left out when asked, counted, and listed; a data set that is bad as a whole still raises."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import edit_column, write_video
from made_dataset import MadeDataset, made_episode

from jepa_actions.data import load_dataset
from jepa_actions.data.checks.quarantine import quarantine
from jepa_actions.data.lerobot.checksums import seal
from jepa_actions.errors import DataError

DATA = "data/chunk-000/file-000.parquet"


def spoil(robot: Path) -> None:
    """Make the rows of episode 1 contradict its length."""
    frames = pq.read_table(robot / DATA)["frame_index"].to_numpy().copy()
    frames[13] = 5
    edit_column(robot / DATA, "frame_index", pa.array(frames))


def test_a_good_data_set_loses_nothing(robot: Path, caplog: pytest.LogCaptureFixture):
    kept = quarantine(robot)
    assert (len(kept), kept.skipped, caplog.text) == (2, [], "")
    assert kept.fingerprint() != load_dataset(robot).fingerprint()  # a view, but of everything
    frames = np.arange(5)[None]
    for camera, images in kept.read_clips(np.array([1]), frames).items():
        assert images.equal(load_dataset(robot).read_clips(np.array([1]), frames)[camera])


def test_bad_episodes_are_left_out_counted_and_listed(robot: Path, caplog: pytest.LogCaptureFixture):
    good = load_dataset(robot).episode(0)
    spoil(robot)
    with caplog.at_level(logging.WARNING):
        kept = quarantine(robot)
    assert len(kept) == 1
    assert kept.lengths().tolist() == [12]
    assert np.array_equal(kept.episode(0).actions, good.actions)
    (skipped,) = kept.skipped
    assert (skipped["episode"], skipped["file"]) == (1, DATA)
    assert "frame_index" in skipped["message"]
    assert "skipped 1 of 2 episodes: 1" in caplog.text


def test_it_never_happens_by_default(robot: Path):
    spoil(robot)
    with pytest.raises(DataError, match="frame_index"):
        load_dataset(robot).episode(1)


def test_a_damaged_file_takes_its_own_episodes_only(tmp_path: Path):
    from jepa_actions.data.lerobot.copying import copy_dataset

    made = MadeDataset([made_episode(k) for k in range(4)])
    copy_dataset(made, tmp_path / "d", video_mb=1e-6)
    assert len(quarantine(tmp_path / "d")) == 4
    video = sorted((tmp_path / "d" / "videos").rglob("*.mp4"))[2]
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 64
    video.write_bytes(data)
    kept = quarantine(tmp_path / "d")
    assert [item["episode"] for item in kept.skipped] == [2]
    assert kept.skipped[0]["file"] == video.relative_to(tmp_path / "d").as_posix()


def test_what_is_wrong_with_the_whole_data_set_still_raises(robot: Path):
    seal(robot)
    path = robot / "meta" / "tasks.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"tasks\.parquet"):
        quarantine(robot)


def test_at_least_one_episode_must_be_good():
    episodes = [made_episode(k) for k in range(2)]
    for episode in episodes:
        episode.actions[3, 0] = np.inf
    with pytest.raises(DataError, match="all 2 episodes have problems"):
        quarantine(MadeDataset(episodes))
    episodes.append(made_episode(2))
    assert [item["episode"] for item in quarantine(MadeDataset(episodes)).skipped] == [0, 1]


def test_a_video_of_a_folder_that_does_not_open_is_left_out(tmp_path: Path):
    for k in range(4):
        write_video(tmp_path / f"{k}.mp4", [20 + 40 * k + 3 * j for j in range(12)], 10, (32, 32))
    shutil.copy(tmp_path / "0.mp4", tmp_path / "3.mp4")  # a duplicate
    rows = [{"file_name": f"{k}.mp4", "text": f"task {k}"} for k in range(4)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "1.mp4").write_bytes((tmp_path / "1.mp4").read_bytes()[:300])
    with pytest.raises(DataError, match=r"1\.mp4"):
        load_dataset(tmp_path)
    kept = quarantine(tmp_path)
    assert [(item["episode"], item["file"]) for item in kept.skipped] == [(1, "1.mp4"), (3, "3.mp4")]
    assert [kept.episode(i).text for i in range(len(kept))] == ["task 0", "task 2"]
    (tmp_path / "1.mp4").unlink()
    with pytest.raises(DataError, match=r"names 1\.mp4"):  # the labels contradict the folder: not one episode's fault
        quarantine(tmp_path)
