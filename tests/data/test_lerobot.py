"""LeRobot v3.0: labels and frames of the right episode and row; every missing or contradicting file is named."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_writer import CAMERAS, edit_column, level, rows_column, write_lerobot, write_video

from jepa_actions.data import ActionCodec, LeRobot, Segment, VideoDataset
from jepa_actions.errors import DataError, ShapeError


def grey(images):
    """Mean of the darker right half, per frame."""
    return images[..., images.shape[-1] // 2 + 2 :].float().mean((-3, -2, -1))


def change_info(root, **changes):
    path = root / "meta" / "info.json"
    info = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in info.items() if value != "drop"}))


def test_it_describes_itself(tiny_robot):
    data = LeRobot(tiny_robot)
    assert isinstance(data, VideoDataset)
    assert (data.name, data.cameras, data.fps, len(data)) == ("tiny_robot", CAMERAS, 10.0, 2)
    assert data.action_names == ("dx", "dy")
    assert data.proprio_names == ("x", "y", "yaw")
    assert data.lengths().tolist() == [12, 9]
    assert data.image_size(CAMERAS[0]) == (32, 48)


def test_an_episode_has_one_action_less_than_frames(tmp_path):
    rows = [np.arange(2 * n, dtype=np.float32).reshape(n, 2) + 100 * n for n in (12, 9)]
    poses = [np.arange(3 * n, dtype=np.float32).reshape(n, 3) for n in (12, 9)]
    data = LeRobot(write_lerobot(tmp_path / "r", actions=rows, proprio=poses, rewards=True))
    for i in (1, 0):
        episode = data.episode(i)
        assert np.array_equal(episode.actions, rows[i][:-1])
        assert episode.actions.dtype == np.float32
        assert np.array_equal(episode.proprio, poses[i])
        assert np.array_equal(episode.rewards, np.arange(len(rows[i]) - 1))
        assert (episode.index, episode.length, episode.text) == (i, len(rows[i]), f"task {i}")
        assert episode.action_mask is None
        assert episode.labelled().all()


def test_action_valid_becomes_the_mask_and_the_last_action_always_goes(tmp_path):
    valid = [np.ones(12), np.array([1, 0, 1, 1, 1, 1, 1, 0, 1])]
    data = LeRobot(write_lerobot(tmp_path / "r", action_valid=valid))
    assert data.episode(0).labelled().tolist() == [True] * 11
    assert data.episode(1).labelled().tolist() == [True, False, True, True, True, True, True, False]


def test_video_without_actions(tmp_path):
    data = LeRobot(write_lerobot(tmp_path / "r", with_actions=False))
    assert data.action_names is None
    assert data.episode(1).actions is None
    assert not data.episode(1).labelled().any()


def test_clips_show_the_frames_they_name(tiny_robot):
    data = LeRobot(tiny_robot)
    episodes, frames = np.array([1, 0, 1]), np.array([[0, 4, 8], [0, 5, 11], [2, 1, 1]])
    clips = data.read_clips(episodes, frames)
    for c, camera in enumerate(CAMERAS):
        assert clips[camera].shape == (3, 3, 3, 32, 48)
        assert clips[camera].dtype == torch.uint8
        expected = [[level(c, e, f) for f in row] for e, row in zip(episodes, frames, strict=True)]
        assert (grey(clips[camera]) - torch.tensor(expected)).abs().max() < 5
    assert data.read_clips(np.zeros(0, int), np.zeros((0, 2), int))[CAMERAS[0]].shape[:2] == (0, 2)


def test_frames_are_found_by_time_also_when_the_file_is_shared_with_other_episodes(tiny_robot, tmp_path):
    """The second episode starts later in its file than the lengths of the data set's own episodes say."""
    root = shutil.copytree(tiny_robot, tmp_path / "robot")
    levels = [level(0, 0, f) for f in range(12)] + [9, 9, 9] + [level(0, 1, f) for f in range(9)]
    write_video(root / "videos" / CAMERAS[0] / "chunk-000" / "file-000.mp4", levels, 10, (32, 48))
    table = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    edit_column(table, f"videos/{CAMERAS[0]}/from_timestamp", pa.array([0.0, 1.5]))
    edit_column(table, f"videos/{CAMERAS[0]}/to_timestamp", pa.array([1.2, 2.4]))
    clip = LeRobot(root, cameras=["front"]).read_clips(np.array([1]), np.arange(9)[None])[CAMERAS[0]]
    assert (grey(clip)[0] - torch.tensor([level(0, 1, f) for f in range(9)])).abs().max() < 5


def test_cameras_and_size_are_chosen(tiny_robot):
    data = LeRobot(tiny_robot, cameras=["wrist"], image_size=(16, 20))
    clips = data.read_clips(np.array([0]), np.array([[3]]))
    assert list(clips) == [CAMERAS[1]]
    assert clips[CAMERAS[1]].shape == (1, 1, 3, 16, 20)
    assert data.image_size(CAMERAS[1]) == (16, 20)
    with pytest.raises(DataError, match=r"no camera 'observation.images.front' opened"):
        data.image_size(CAMERAS[0])


@pytest.mark.parametrize("cameras", [["side"], [], ["front", "observation.images.front"]])
def test_cameras_that_do_not_exist_are_refused_with_those_that_do(tiny_robot, cameras):
    with pytest.raises(
        DataError, match=r"info.json: camera .* observation.images.front, observation.images.wrist"
    ) as e:
        LeRobot(tiny_robot, cameras=cameras)
    assert "\n" not in str(e.value)


REQUIRED = [
    ("meta/info.json", "description"),
    ("meta/tasks.parquet", "table of tasks"),
    ("meta/episodes/chunk-000/file-000.parquet", "table of episodes"),
    ("data/chunk-000/file-000.parquet", "table of rows"),
    (f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4", f"video of camera '{CAMERAS[1]}'"),
]


@pytest.mark.parametrize(("file", "what"), REQUIRED, ids=[file for file, _ in REQUIRED])
def test_each_missing_file_is_named(robot, file, what):
    (robot / file).unlink()
    with pytest.raises(DataError, match=f"{file}: missing, expected the {what} of a LeRobot v3.0 data set") as e:
        LeRobot(robot)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("file", [file for file, _ in REQUIRED if file.endswith(".parquet")])
def test_each_damaged_table_is_named(robot, file):
    (robot / file).write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match=f"{file}: cannot be read as parquet") as e:
        LeRobot(robot)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"codebase_version": "v1.6"}, "codebase_version is 'v1.6', expected 'v3.0', 'v2.1' or 'v2.0'"),
        ({"codebase_version": "drop"}, "codebase_version is None"),
        ({"fps": "ten"}, "fps is 'ten', expected int or float"),
        ({"fps": 0}, "fps is 0, expected a positive number"),
        ({"fps": float("nan")}, "fps is nan, expected a positive number"),
        ({"fps": 1e300}, "fps is 1e\\+300, expected a positive number"),
        ({"fps": True}, "fps is True, expected int or float"),
        ({"fps": 20}, "from_timestamp 0.000 to to_timestamp 1.200 s of episode 0, .* expected 0.600 s"),
        ({"fps": 5}, "from_timestamp 0.000 to to_timestamp 1.200 s of episode 0, .* expected 2.400 s"),
        ({"features": "drop"}, "features is None, expected dict"),
        ({"features": {"action": 3}}, "feature 'action' is 3"),
        ({"features": {}}, "expected some of the video features \\(none\\)"),
        ({"data_path": "drop"}, "data_path is None, expected str"),
        ({"data_path": "data/{nothing}.parquet"}, "path pattern 'data/{nothing}.parquet', expected chunk_index"),
        ({"data_path": "data/{chunk_index:999999999d}-{file_index}.parquet"}, "path pattern"),
        ({"data_path": "data/{file_index.__class__}.parquet"}, "path pattern"),
        ({"data_path": "data/{file_index!r}.parquet"}, "path pattern"),
        ({"data_path": "data/{file_index"}, "path pattern"),
        ({"data_path": "../robot/data/{chunk_index:03d}/{file_index:03d}"}, "path '../robot.*, expected one inside"),
        ({"data_path": "/data/{chunk_index:03d}/{file_index:03d}"}, "path '/data.*, expected one inside"),
        ({"video_path": "videos/{chunk_index:03d}-{file_index:03d}.mp4"}, "gives one file for two cameras"),
        ({"data_path": "data/\ud800{chunk_index:03d}/{file_index:03d}"}, "expected one inside"),
        ({"data_path": "data/\n{chunk_index:03d}/{file_index:03d}"}, "expected one inside"),
        ({"video_path": None}, "video_path is None, expected a path pattern"),
        ({"total_episodes": 3}, "2 rows of 2 episodes, expected info.json's total_episodes, 3"),
    ],
)
def test_a_wrong_description_is_refused(robot, changes, says):
    change_info(robot, **changes)
    with pytest.raises(DataError, match=says):
        LeRobot(robot)


def test_info_that_is_not_json_or_names_shapes_wrongly(robot):
    info = json.loads((robot / "meta" / "info.json").read_text())
    info["features"]["action"]["shape"] = [2, 2]
    change_info(robot, features=info["features"])
    with pytest.raises(DataError, match="feature 'action' has shape \\[2, 2\\], expected one dimension"):
        LeRobot(robot)
    (robot / "meta" / "info.json").write_text("{not json")
    with pytest.raises(DataError, match=r"info.json: not valid JSON"):
        LeRobot(robot)


ROWS = "data/chunk-000/file-000.parquet"


def test_actions_of_text_are_refused(robot):
    edit_column(robot / ROWS, "action", pa.array(["left"] * 21))
    with pytest.raises(DataError, match=f"{ROWS}: column 'action' has type string, expected numbers"):
        LeRobot(robot)
    edit_column(robot / ROWS, "action", pa.array([["left", "up"]] * 21))
    with pytest.raises(DataError, match=f"{ROWS}: column 'action' has type list<.*string>, expected numbers"):
        LeRobot(robot)


def test_a_label_column_that_is_missing_or_uneven_is_refused(robot):
    edit_column(robot / ROWS, "action", pa.array([[0.0, 1.0]] * 20 + [[0.0, 1.0, 2.0]]))
    with pytest.raises(DataError, match="column 'action' has 3 numbers in row 20, expected 2"):
        LeRobot(robot).episode(0)
    edit_column(robot / ROWS, "action", pa.array([[0.0, 1.0]] * 20 + [None]))
    with pytest.raises(DataError, match="column 'action' is empty in row 20"):
        LeRobot(robot).episode(0)
    edit_column(robot / ROWS, "action", None)
    with pytest.raises(DataError, match=f"{ROWS}: no column 'action', expected it as in info.json"):
        LeRobot(robot)


def test_fewer_rows_than_frames_are_refused(robot):
    table = pq.read_table(robot / ROWS)
    pq.write_table(table.slice(0, 18), robot / ROWS)
    with pytest.raises(DataError, match=f"{ROWS}: 18 rows, expected 21, one for every frame"):
        LeRobot(robot)


def test_rows_of_the_wrong_episode_are_refused(robot):
    table = pq.read_table(robot / ROWS)
    pq.write_table(pa.concat_tables([table.slice(0, 11), table.slice(10)]), robot / ROWS)
    with pytest.raises(DataError, match=f"{ROWS}: 13 rows of episode 0, expected 12 with frame_index 0 to 11"):
        LeRobot(robot).episode(0)
    pq.write_table(table, robot / ROWS)
    edit_column(robot / ROWS, "task_index", pa.array([7] * 21))
    with pytest.raises(DataError, match=r"task_index 7 of episode 1, expected one of meta/tasks.parquet"):
        LeRobot(robot).episode(1)
    with pytest.raises(DataError, match="episode 2 asked for, expected 0 to 1"):
        LeRobot(robot).episode(2)


def test_nan_in_actions_names_episode_row_and_dimension(tmp_path):
    rows = [np.zeros((12, 2), np.float32), np.zeros((9, 2), np.float32)]
    rows[1][4, 1] = np.nan
    data = LeRobot(write_lerobot(tmp_path / "r", actions=rows))
    with pytest.raises(DataError, match=r"r: action of episode 1, row 4, dimension 1 \(dy\): found nan"):
        ActionCodec.fit(data, [Segment(0, 0, 12), Segment(1, 0, 9)], block=1)


def test_a_video_with_too_few_frames_or_another_size_is_refused(robot):
    path = robot / "videos" / CAMERAS[0] / "chunk-000" / "file-000.mp4"
    write_video(path, [50] * 15, 10, (32, 48))
    with pytest.raises(DataError, match=r"file-000.mp4: 15 frames, expected 21 for its 2 episodes"):
        LeRobot(robot).read_clips(np.array([0]), np.array([[11]]))  # it may be another file, with other frames
    write_video(path, [50] * 21, 10, (32, 32))
    with pytest.raises(DataError, match=r"frames of \(32, 32\), expected \(32, 48\)"):
        LeRobot(robot).read_clips(np.array([0]), np.array([[0]]))
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"file-000.mp4: cannot be decoded as video"):
        LeRobot(robot).read_clips(np.array([0]), np.array([[0]]))


def test_a_video_with_more_frames_is_read_only_where_episodes_were_left_out(robot):
    path, table = (
        robot / "videos" / CAMERAS[0] / "chunk-000" / "file-000.mp4",
        robot / "meta/episodes/chunk-000/file-000.parquet",
    )
    write_video(path, [50] * 30, 10, (32, 48))
    with pytest.raises(DataError, match=r"file-000.mp4: 30 frames, expected 21 for its 2 episodes"):
        LeRobot(robot).read_clips(np.array([0]), np.array([[0]]))
    write_video(path, [50] * 21, 10, (32, 48))
    pq.write_table(pq.read_table(table).slice(1), table)  # episode 0 was taken out of the table, not out of the files
    info = robot / "meta" / "info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"total_episodes": 1, "total_frames": 9}))
    assert len(LeRobot(robot, cameras=["front"]).read_clips(np.array([0]), np.array([[8]]))) == 1


def test_clips_outside_an_episode_are_refused(tiny_robot):
    with pytest.raises(DataError, match="frame 9 of episode 1 asked for, expected 0 to 8"):
        LeRobot(tiny_robot).read_clips(np.array([1]), np.array([[9]]))
    with pytest.raises(ShapeError, match="expected \\(b,\\) and \\(b, t\\)"):
        LeRobot(tiny_robot).read_clips(np.array([1]), np.array([3]))


def test_episodes_over_several_files(tmp_path):
    """Two recordings joined as LeRobot joins them: each keeps its own data and video file."""
    one = write_lerobot(tmp_path / "one", lengths=(6, 5), seed=1)
    two = write_lerobot(tmp_path / "two", lengths=(7,), seed=2)
    expected = [LeRobot(one).episode(0), LeRobot(one).episode(1), LeRobot(two).episode(0)]
    shutil.move(two / ROWS, one / "data" / "chunk-000" / "file-001.parquet")
    edit_column(one / "data" / "chunk-000" / "file-001.parquet", "episode_index", pa.array([2] * 7))
    for camera in CAMERAS:
        folder = one / "videos" / camera / "chunk-000"
        shutil.move(two / "videos" / camera / "chunk-000" / "file-000.mp4", folder / "file-001.mp4")
    episodes = "meta/episodes/chunk-000/file-000.parquet"
    shutil.move(two / episodes, one / "meta/episodes/chunk-000/file-001.parquet")
    second = one / "meta/episodes/chunk-000/file-001.parquet"
    edit_column(second, "episode_index", pa.array([2]))
    for column in ("data/file_index", *(f"videos/{camera}/file_index" for camera in CAMERAS)):
        edit_column(second, column, pa.array([1]))
    edit_column(second, "dataset_from_index", pa.array([11]))
    edit_column(second, "dataset_to_index", pa.array([18]))
    edit_column(one / "data" / "chunk-000" / "file-001.parquet", "index", pa.array(np.arange(11, 18)))
    change_info(one, total_episodes=3, total_frames=18)
    data = LeRobot(one)
    assert data.lengths().tolist() == [6, 5, 7]
    for i, episode in enumerate(expected):
        assert np.array_equal(data.episode(i).actions, episode.actions)
    clips = data.read_clips(np.array([2, 1, 0]), np.array([[6, 0], [4, 0], [5, 1]]))
    expected_levels = [
        [level(1, 0, 6), level(1, 0, 0)],
        [level(1, 1, 4), level(1, 1, 0)],
        [level(1, 0, 5), level(1, 0, 1)],
    ]
    assert (grey(clips[CAMERAS[1]]) - torch.tensor(expected_levels)).abs().max() < 5


def test_scalar_lists_and_doubles_are_read_too(robot):
    actions = np.random.default_rng(0).normal(size=(21, 2))
    edit_column(robot / ROWS, "action", pa.array(actions.tolist(), type=pa.list_(pa.float64())))
    assert np.array_equal(LeRobot(robot).episode(1).actions, actions[12:20].astype(np.float32))
    edit_column(robot / ROWS, "action", rows_column(actions[:, :1]))
    with pytest.raises(DataError, match="column 'action' has 1 numbers in row 0, expected 2"):
        LeRobot(robot).episode(1)


def test_a_name_that_is_neither_folder_nor_hub_id(tmp_path):
    for name in (str(tmp_path / "absent"), "absent", "./absent/robot", "a/b/c"):
        with pytest.raises(DataError, match="no such folder"):
            LeRobot(name)


def test_droid_franka(real_data):
    data = LeRobot(real_data / "droid_franka")
    assert len(data) == 11
    assert data.lengths().sum() == 854
    assert len(data.cameras) == 2
    assert data.action_names == ("x", "y", "z", "roll", "pitch", "yaw", "gripper") == data.proprio_names
    raw = np.concatenate([np.diff(data.episode(i).proprio, axis=0) for i in range(11)])
    assert (np.abs(raw[:, 3:6]) > np.pi).sum() == 26, "the recordings' own wraps"
    segments = [Segment(i, 0, int(n)) for i, n in enumerate(data.lengths())]
    codec = ActionCodec.fit(data, segments, block=1, source="proprio_difference", angles=(3, 4, 5))
    wrapped = np.concatenate([codec.raw_actions(data.episode(i)) for i in range(11)])
    assert np.abs(wrapped[:, 3:6]).max() < 0.5
    assert wrapped.shape == (843, 7)
    everything = data.read_clips(np.array([4]), np.arange(124)[None])
    some = np.array([[120, 3, 77, 76]])
    for camera, images in data.read_clips(np.array([4]), some).items():
        assert images.shape == (1, 4, 3, 192, 320)
        assert torch.equal(images[0], everything[camera][0][some[0]])
    assert data.episode(1).text == "Put the blue block in the green bowl"


def test_donkeycar(real_data):
    data = LeRobot(real_data / "donkeycar", image_size=(60, 80))
    assert data.lengths().tolist() == [1000]
    assert data.action_names == ("steering", "throttle")
    steering = data.episode(0).actions[:, 0]
    assert len(steering) == 999
    assert -0.87 < steering.min() < -0.85
    assert steering.max() == 1.0
    assert np.mean(np.diff(steering) == 0) == pytest.approx(0.61, abs=0.01)
    clip = data.read_clips(np.array([0]), np.array([[0, 999]]))["observation.images.front"]
    assert clip.shape == (1, 2, 3, 60, 80)
    assert clip.float().std() > 20
