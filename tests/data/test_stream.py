"""Streams: every clip once per epoch whoever reads it, the same after an interruption, and what is in a batch."""

import io
import json
import os
import subprocess
import sys
import tarfile
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_writer import write_video

datasets = pytest.importorskip("datasets")

from jepa_actions.data import ActionCodec, Segment, VideoFile, VideoFolder  # noqa: E402
from jepa_actions.data.sources.stream import ClipStream  # noqa: E402
from jepa_actions.data.sources.stream_source import EpisodeStream  # noqa: E402
from jepa_actions.errors import DataError  # noqa: E402

COUNTS = (7, 4, 9, 2, 6, 5)  # the fourth is too short for a clip of 3 frames
SHARDS = ((0, 1, 2), (3, 4), (5,))
CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})
NUMBER = {(shard << 32) + row: e for shard, episodes in enumerate(SHARDS) for row, e in enumerate(episodes)}
CLIPS = Counter((e, start) for e, count in enumerate(COUNTS) for start in range(count - 2))
PART = {"frames": 3, "block": 1, "batch_size": 4, "seed": 5}


@pytest.fixture(autouse=True, scope="module")
def offline(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stream") / "folder"
    rows = []
    for e, count in enumerate(COUNTS):
        write_video(root / f"{e}.mp4", [20 + 9 * f + 25 * e for f in range(count)], 10, (16, 24))
        action = [[float(e), float(f)] for f in range(count)]
        rows.append({"file_name": f"{e}.mp4", "action": action if e != 1 else None, "text": f"do {e}"})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def table(folder):
    root = folder.parent / "table"
    root.mkdir()
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for shard, episodes in enumerate(SHARDS):
        cells = pa.array([{"bytes": (folder / f"{e}.mp4").read_bytes(), "path": None} for e in episodes], CELL)
        columns = {key: [rows[e][key] for e in episodes] for key in ("action", "text")}
        path = root / f"train-{shard:05}-of-{len(SHARDS):05}.parquet"
        pq.write_table(pa.table({"video": cells, **columns, "of_no_interest": list(episodes)}), path)
    return root


@pytest.fixture(scope="module")
def tars(folder):
    root = folder.parent / "tars"
    root.mkdir()
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for shard, episodes in enumerate(SHARDS):
        with tarfile.open(root / f"{shard}.tar", "w") as tar:
            for e in episodes:
                for extension, data in (
                    ("mp4", (folder / f"{e}.mp4").read_bytes()),
                    ("json", json.dumps({"action": rows[e]["action"], "text": rows[e]["text"]}).encode()),
                ):
                    member = tarfile.TarInfo(f"{e:03}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return root


@pytest.fixture(scope="module")
def streams(folder, table, tars):
    return {"folder": EpisodeStream(folder), "table": EpisodeStream(table), "tars": EpisodeStream(tars)}


def clips(batches):
    return [
        (NUMBER[int(e)], int(f)) for batch in batches for e, f in zip(batch.episode, batch.frame[:, 0], strict=True)
    ]


@pytest.mark.parametrize("kind", ["folder", "table", "tars"])
def test_a_batch_is_what_a_loader_would_give(kind, streams, folder):
    stream = streams[kind]
    assert (stream.cameras, stream.image_size("video"), len(stream.action_names)) == (("video",), (16, 24), 2)
    codec = ActionCodec.fit(stream.first(3), [Segment(k, 0, n) for k, n in enumerate((7, 9, 2))], block=2)
    wanted = VideoFolder(folder)
    batch = next(ClipStream(stream, frames=2, block=2, stride=3, batch_size=3, seed=0, codec=codec).prefetch(0, 1))
    assert batch.frame.tolist() == [[0, 2], [3, 5], [0, 2]]
    real = wanted.read_clips(np.array([0, 0, 1]), batch.frame.numpy())["video"]
    assert torch.equal(batch.frames["video"], real)
    assert batch.action_mask.tolist() == [[True], [True], [False]]
    raw = codec.decode(batch.actions[:2])
    np.testing.assert_allclose(raw[:, 0], [[[0, 0], [0, 1]], [[0, 3], [0, 4]]], atol=1e-5)
    assert batch.text == ["do 0", "do 0", "do 1"]
    if kind == "table":
        assert [NUMBER[int(e)] for e in batch.episode] == [0, 0, 1]


@pytest.mark.parametrize("buffer", [0, 1, 3, 50])
def test_every_clip_once_per_epoch(streams, buffer):
    one = ClipStream(streams["table"], shuffle_buffer=buffer, **PART)
    count = CLIPS.total()
    found = clips(one.prefetch(0, 3 * count // 4 + 1))
    for epoch in range(3):
        assert Counter(found[epoch * count : (epoch + 1) * count]) == CLIPS
    first, second = found[:count], found[count : 2 * count]
    assert (first == second) == (buffer == 0)
    if buffer == 50:
        assert sum(a == b for a, b in zip(first, sorted(first), strict=True)) < count // 2
    other = ClipStream(streams["table"], shuffle_buffer=buffer, **{**PART, "seed": 6})
    assert (clips(other.prefetch(0, 6)) == found[:24]) == (buffer == 0)


@pytest.mark.parametrize(("world", "buffer"), [(2, 0), (2, 4), (5, 2)])
def test_ranks_share_an_epoch_and_none_waits(streams, world, buffer):
    """Uneven shards (3, 2 and 1 episodes), more ranks than shards: disjoint, complete, and equally many batches."""
    seen = []
    for rank in range(world):
        part = ClipStream(
            streams["table"], shuffle_buffer=buffer, rank=rank, world_size=world, **{**PART, "batch_size": world}
        )
        seen.append(clips(part.prefetch(0, 24)))
    assert [len(found) for found in seen] == [24] * world
    for epoch in range(2):
        shares = []
        for rank in range(world):
            part = ClipStream(
                streams["table"], shuffle_buffer=buffer, rank=rank, world_size=world, **{**PART, "batch_size": world}
            )
            shares.append([(NUMBER[e.episode.index], s) for e, s, _ in part._epoch(epoch)])
            assert epoch or seen[rank][: len(shares[-1])] == shares[-1]
        assert sum((Counter(share) for share in shares), Counter()) == CLIPS


@pytest.mark.parametrize("buffer", [0, 3])
def test_resumed_is_uninterrupted_and_decodes_nothing_that_was(streams, buffer, monkeypatch):
    def part():
        return ClipStream(streams["table"], shuffle_buffer=buffer, rank=1, world_size=2, **PART)

    whole = list(part().prefetch(0, 16))
    assert part().exact_resume
    decoded = []
    read = VideoFile.read_into
    monkeypatch.setattr(VideoFile, "read_into", lambda self, *a, **k: (decoded.append(1), read(self, *a, **k))[1])
    resumed = part()
    batches = list(resumed.prefetch(11, 16))
    assert 0 < len(decoded) <= 5 * 2 * 2  # two clips a batch; a clip decodes at most two pieces
    again = list(resumed.prefetch(13, 16))  # the same object may begin anywhere
    for one, other in (*zip(whole[11:], batches, strict=True), *zip(whole[13:], again, strict=True)):
        assert torch.equal(one.frames["video"], other.frames["video"])
        assert torch.equal(one.episode, other.episode)
        assert torch.equal(one.frame, other.frame)
        assert one.text == other.text


def test_a_fast_resume_says_that_it_is_not_exact(streams):
    part = ClipStream(streams["table"], shuffle_buffer=3, fast_resume=True, **PART)
    assert not part.exact_resume
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clips(part.prefetch(0, 2))
    with pytest.warns(UserWarning, match=r"resumed at step 9 with fast_resume: a new epoch begins"):
        found = clips(part.prefetch(9, 9 + CLIPS.total() // 4))
    assert max(Counter(found).values()) == 1


def test_copies_of_videos_are_removed(table):
    stream = EpisodeStream(table)
    for _ in ClipStream(stream, shuffle_buffer=2, **PART).prefetch(0, 30):
        assert len(stream._spool._kept) <= 2 + 3 * 4 + 1  # the buffer, and what the batches ahead have just used up
    assert not stream._spool._kept


def test_text_alone_and_unlabelled_streams(folder, tmp_path):
    cells = pa.array([{"bytes": (folder / f"{e}.mp4").read_bytes(), "path": None} for e in range(3)], CELL)
    pq.write_table(pa.table({"clip": cells}), tmp_path / "train.parquet")
    stream = EpisodeStream(tmp_path)
    assert (stream.cameras, stream.action_names, stream.proprio_names) == (("clip",), None, None)
    batch = next(ClipStream(stream, **PART).prefetch(0, 1))
    assert (batch.actions, batch.text) == (None, None)
    with pytest.raises(DataError, match=r"no labelled episode in it"):
        stream.first(2)
    held = stream.first(2, labelled=False)
    assert held.lengths().tolist() == [7, 4]
    assert held.without_labels().episode(0).length == 7
    small = EpisodeStream(tmp_path, image_size=(8, 8))
    assert next(ClipStream(small, **PART).prefetch(0, 1)).frames["clip"].shape == (4, 3, 3, 8, 8)


def test_a_stream_of_the_users_own(folder):
    def rows():
        for e in range(3):
            yield {"video": (folder / f"{e}.mp4").read_bytes(), "action": [[1.0]] * COUNTS[e]}

    stream = EpisodeStream(datasets.IterableDataset.from_generator(rows))
    assert stream.action_names == ("action_0",)
    assert [e.episode.length for e in stream.episodes(0)] == [7, 4, 9]


PRINT = """
import sys, torch
from jepa_actions.data.sources.stream import ClipStream
batches = []
for source in sys.argv[1:3]:
    part = ClipStream(source, frames=3, block=1, batch_size=4, seed=5, shuffle_buffer=3)
    print(part.stream.name)
    batches.append(list(part.prefetch(3, 6)))
for one, other in zip(*batches, strict=True):
    print(torch.equal(one.frames["video"], other.frames["video"]) and torch.equal(one.episode, other.episode))
try:
    ClipStream("me/none", frames=3, block=1, batch_size=4, seed=5)
except ValueError as error:
    print(error)
"""


def test_streamed_from_the_hub(table, tmp_path):
    """The same batches as from the folder; a data set that does not exist is named."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("dataset_hub.py")), str(table), "me/clips"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.stdout.readline().strip()}", "HF_HUB_OFFLINE": "0"}
    env = {**os.environ, **hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    try:
        command = [sys.executable, "-c", PRINT, "me/clips", str(table)]
        told = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=300).stdout
    finally:
        server.stdin.close()
        server.wait(10)
    assert told.splitlines()[:5] == ["me/clips", "table", "True", "True", "True"]
    assert "me/none: datasets cannot stream its split 'train' (DatasetNotFoundError" in told


def write(path, table):
    pq.write_table(pa.table(table), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": pa.array([{"bytes": b"\0" * 99, "path": None}], CELL)}, r"shard 0, row 0, video: cannot be decoded"),
        ({"video": pa.array([{"bytes": None, "path": None}], CELL)}, r"shard 0, row 0, video: found NoneType"),
        ({"action": [[[1.0]]]}, r"shard 0, row 0: action: found 1 rows, expected 6 or 7 for 7 frames"),
        ({"action": [[[float("nan")]] * 7]}, r"shard 0, row 0: action, row 0, dimension 0: found nan"),
        ({"video": ["a.mp4"]}, r"no column of videos, found video, action"),
    ],
)
def test_what_is_wrong_is_named(folder, tmp_path, change, message):
    cell = pa.array([{"bytes": (folder / "0.mp4").read_bytes(), "path": None}], CELL)
    write(tmp_path / "train.parquet", {"video": cell, "action": [[[1.0]] * 7], **change})
    with pytest.raises(DataError, match=message):
        list(islice(EpisodeStream(tmp_path).episodes(0), 3))


def test_later_episodes_must_be_like_the_first(folder, tmp_path):
    cell = pa.array([{"bytes": (folder / f"{e}.mp4").read_bytes(), "path": None} for e in (0, 0)], CELL)
    write(tmp_path / "train.parquet", {"video": cell, "state": [[[1.0]] * 7, [[1.0, 2.0]] * 7]})
    with pytest.raises(DataError, match=r"row 1: state has 2 dimensions, expected 1 as in .*row 0"):
        list(EpisodeStream(tmp_path).episodes(0))
    write_video(tmp_path / "other.mp4", range(20, 90, 10), 10, (24, 24))
    cells = [{"bytes": p.read_bytes(), "path": None} for p in (folder / "0.mp4", tmp_path / "other.mp4")]
    (tmp_path / "other.mp4").unlink()
    write(tmp_path / "train.parquet", {"video": pa.array(cells, CELL)})
    with pytest.raises(DataError, match=r"row 1, video: frames of \(24, 24\), expected \(16, 24\) as in the first"):
        list(EpisodeStream(tmp_path).episodes(0))
    assert len(list(EpisodeStream(tmp_path, image_size=(8, 8)).episodes(0))) == 2


def test_what_cannot_be_streamed(streams, tmp_path, table):
    with pytest.raises(DataError, match=r"datasets cannot stream its split 'train'"):
        EpisodeStream(tmp_path / "absent")
    with pytest.raises(DataError, match=r"datasets cannot stream its split 'test'"):
        EpisodeStream(table, split="test")
    with pytest.raises(DataError, match=r"int given, expected a folder, a Hub id or a datasets.IterableDataset"):
        EpisodeStream(3)
    with pytest.raises(DataError, match=r"no camera 'top', expected video"):
        EpisodeStream(table, cameras=["top"])
    with pytest.raises(DataError, match=r"no clip for rank 0 of 1 in 8 epochs, expected an episode of at least 99"):
        list(ClipStream(streams["folder"], **{**PART, "frames": 99}).prefetch(0, 1))
    with pytest.raises(DataError, match=r"rank 2 of world_size 2 and batch_size 4"):
        ClipStream(streams["table"], rank=2, world_size=2, **PART)
    with pytest.raises(DataError, match=r"batch_size 0"):
        ClipStream(streams["table"], **{**PART, "batch_size": 0})
