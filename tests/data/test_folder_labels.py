"""Labels beside a folder of videos: every place they may be in, how they meet the frames, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import write_video

from jepa_actions.data import ActionCodec, Provenance, Segment, VideoFolder
from jepa_actions.data.sources.row_labels import FIELDS, check_labels, episode_of, fields, names_of, rate_of
from jepa_actions.errors import DataError

A = [[0.1 * k, 1.0 + k] for k in range(6)]  # five steps and one after the last


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "clips"
    write_video(root / "a.mp4", range(20, 80, 10), 10, (32, 32))
    write_video(root / "more" / "b.mp4", range(20, 60, 10), 5, (32, 32))
    return root


def lines(root, *rows, name="metadata.jsonl"):
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("rows", [A[:5], A], ids=["T-1", "T"])
def test_json_lines_meet_their_frames(folder, rows):
    lines(
        folder,
        {"file_name": "a.mp4", "action": rows, "state": A, "reward": [1, 2, 3, 4, 5], "text": "wipe", "seed": 7},
        {"file_name": "more/b.mp4", "action": None, "text": None, "who": "a column of the user's own"},
    )
    data = VideoFolder(folder)
    first, second = data.episode(0), data.episode(1)
    np.testing.assert_array_equal(first.actions, np.float32(A[:5]))
    np.testing.assert_array_equal(first.proprio, np.float32(A))
    assert (first.text, first.seed, first.labelled().all()) == ("wipe", 7, True)
    assert first.rewards.tolist() == [1, 2, 3, 4, 5]
    assert (second.length, second.actions, second.text) == (4, None, None)
    assert data.action_names == ("action_0", "action_1")
    assert data.proprio_names == ("proprio_0", "proprio_1")
    codec = ActionCodec.fit(data, [Segment(0, 0, 6), Segment(1, 0, 4)], block=1)
    np.testing.assert_allclose(codec.mean, np.mean(A[:5], axis=0), rtol=1e-6)


def test_times_are_the_containers_or_those_of_a_given_rate(folder):
    assert VideoFolder(folder).fps == pytest.approx(7.5)
    np.testing.assert_allclose(VideoFolder(folder).episode(1).times, np.arange(4) / 5, atol=1e-3)
    lines(folder, {"file_name": "more/b.mp4", "fps": 20})
    data = VideoFolder(folder)
    assert data.rates == pytest.approx((10, 20))
    np.testing.assert_allclose(data.episode(1).times, np.arange(4) / 20)


def test_unknown_and_inferred_actions_keep_their_provenance(folder):
    pseudo = [[9.0, 9.0]] * 5
    lines(
        folder,
        {"file_name": "a.mp4", "action": [A[0], None, *A[2:5]], "action_valid": [1, 1, 0, 1, 1, 0]},
        {"file_name": "more/b.mp4", "pseudo_action": pseudo[:3], "labeller": "ours/inverse-1"},
    )
    data = VideoFolder(folder)
    assert data.episode(0).labelled().tolist() == [True, False, False, True, True]
    assert data.episode(1).origins().tolist() == [Provenance.PSEUDO] * 3
    assert data.episode(1).labeller == "ours/inverse-1"
    row = {"file_name": "a.mp4", "actions": A, "action_mask": [1, 0, 1, 1, 1], "pseudo_actions": pseudo}
    lines(folder, {**row, "labeller": "m"})
    mixed = VideoFolder(folder).episode(0)
    assert mixed.origins().tolist() == [0, 1, 0, 0, 0]
    np.testing.assert_array_equal(mixed.actions[:3], np.float32([A[0], [9, 9], A[2]]))
    lines(folder, row)
    with pytest.raises(DataError, match=r"metadata.jsonl, line 1: inferred actions without a 'labeller'"):
        VideoFolder(folder)
    lines(folder, {"file_name": "a.mp4", "latent_action": A, "labeller": "lapa"})
    assert VideoFolder(folder).episode(0).origins().tolist() == [Provenance.LATENT] * 5


def test_csv_and_parquet_say_the_same(folder):
    row = {"file_name": "a.mp4", "action": A, "reward": [0.5] * 6, "text": "wipe, twice"}
    lines(folder, row)
    wanted = VideoFolder(folder)
    (folder / "metadata.jsonl").unlink()
    cells = ",".join('"' + json.dumps(row[key]) + '"' for key in ("action", "reward"))
    (folder / "metadata.csv").write_text(f'file_name,action,reward,text\na.mp4,{cells},"wipe, twice"\nmore/b.mp4,,,\n')
    from_csv = VideoFolder(folder)
    (folder / "metadata.csv").unlink()
    pq.write_table(pa.Table.from_pylist([row]), folder / "metadata.parquet")
    from_parquet = VideoFolder(folder)
    for data in (from_csv, from_parquet):
        for i in range(2):
            one, other = data.episode(i), wanted.episode(i)
            np.testing.assert_equal((one.actions, one.rewards, one.text), (other.actions, other.rewards, other.text))


def test_a_row_per_frame(folder):
    frame = [3, 1, 0, 2, 0, 1, 2, 3, 4, 5]  # out of order; five steps of a.mp4 plus its last frame, four of b.mp4
    name = ["more/b.mp4"] * 4 + ["a.mp4"] * 6
    column = np.arange(10.0)
    table = {
        "file_name": name,
        "frame_index": frame,
        "action.x": column,
        "action.y": -column,
        "action_valid": [1, 1, 0, 1, 1, 1, 1, 1, 1, 0],
        "text": ["push"] * 4 + [None] * 6,
    }
    pq.write_table(pa.table(table), folder / "actions.parquet")
    data = VideoFolder(folder)
    assert data.action_names == ("x", "y")
    assert data.episode(0).actions[:, 0].tolist() == [4, 5, 6, 7, 8]
    assert data.episode(1).actions[1:, 1].tolist() == [-1, -3]
    assert data.episode(1).labelled().tolist() == [False, True, True]
    assert (data.episode(0).text, data.episode(1).text) == (None, "push")
    lines(folder, {"file_name": "a.mp4", "text": "from the other file"})
    assert VideoFolder(folder).episode(0).text == "from the other file"
    pq.write_table(pa.table({**table, "frame_index": [3, 1, 0, 2, 0, 1, 2, 3, 4, 4]}), folder / "actions.parquet")
    with pytest.raises(DataError, match=r"actions.parquet: frame 4 of a.mp4, expected frame 5"):
        VideoFolder(folder)
    pq.write_table(
        pa.table({"file_name": ["a.mp4"], "frame_index": [0], "action.x": ["up"]}), folder / "actions.parquet"
    )
    with pytest.raises(DataError, match=r"action, row 0: found 'up' \(str\), expected 1 numbers"):
        VideoFolder(folder)


def test_names_of_the_whole_folder(folder):
    lines(folder, {"file_name": "a.mp4", "action": A, "state": A})
    (folder / "info.json").write_text('{"action_names": ["dx", "dy"], "fps": 4}')
    data = VideoFolder(folder)
    assert (data.action_names, data.proprio_names) == (("dx", "dy"), ("proprio_0", "proprio_1"))
    assert data.rates == (4, 4)
    (folder / "info.json").write_text('{"action_names": ["dx"]}')
    with pytest.raises(DataError, match=r"line 1: action has 2 dimensions, expected 1 as in .*info.json"):
        VideoFolder(folder)


def test_cameras_are_sub_folders_that_agree(tmp_path):
    root = tmp_path / "arm"
    for camera, first in (("front", 20), ("wrist", 120)):
        for name, count in (("a.mp4", 5), ("b.mp4", 3)):
            write_video(root / camera / name, [first + 10 * k for k in range(count)], 10, (32, 32))
    lines(root, {"file_name": "a.mp4", "action": A[:4]}, {"file_name": "front/b.mp4", "action": A[:2]})
    data = VideoFolder(root, cameras=["front", "wrist"])
    assert (data.cameras, data.lengths().tolist()) == (("front", "wrist"), [5, 3])
    assert data.episode(1).actions.shape == (2, 2)
    clips = data.read_clips(np.array([0]), np.array([[4]]))
    assert [round(float(clips[c][0, 0, 0, 0, 28])) for c in data.cameras] == pytest.approx([60, 160], abs=4)
    with pytest.raises(DataError, match=r"no camera 'top', expected front, wrist"):
        VideoFolder(root, cameras=["front", "top"])
    write_video(root / "wrist" / "b.mp4", [9, 9], 10, (32, 32))
    with pytest.raises(DataError, match=r"wrist/b.mp4: 2 frames, expected 3 as in .*front/b.mp4"):
        VideoFolder(root, cameras=["front", "wrist"])
    (root / "wrist" / "b.mp4").unlink()
    with pytest.raises(DataError, match=r"wrist/b.mp4: missing, expected it because there is front/b.mp4"):
        VideoFolder(root, cameras=["front", "wrist"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file_name": "a.mp4", "action": [[1, 2]', r"metadata.jsonl, line 2: not JSON"),
        ('["a.mp4"]', r"line 2: found list, expected an object"),
        ('{"action": [[1, 2]]}', r"line 2: file_name is None, expected the path of a video"),
        ('{"file_name": "c.mp4"}', r"line 2: names c.mp4, expected a video in"),
        ('{"file_name": "../a.mp4"}', r"line 2: file_name is '../a.mp4', expected a path inside the folder"),
        ('{"file_name": "more/b.mp4"}', r"line 2: more/b.mp4 comes a second time, expected it only in .*line 1"),
        ('{"file_name": "a.mp4", "action": [[1, 2]]}', r"line 2: action: found 1 rows, expected 5 or 6 for 6 frames"),
        ('{"file_name": "a.mp4", "action": [[1], [1, 2], [1]]}', r"action, row 1: found 2 values, expected 1"),
        ('{"file_name": "a.mp4", "action": "left"}', r"action: found 'left' \(str\), expected a list of rows"),
        ('{"file_name": "a.mp4", "action": ["l","r","l","r","l"]}', r"action, row 0: found 'l' \(str\), expected 1"),
        (
            '{"file_name": "a.mp4", "action": [1, 2, 3, 4, 5]}',
            r"line 1: action has 2 dimensions, expected 1 as in .* 2",
        ),
        ('{"file_name": "a.mp4", "actions": [1], "action": [1]}', r"both 'actions' and 'action' are given"),
        ('{"file_name": "a.mp4", "state": [1, 2, 3, 4, 5]}', r"state: found 5 rows, expected 6, one per frame"),
        ('{"file_name": "a.mp4", "action": [[1,2]], "action_valid": [2]}', r"action: found 1 rows"),
        ('{"file_name": "a.mp4", "text": 3}', r"line 2: text is 3 \(int\), expected a string"),
        ('{"file_name": "a.mp4", "fps": 0}', r"line 2: fps is 0 \(int\), expected a number above 0"),
        ('{"file_name": "a.mp4", "seed": 0.5}', r"line 2: seed is 0.5 \(float\), expected a whole number"),
        ('{"file_name": "a.mp4", "action": [[1, 2], 3]}', r"action, row 1: found 1 values, expected 2"),
        ('{"file_name": "a.mp4", "action": [[1, null], [1, 2]]}', r"action, row 0: found null"),
    ],
)
def test_what_is_wrong_is_named(folder, row, message):
    good = json.dumps({"file_name": "more/b.mp4", "action": A[:4]})
    (folder / "metadata.jsonl").write_text(f"{good}\n{row}\n")
    with pytest.raises(DataError, match=message):
        VideoFolder(folder)


def test_bytes_that_are_no_text_or_table(folder):
    (folder / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"metadata.jsonl: cannot be read as UTF-8"):
        VideoFolder(folder)
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(DataError, match=r"metadata.parquet: cannot be read as parquet"):
        VideoFolder(folder)
    (folder / "metadata.parquet").unlink()
    (folder / "metadata.csv").write_text('file_name,action\na.mp4,"[[1,2]"\n')
    with pytest.raises(DataError, match=r"metadata.csv, line 2: action: not JSON"):
        VideoFolder(folder)
    (folder / "metadata.csv").write_text("file_name,action\na.mp4,1,2\n")
    with pytest.raises(DataError, match=r"metadata.csv, line 2: another number of cells"):
        VideoFolder(folder)


def test_a_label_that_is_no_number_is_named_when_read(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "a.mp4", "action": [1, NaN, 1, 1, 1, NaN]}')
    data = VideoFolder(folder)
    with pytest.raises(DataError, match=r"line 1: action, row 1, dimension 0 \(action_0\): found nan"):
        data.episode(0)


def test_hidden_labels_are_gone_and_the_fingerprint_says_so(folder):
    lines(folder, {"file_name": "a.mp4", "action": A, "state": A, "text": "wipe"})
    data = VideoFolder(folder)
    bare = data.without_labels()
    episode = bare.episode(0)
    assert (episode.actions, episode.proprio, episode.text, bare.action_names) == (None, None, None, None)
    np.testing.assert_array_equal(episode.times, data.episode(0).times)
    assert data.with_labels(1, seed=0).shown == (0,)
    prints = {data.fingerprint(), bare.fingerprint(), VideoFolder(folder, image_size=(8, 8)).fingerprint()}
    assert VideoFolder(folder).fingerprint() in prints
    lines(folder, {"file_name": "a.mp4", "action": A, "state": A, "text": "other"})
    prints.add(VideoFolder(folder).fingerprint())
    assert len(prints) == 4


def test_whatever_a_row_holds_only_our_errors_come(seed):
    """Random values under every key: an episode, or one line that says what is wrong."""
    rng = np.random.default_rng(seed)
    atoms = [0, 1, -1.5, 10**400, float("nan"), float("inf"), True, None, "x", [], [[]], {"a": 1}]
    atoms += [np.zeros((4, 2)), np.array(1.0), np.array(["a"] * 4), np.zeros((4, 0)), np.zeros(4, complex)]
    names = [name for names in FIELDS.values() for name in names]

    def value(depth=0):
        if depth < 3 and rng.random() < 0.5:
            return [value(depth + 1) for _ in range(rng.integers(6))]
        return [[0.5, 1.0]] * int(rng.integers(3, 5)) if rng.random() < 0.3 else atoms[rng.integers(len(atoms))]

    outcomes = set()
    for _ in range(3000):
        row = {"labeller": "m", **{names[rng.integers(len(names))]: value() for _ in range(rng.integers(1, 4))}}
        try:
            labels = fields(row, "here")
            rate_of(labels, "here")
            episode = episode_of(labels, index=0, length=4, times=None, name="d", place="here")
            check_labels(episode, "here", *names_of([(episode, labels, "here")], labels, "here"))
            outcomes.add("read")
        except DataError as error:
            assert str(error).startswith("here")  # noqa: PT017 - both outcomes are right
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
