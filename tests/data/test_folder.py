"""A folder of videos is a data set without actions; `load_dataset` opens what is there and says what is not."""

import numpy as np
import pytest
import torch
from lerobot_writer import CAMERAS, write_video

from jepa_actions.data import LeRobot, VideoDataset, VideoFolder, load_dataset
from jepa_actions.errors import DataError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "clips"
    write_video(root / "b.mkv", range(60, 90, 3), 25, (32, 48))
    write_video(root / "a.mp4", range(150, 185, 5), 10, (32, 48))
    (root / "notes.txt").write_text("about the clips")
    (root / ".hidden.mp4").write_text("left by a file browser")
    return root


def test_one_file_is_one_episode_by_name(folder):
    data = VideoFolder(folder)
    assert isinstance(data, VideoDataset)
    assert (data.name, data.cameras, len(data), data.lengths().tolist()) == ("clips", ("video",), 2, [7, 10])
    assert data.rates == pytest.approx((10.0, 25.0))
    assert data.fps == pytest.approx(17.5)
    assert data.variable_rate == (False, False)
    assert data.image_size("video") == (32, 48)
    episode = data.episode(1)
    assert (episode.length, episode.actions, episode.text) == (10, None, None)
    clips = data.read_clips(np.array([1, 0]), np.array([[9, 0], [6, 1]]))["video"]
    grey = clips[..., 26:].float().mean((-3, -2, -1))
    assert (grey - torch.tensor([[87, 60], [180, 155]])).abs().max() < 4


def test_videos_of_other_sizes_need_image_size(folder):
    write_video(folder / "c.mp4", [50] * 3, 10, (64, 64))
    with pytest.raises(
        DataError, match=r"c.mp4: frames of \(64, 64\), expected \(32, 48\) as in a.mp4; set image_size"
    ):
        VideoFolder(folder)
    clips = VideoFolder(folder, image_size=(16, 16)).read_clips(np.arange(3), np.zeros((3, 1), int))["video"]
    assert clips.shape == (3, 1, 3, 16, 16)


def test_a_damaged_video_in_a_folder_is_named(folder):
    (folder / "d.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"d.mp4: cannot be decoded as video"):
        VideoFolder(folder)


def test_load_dataset_opens_what_is_there(folder, tiny_robot):
    assert isinstance(load_dataset(folder), VideoFolder)
    robot = load_dataset(str(tiny_robot), cameras=["wrist"], image_size=(8, 8))
    assert isinstance(robot, LeRobot)
    assert robot.cameras == CAMERAS[1:]
    assert robot.image_size(CAMERAS[1]) == (8, 8)
    assert load_dataset(folder, cameras=["video"], image_size=(8, 10)).image_size("video") == (8, 10)


def test_load_dataset_says_what_it_found(folder, tmp_path, robot):
    with pytest.raises(DataError, match="no camera 'wrist', expected video"):
        load_dataset(folder, cameras=["wrist"])
    with pytest.raises(DataError, match="env:two_room: an environment, which training and evaluation resolve"):
        load_dataset("env:two_room")
    with pytest.raises(DataError, match=r"a.mp4: no data set, a file; expected a LeRobot"):
        load_dataset(folder / "a.mp4")
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(tmp_path / "absent")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty: no data set, found nothing; expected"):
        load_dataset(empty)
    for k in range(10):
        (empty / f"{k}.txt").touch()
    with pytest.raises(DataError, match=r"found 0.txt, 1.txt, .*, 7.txt and 2 more"):
        load_dataset(empty)
    with pytest.raises(DataError, match=r"empty: no video in it, found 0.txt"):
        VideoFolder(empty)
    with pytest.raises(DataError, match="absent: no such folder, expected a folder of videos"):
        VideoFolder(tmp_path / "absent")
    (robot / "meta" / "info.json").unlink()
    with pytest.raises(DataError, match=r"info.json: missing"):
        load_dataset(robot)


def test_hand_object_clips(real_data):
    data = load_dataset(real_data / "hand_object_clips", image_size=(36, 64))
    assert data.lengths().tolist() == [300, 292, 287]
    assert data.fps == pytest.approx(29.97, abs=0.01)
    clips = data.read_clips(np.array([2]), np.array([[40, 12]]))["video"]
    assert torch.equal(clips[0, 1], data.read_clips(np.array([2]), np.array([[12]]))["video"][0, 0])
