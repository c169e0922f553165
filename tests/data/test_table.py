"""Videos inside parquet cells and tars: the frames and labels of plain files, whatever became of their copies."""

import copy
import io
import json
import multiprocessing
import pickle
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_writer import write_video

from jepa_actions.data import VideoDataset, VideoFolder
from jepa_actions.data.sources.table import TableVideos, looks_like_table
from jepa_actions.data.sources.tars import TarVideos, looks_like_tars
from jepa_actions.errors import DataError

CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})
COUNTS = (8, 5, 11, 6)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same episodes as plain files: two cameras, labels in metadata.jsonl."""
    root = tmp_path_factory.mktemp("plain") / "arm"
    rows = []
    for e, count in enumerate(COUNTS):
        for c, camera in enumerate(("front", "wrist")):
            write_video(root / camera / f"{e}.mp4", [20 + 7 * f + 30 * e + 60 * c for f in range(count)], 10, (32, 48))
        actions = np.random.default_rng(e).normal(size=(count, 2)).round(3).tolist()
        rows.append({"file_name": f"{e}.mp4", "action": actions, "reward": [0.5] * count, "text": f"do {e}"})
    rows[2]["action"] = None
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def metadata(root):
    return [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]


def columns(root, rows):
    found = metadata(root)
    cell = {
        c: [{"bytes": (root / c / f"{e}.mp4").read_bytes(), "path": None} for e in rows] for c in ("front", "wrist")
    }
    return {**cell, **{key: [found[e][key] for e in rows] for key in ("action", "reward", "text")}}


@pytest.fixture
def table(plain, tmp_path):
    root = tmp_path / "arm"
    root.mkdir()
    pq.write_table(pa.table(columns(plain, [0, 1, 2])), root / "train-00000-of-00002.parquet", row_group_size=2)
    pq.write_table(pa.table(columns(plain, [3])), root / "train-00001-of-00002.parquet")
    return root


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def tars(plain, tmp_path):
    root = tmp_path / "arm"
    root.mkdir()
    found = metadata(plain)
    for shard, episodes in (("0.tar", (0, 1, 2)), ("1.tar", (3,))):
        with tarfile.open(root / shard, "w") as tar:
            for e in episodes:
                for camera in ("front", "wrist"):
                    add(tar, f"ep/{e:04}.{camera}.mp4", (plain / camera / f"{e}.mp4").read_bytes())
                labels = {key: found[e][key] for key in ("reward",)}
                add(tar, f"ep/{e:04}.json", json.dumps(labels).encode())
                add(tar, f"ep/{e:04}.txt", found[e]["text"].encode() + b"\n")
                if found[e]["action"] is not None:
                    add(tar, f"ep/{e:04}.action.npy", npy(np.array(found[e]["action"])))
                add(tar, f"ep/{e:04}.note.bin", b"of no interest")
    return root


def same(data, plain):
    wanted = VideoFolder(plain, cameras=["front", "wrist"])
    assert isinstance(data, VideoDataset)
    assert (data.name, data.cameras, data.fps) == ("arm", wanted.cameras, wanted.fps)
    assert data.lengths().tolist() == list(COUNTS)
    assert data.action_names == wanted.action_names
    for i in range(4):
        one, other = data.episode(i), wanted.episode(i)
        np.testing.assert_equal((one.actions, one.rewards, one.text), (other.actions, other.rewards, other.text))
        np.testing.assert_allclose(one.times, other.times)
    same_frames(data, wanted)


def same_frames(data, wanted):
    episodes, frames = np.array([3, 0, 2, 1, 2]), np.array([[5, 0], [7, 3], [10, 10], [0, 4], [1, 2]])
    clips, others = data.read_clips(episodes, frames), wanted.read_clips(episodes, frames)
    # By numpy: torch's threads do not survive the fork that a test makes.
    assert all(np.array_equal(clips[camera].numpy(), others[camera].numpy()) for camera in wanted.cameras)


def test_parquet_with_videos(table, plain):
    same(TableVideos(table), plain)
    assert looks_like_table(table)
    assert not looks_like_table(plain)
    assert TableVideos(table / "train-00001-of-00002.parquet").lengths().tolist() == [6]
    assert len(TableVideos(table, split="train")) == 4
    with pytest.raises(DataError, match=r"no parquet file of split 'test'"):
        TableVideos(table, split="test")


def test_tars(tars, plain):
    same(TarVideos(tars), plain)
    assert looks_like_tars(tars)
    assert not looks_like_tars(plain)
    assert TarVideos(tars / "1.tar", cameras=["wrist"]).cameras == ("wrist",)


def test_written_by_datasets(plain, tmp_path):
    """The type that `datasets` notes decides which bytes are videos."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "clip": datasets.Video(decode=False),
            "thumbnail": datasets.Image(decode=False),
            "state": datasets.List(datasets.List(datasets.Value("float32"))),
        }
    )
    files = [plain / "front" / f"{e}.mp4" for e in range(4)]
    rows = {
        "clip": [{"bytes": path.read_bytes(), "path": path.name} for path in files],
        "thumbnail": [{"bytes": b"no video", "path": None}] * 4,
        "state": [np.full((count, 3), 0.5).tolist() for count in COUNTS],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    data = TableVideos(tmp_path)
    assert (data.cameras, data.proprio_names) == (("clip",), ("proprio_0", "proprio_1", "proprio_2"))
    wanted = VideoFolder(plain / "front")
    clips = data.read_clips(np.array([2, 0]), np.array([[10], [3]]))["clip"]
    assert torch.equal(clips, wanted.read_clips(np.array([2, 0]), np.array([[10], [3]]))["video"])


@pytest.mark.parametrize("make", [TableVideos, TarVideos])
def test_copies_come_and_go(make, table, plain, tmp_path, request):
    if make is TarVideos:
        shutil.rmtree(tmp_path / "arm")
        request.getfixturevalue("tars")
    wanted = VideoFolder(plain, cameras=["front", "wrist"])
    data = make(tmp_path / "arm", capacity=1)  # room for none
    spool = data.videos["front"][0].spool
    same_frames(data, wanted)
    same_frames(data, wanted)
    folder = spool._folder
    assert len(list(folder.iterdir())) <= 1
    same_frames(pickle.loads(pickle.dumps(data)), wanted)
    child = multiprocessing.get_context("fork").Process(target=same_frames, args=(data, wanted))
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0
    same_frames(data, wanted)
    del spool, data
    assert not folder.exists()


def test_hidden_labels_and_fingerprint(table, plain):
    data = TableVideos(table)
    bare = data.without_labels()
    assert (bare.episode(0).actions, bare.episode(0).text, bare.action_names) == (None, None, None)
    same_frames(bare, data)
    prints = {data.fingerprint(), bare.fingerprint(), TableVideos(table).fingerprint()}
    changed = columns(plain, [3])
    changed["text"] = ["do something else"]
    pq.write_table(pa.table(changed), table / "train-00001-of-00002.parquet")
    assert len(prints | {TableVideos(table).fingerprint()}) == 3


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("front", [{"bytes": b"\0" * 64, "path": None}], r"00001-of-00002.parquet, row 0, front: cannot be decoded"),
        ("front", pa.array([{"bytes": None, "path": "a.mp4"}], CELL), r"00002.parquet, row 0, front: holds no bytes"),
        (
            "front",
            ["a.mp4"],
            r"00002.parquet: no column of videos 'front' as in train-00000-of-00002.parquet, found wrist",
        ),
        ("action", [[[1.0, 2.0]]], r"00002.parquet, row 0: action: found 1 rows, expected 5 or 6 for 6 frames"),
        ("action", [["left"] * 6], r"row 0: action, row 0: found 'left' \(str\), expected 1 numbers"),
        ("action", [[[1.0]] * 6], r"row 0: action has 1 dimensions, expected 2 as in .*parquet, row 0"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(table, plain, column, value, message):
    changed = {**columns(plain, [3]), column: value}
    pq.write_table(pa.table(changed), table / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=message):
        TableVideos(table)


def test_tables_that_are_none(table, plain, tmp_path):
    with pytest.raises(DataError, match=r"no camera 'top', expected front, wrist"):
        TableVideos(table, cameras=["top"])
    whole = (table / "train-00000-of-00002.parquet").read_bytes()
    (table / "train-00000-of-00002.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet: cannot be read as parquet"):
        TableVideos(table)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other.parquet: no column of video bytes, found a"):
        TableVideos(tmp_path / "other.parquet")


def rewritten(tars, change):
    """The second tar with its members, by name, changed."""
    with tarfile.open(tars / "1.tar") as tar:
        members = {item.name: tar.extractfile(item).read() for item in tar}
    members = change(copy.copy(members))
    with tarfile.open(tars / "1.tar", "w") as tar:
        for name, data in members.items():
            add(tar, name, data)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ep/0003.front.mp4", None, r"1.tar, ep/0003: no camera 'front', found wrist"),
        ("ep/0003.front.mp4", b"\0" * 64, r"1.tar, ep/0003.front.mp4: cannot be decoded"),
        ("ep/0003.json", b"{", r"1.tar, ep/0003.json: cannot be read \(Expecting"),
        ("ep/0003.json", b"[1]", r"1.tar, ep/0003.json: found list, expected an object"),
        ("ep/0003.json", b'{"text": "twice"}', r"ep/0003.txt: 'text' comes a second time"),
        ("ep/0003.action.npy", b"no array", r"ep/0003.action.npy: cannot be read"),
        (
            "ep/0003.action.npy",
            npy(np.array([{}], dtype=object)),
            r"ep/0003.action.npy: cannot be read \(Object arrays",
        ),
        ("ep/0003.action.npy", npy(np.zeros((2, 2))), r"ep/0003: action: found 2 rows, expected 5 or 6 for 6 frames"),
        ("ep/0003.action.npy", npy(np.array(["a"] * 6)), r"ep/0003: action, row 0: found 'a'"),
    ],
)
def test_what_is_wrong_in_a_tar_is_named(tars, name, data, message):
    rewritten(tars, lambda members: {k: v for k, v in {**members, name: data}.items() if v is not None})
    with pytest.raises(DataError, match=message):
        TarVideos(tars)


def test_tars_that_are_none(tars):
    whole = (tars / "1.tar").read_bytes()
    for size in (700, 3000, len(whole) // 2):
        (tars / "1.tar").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"1.tar.*(truncated|cut off)"):
            TarVideos(tars)
    with tarfile.open(tars / "0.tar") as tar:
        second = list(tar)[7].offset
    whole = bytearray((tars / "0.tar").read_bytes())
    whole[second + 150] ^= 1  # in the checksum of a header: the rest of the tar must not be lost without a word
    (tars / "0.tar").write_bytes(whole)
    with pytest.raises(DataError, match=rf"0.tar: cut off or damaged at byte {second}"):
        TarVideos(tars)
    (tars / "0.tar").unlink()
    (tars / "1.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match=r"1.tar: cannot be read as an uncompressed tar"):
        TarVideos(tars)
    with tarfile.open(tars / "1.tar.gz", "w:gz") as tar:
        add(tar, "a.mp4", b"")
    (tars / "1.tar").unlink()
    with pytest.raises(DataError, match=r"1.tar.gz: cannot be read as an uncompressed tar .* can only be streamed"):
        TarVideos(tars)
    for path in tars.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no sample in 0 tars"):
        TarVideos(tars)
