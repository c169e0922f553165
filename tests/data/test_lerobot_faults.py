"""Rows and frames never shift against each other, also without checksums; a tolerant reader collects the faults."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_writer import CAMERAS, edit_column, level, write_lerobot, write_video

from jepa_actions.data.lerobot.checksums import seal
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.data.problems import bad_episodes
from jepa_actions.errors import DataError

ROWS = "data/chunk-000/file-000.parquet"
TABLE = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"


def column(root, name):
    return pq.read_table(root / ROWS)[name].to_numpy().copy()


@pytest.mark.parametrize("by", [0.1, -0.1])
def test_time_stamps_that_shift_by_a_frame_name_the_row(robot, by):
    times = column(robot, "timestamp")
    times[15:] += np.float32(by)
    edit_column(robot / ROWS, "timestamp", pa.array(times))
    data = LeRobot(robot)
    assert data.episode(0).length == 12
    with pytest.raises(DataError, match=rf"{ROWS}: row 15 has timestamp 0.[24]00 s, expected 0.300 for frame 3 of"):
        data.episode(1)


def test_rows_in_another_order_are_named(robot):
    table = pq.read_table(robot / ROWS)
    order = np.arange(21)
    order[[2, 3]] = 3, 2
    pq.write_table(table.take(order), robot / ROWS)
    with pytest.raises(DataError, match=f"{ROWS}: 12 rows of episode 0, expected 12 with frame_index 0 to 11"):
        LeRobot(robot).episode(0)
    index = np.arange(21)
    index[16:] += 1
    pq.write_table(table, robot / ROWS)
    edit_column(robot / ROWS, "index", pa.array(index))
    with pytest.raises(DataError, match=f"{ROWS}: row 16 has index 17, expected 16 for frame 4 of episode 1"):
        LeRobot(robot).episode(1)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("length", [12, 10], "dataset_to_index 21 of episode 1, expected its length apart, 10"),
        ("length", [0, 9], "expected info.json's total_episodes, 2, each once with length >= 1"),
        ("length", [1 << 40, 9], "each once with length >= 1"),
        ("length", [12.5, 9.0], "column 'length' has 12.5 in row 0, expected a whole number"),
        ("length", [12, None], "column 'length' is empty in row 1"),
        ("episode_index", [0, 0], "2 rows of 1 episodes"),
        ("dataset_from_index", [0, 11], "dataset_from_index 11 to dataset_to_index 21 of episode 1"),
        (
            f"videos/{CAMERAS[0]}/from_timestamp",
            [0.0, 1.1],
            "from_timestamp 1.100 to to_timestamp 2.100 s of episode 1",
        ),
        (
            f"videos/{CAMERAS[0]}/from_timestamp",
            [0.0, float("nan")],
            "from_timestamp' has nan in row 1, expected a finite",
        ),
        (f"videos/{CAMERAS[0]}/from_timestamp", [0.0, 1e300], "from_timestamp' has 1e.300 in row 1, expected seconds"),
        ("data/file_index", [-1, 0], "file_index -1 of episode row 0, expected at least 0"),
        ("data/file_index", [0, 1], "file-001.parquet: missing, expected the table of rows"),
        (f"videos/{CAMERAS[0]}/file_index", [0, 10**15], "file-1000000000000000.mp4: missing"),
    ],
)
def test_a_table_of_episodes_that_cannot_be_is_refused(robot, name, values, says):
    edit_column(robot / TABLE, name, pa.array(values))
    with pytest.raises(DataError, match=says) as error:
        LeRobot(robot)
    assert "\n" not in str(error.value)


def test_a_whole_episode_shifted_in_its_video_runs_into_the_other(robot):
    for part, values in (("from", [0.0, 1.1]), ("to", [1.2, 2.0])):
        edit_column(robot / TABLE, f"videos/{CAMERAS[0]}/{part}_timestamp", pa.array(values))
    with pytest.raises(
        DataError, match=r"from_timestamp 1.100 s of episode 1, .* at least 1.200, where episode 0 ends"
    ):
        LeRobot(robot)
    for part, values in (("from", [0.0, 1.3]), ("to", [1.2, 2.2])):
        edit_column(robot / TABLE, f"videos/{CAMERAS[0]}/{part}_timestamp", pa.array(values))
    with pytest.raises(DataError, match=r"no frame at 2.100 s for frame 8 of episode 1"):
        LeRobot(robot).read_clips(np.array([1]), np.array([[0]]))


def cut(source, target, keep, shift=0):
    """A video with the packets that `keep` lets through, shown `shift` frames later."""
    import av

    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for k, packet in enumerate(p for p in old.demux(stream) if p.size):
            if keep(k):
                packet.pts += shift * packet.duration
                packet.dts += shift * packet.duration
                packet.stream = copy
                new.mux(packet)


@pytest.fixture
def raw(tmp_path):
    """Every frame a key frame, so that any can be taken out without a trace in the others."""
    root = write_lerobot(tmp_path / "raw", cameras=CAMERAS[:1])
    levels = [level(0, e, f) for e, n in enumerate((12, 9)) for f in range(n)]
    write_video(tmp_path / "whole.mp4", levels, 10, (32, 48), g="1", bf="0")
    return root


def test_a_video_that_lost_its_first_frame_shows_no_episode(raw, tmp_path):
    cut(tmp_path / "whole.mp4", raw / VIDEO, lambda k: True)
    assert LeRobot(raw).read_clips(np.array([1]), np.array([[8]]))
    cut(tmp_path / "whole.mp4", raw / VIDEO, lambda k: k > 0)
    for i in (0, 1):
        with pytest.raises(DataError, match=r"file-000.mp4: (begins at|no frame at|frame)"):
            LeRobot(raw).read_clips(np.array([i]), np.array([[0]]))


def test_a_video_that_begins_late_shows_no_episode(raw, tmp_path):
    cut(tmp_path / "whole.mp4", raw / VIDEO, lambda k: True, shift=1)
    for i in (0, 1):
        with pytest.raises(DataError, match=r"file-000.mp4: begins at 0.100 s, expected 0.000 s"):
            LeRobot(raw).read_clips(np.array([i]), np.array([[0]]))


def test_a_video_that_lost_a_frame_in_its_middle_shows_no_episode(raw, tmp_path):
    cut(tmp_path / "whole.mp4", raw / VIDEO, lambda k: k != 14)
    for i in (0, 1):
        with pytest.raises(DataError, match=r"file-000.mp4: 20 frames, expected 21 for its 2 episodes"):
            LeRobot(raw).read_clips(np.array([i]), np.array([[0]]))


def test_a_frame_that_is_missing_among_enough_is_named_and_no_later_episode_shown(raw, tmp_path):
    """Labelled as ours, so that the number of frames is not what gives it away."""
    cut(tmp_path / "whole.mp4", raw / VIDEO, lambda k: k != 5)
    tag(raw / VIDEO, camera=CAMERAS[0])
    with pytest.raises(DataError, match=r"no frame at 0.500 s for frame 5 of episode 0"):
        LeRobot(raw).read_clips(np.array([0]), np.array([[0]]))
    with pytest.raises(DataError, match=r"frame 11 is at 1.200 s for frame 0 of episode 1, expected frame 12"):
        LeRobot(raw).read_clips(np.array([1]), np.array([[0]]))


def tag(path, **facts):
    """What our writer leaves in a file."""
    import av

    copy = path.with_name("copy.mp4")
    with av.open(str(path)) as old, av.open(str(copy), "w") as new:
        new.metadata["comment"] = json.dumps(facts)
        stream = old.streams.video[0]
        target = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.size:
                packet.stream = target
                new.mux(packet)
    copy.replace(path)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"camera": CAMERAS[1], "chunk": 0, "file": 0, "frames": 21}, f"labelled camera '{CAMERAS[1]}', expected"),
        ({"camera": CAMERAS[0], "chunk": 0, "file": 3, "frames": 21}, "labelled file 3, expected 0"),
        ({"camera": CAMERAS[0], "chunk": 0, "file": 0, "frames": 22}, "labelled frames 22, expected 21"),
    ],
)
def test_the_label_in_a_video_tells_another_file(robot, facts, says):
    info = robot / "meta" / "info.json"
    plain = json.loads(info.read_text())
    info.write_text(json.dumps({**plain, "video_labels": True}))
    tag(robot / VIDEO, **(facts | {"camera": CAMERAS[0], "chunk": 0, "file": 0, "frames": 21}))
    assert LeRobot(robot).read_clips(np.array([0]), np.array([[0]]))
    tag(robot / VIDEO, **facts)
    info.write_text(json.dumps(plain))  # as software leaves it that renumbers our videos: labels are not looked at
    assert LeRobot(robot).read_clips(np.array([0]), np.array([[0]]))
    info.write_text(json.dumps({**plain, "video_labels": True}))
    with pytest.raises(DataError, match=f"{VIDEO}: {says}"):
        LeRobot(robot).read_clips(np.array([0]), np.array([[0]]))


def test_page_checksums_of_our_tables_are_verified(robot):
    table = pq.read_table(robot / ROWS)
    pq.write_table(table, robot / ROWS, write_page_checksum=True, use_dictionary=False, compression="none")
    data = bytearray((robot / ROWS).read_bytes())
    at = data.find(table["action"].combine_chunks().flatten().to_numpy()[4:8].tobytes())
    data[at + 2] ^= 1
    (robot / ROWS).write_bytes(data)
    with pytest.raises(DataError, match=f"{ROWS}: cannot be read as parquet"):
        LeRobot(robot).episode(0)


def test_rows_are_found_where_lerobots_own_converter_put_them(tmp_path):
    """It names the file before for an episode that opens a new one."""
    root = write_lerobot(tmp_path / "converted", lengths=(5, 6, 7))
    expected = [LeRobot(root).episode(i) for i in range(3)]
    rows = pq.read_table(root / ROWS)
    pq.write_table(rows.slice(0, 5), root / ROWS)
    pq.write_table(rows.slice(5), root / "data" / "chunk-000" / "file-001.parquet")
    edit_column(root / TABLE, "data/file_index", pa.array([0, 0, 1]))
    data = LeRobot(root)
    assert data.label_file(1) == "data/chunk-000/file-001.parquet"
    for i, episode in enumerate(expected):
        assert np.array_equal(data.episode(i).actions, episode.actions)


def test_a_tolerant_reader_names_what_is_wrong_and_reads_the_rest(tmp_path):
    root = write_lerobot(tmp_path / "some", version="v2.1", lengths=(5, 6, 7, 8))
    whole = LeRobot(root)
    assert whole.problems == []
    (root / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    (root / "videos" / "chunk-000" / CAMERAS[1] / "episode_000003.mp4").unlink()
    with pytest.raises(DataError, match=r"episode_000001.parquet: missing"):
        LeRobot(root)
    data = LeRobot(root, tolerant=True)
    assert [(p.episode, p.file, p.kind, p.fatal) for p in data.problems] == [
        (1, "data/chunk-000/episode_000001.parquet", "missing", True),
        (3, f"videos/chunk-000/{CAMERAS[1]}/episode_000003.mp4", "missing", True),
    ]
    assert bad_episodes(data.problems) == (1, 3)
    for i in (0, 2):
        assert np.array_equal(data.episode(i).actions, whole.episode(i).actions)
    assert torch.equal(
        data.read_clips(np.array([2]), np.array([[6]]))[CAMERAS[0]],
        whole.read_clips(np.array([2]), np.array([[6]]))[CAMERAS[0]],
    )
    for i in (1, 3):
        with pytest.raises(DataError, match="missing"):
            data.episode(i)
        with pytest.raises(DataError, match="missing"):
            data.read_clips(np.array([0, i]), np.array([[0], [0]]))


def test_a_tolerant_reader_knows_the_episodes_of_a_damaged_file(robot):
    seal(robot)
    (robot / ROWS).write_bytes(b"PAR1 but not really")
    (robot / "meta" / "tasks.parquet").write_bytes(b"neither")
    data = LeRobot(robot, tolerant=True)
    assert bad_episodes(data.problems) == (0, 1)
    assert {(p.file, p.kind) for p in data.problems} == {
        (ROWS, "checksum"),
        (ROWS, "unreadable"),
        ("meta/tasks.parquet", "checksum"),
        ("meta/tasks.parquet", "text"),
    }
    with pytest.raises(DataError, match=f"{ROWS}: .* bytes, expected"):
        data.episode(0)


def test_without_a_description_nothing_is_tolerated(robot):
    shutil.rmtree(robot / "meta")
    with pytest.raises(DataError, match=r"info.json: missing"):
        LeRobot(robot, tolerant=True)


def test_a_number_too_large_for_float32_is_no_action(robot):
    edit_column(robot / ROWS, "action", pa.array([[1e300, 0.0]] + [[0.0, 0.0]] * 20))
    assert np.isinf(LeRobot(robot).episode(0).actions[0, 0]), "and is refused by whoever uses it"
