"""`load_dataset` opens what is there."""

import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import write_lerobot, write_video

from jepa_actions.data import (
    DecodedCache,
    Hdf5Dataset,
    LeRobot,
    TableVideos,
    TarVideos,
    VideoDataset,
    VideoFolder,
    load_dataset,
)
from jepa_actions.data.decoded.writer import write_decoded_cache
from jepa_actions.errors import DataError


def made(kind, folder):
    """A tiny data set of a kind, and what opens it."""
    video = folder / "a.mp4"
    if kind in ("lerobot", "decoded"):
        root = write_lerobot(folder / "robot")
        if kind == "lerobot":
            return root, LeRobot
        write_decoded_cache(load_dataset(root), folder / "store")
        return folder / "store", DecodedCache
    if kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "play.h5", "w") as file:
            file["pixels"] = np.zeros((9, 8, 8, 3), np.uint8)
            file["action"] = np.zeros((9, 2), np.float32)
            file["ep_len"], file["ep_offset"] = np.array([5, 4]), np.array([0, 5])
        return folder / "play.h5", Hdf5Dataset
    write_video(video, range(40, 100, 10), 10, (32, 48))
    if kind == "folder":
        return folder, VideoFolder
    if kind == "tars":
        (folder / "a.json").write_text(json.dumps({"action": [[0.5]] * 5}))
        (folder / "tars").mkdir()
        with tarfile.open(folder / "tars" / "000.tar", "w") as tar:
            tar.add(video, "a.mp4")
            tar.add(folder / "a.json", "a.json")
        return folder / "tars", TarVideos
    (folder / "table").mkdir()
    table = pa.table({"video": [{"bytes": video.read_bytes(), "path": None}], "action": [[[0.5]] * 5]})
    pq.write_table(table, folder / "table" / "train-0.parquet")
    return folder / "table", TableVideos


@pytest.mark.parametrize("kind", ["lerobot", "decoded", "hdf5", "folder", "tars", "table"])
def test_each_kind_is_told_by_what_is_there(kind, tmp_path):
    path, opener = made(kind, tmp_path)
    data = load_dataset(path, image_size=None if kind == "decoded" else (16, 16))
    assert type(data) is opener
    assert isinstance(data, VideoDataset)
    clip = data.read_clips(np.array([0]), np.array([[0, 2]]))
    assert {camera: tuple(frames.shape[:3]) for camera, frames in clip.items()} == dict.fromkeys(
        data.cameras, (1, 2, 3)
    )
    bare = data.without_labels()
    assert (bare.action_names, bare.proprio_names, bare.episode(0).actions) == (None, None, None)
    assert data.fingerprint() == load_dataset(path, image_size=None if kind == "decoded" else (16, 16)).fingerprint()
    assert bare.fingerprint() != data.fingerprint() or data.action_names is None


def test_columns_are_chosen_in_lerobot_data_sets_only(tmp_path):
    path, _ = made("folder", tmp_path)
    with pytest.raises(DataError, match=r"action 'command', pseudo None and state 'observation.state' asked for"):
        load_dataset(path, action="command")
    robot = write_lerobot(tmp_path / "r")
    assert load_dataset(robot, action=None).action_names is None
    with pytest.raises(DataError, match="'command'"):
        load_dataset(robot, action="command")
