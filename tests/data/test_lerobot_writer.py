"""What is written reads back: frames, labels, provenance, file layout; and what may not be written is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from moving_picture import labels, movie

from jepa_actions.data.lerobot import layout as lerobot_layout
from jepa_actions.data.lerobot import parts as lerobot_parts
from jepa_actions.data.lerobot import write_v21 as lerobot_write_v21
from jepa_actions.data.lerobot import writer as lerobot_writer
from jepa_actions.data.lerobot.checksums import verify
from jepa_actions.data.lerobot.copying import copy_dataset
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.data.lerobot.writer import LeRobotWriter, finish_interrupted
from jepa_actions.data.open import load_dataset
from jepa_actions.data.types import Episode, Provenance
from jepa_actions.errors import DataError, ShapeError

SIZES = {"front": (48, 64), "wrist": (32, 32)}
LENGTHS = (7, 1, 12, 5)
NAMES = {"action_names": ("dx", "dy"), "proprio_names": ("x", "y", "yaw")}


def write(
    root: Path, lengths: tuple[int, ...] = LENGTHS, **settings: object
) -> list[tuple[dict[str, np.ndarray], Episode]]:
    """A small data set, and what was given to the writer."""
    given = []
    with LeRobotWriter(root, **({"fps": 10, "cameras": SIZES} | NAMES | settings)) as writer:
        for e, length in enumerate(lengths):
            frames = {name: movie(length, size, e + 3 * c) for c, (name, size) in enumerate(SIZES.items())}
            given.append((frames, labels(length, e)))
            writer.add_episode(*given[-1])
    return given


def read_frames(dataset: object, i: int, length: int) -> dict[str, np.ndarray]:
    clips = dataset.read_clips(np.array([i]), np.arange(length)[None])
    return {camera.removeprefix("observation.images."): clip[0].numpy() for camera, clip in clips.items()}


def assert_frames(found: np.ndarray, given: np.ndarray) -> None:
    """Each is the one given for it, within what compression changes, and nearest to that one."""
    apart = np.abs(found[:, None].astype(int) - given[None]).mean((2, 3, 4))
    assert apart.diagonal().max() < 5, apart.diagonal()
    assert apart.argmin(axis=1).tolist() == list(range(len(found)))


def assert_same(dataset: object, given: list[tuple[dict[str, np.ndarray], Episode]]) -> None:
    assert dataset.lengths().tolist() == [episode.length for _, episode in given]
    for i, (frames, episode) in enumerate(given):
        for camera, pictures in read_frames(dataset, i, episode.length).items():
            assert_frames(pictures, frames[camera])
        found = dataset.episode(i)
        np.testing.assert_array_equal(found.actions, episode.actions)
        np.testing.assert_array_equal(found.proprio, episode.proprio)
        np.testing.assert_array_equal(found.rewards, episode.rewards)
        np.testing.assert_array_equal(found.simulator_state, episode.simulator_state)
        assert (found.text, found.seed) == (episode.text, episode.seed)


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_what_is_written_reads_back(tmp_path, version, codec):
    given = write(tmp_path / "set", version=version, codec=codec)
    dataset = load_dataset(tmp_path / "set")
    assert (dataset.fps, dataset.action_names, dataset.proprio_names) == (10, *NAMES.values())
    assert_same(dataset, given)
    assert verify(tmp_path / "set") == []
    assert not [path for path in (tmp_path / "set").rglob(".*")]


def test_small_limits_make_many_files_and_chunks(tmp_path):
    given = write(tmp_path / "set", lengths=(9,) * 8, data_mb=0.002, video_mb=0.006, chunk_files=2)
    assert_same(load_dataset(tmp_path / "set"), given)
    for pattern in ("data/*/*.parquet", "videos/*front/*/*.mp4", "meta/episodes/*/*.parquet"):
        files = sorted((tmp_path / "set").glob(pattern))
        assert len(files) > 2, files
        assert {path.stem for path in files} == {"file-000", "file-001"}
    rows = [pq.read_table(path) for path in sorted((tmp_path / "set").glob("meta/episodes/*/*.parquet"))]
    ends = np.concatenate([table["dataset_to_index"].to_numpy() for table in rows])
    assert ends.tolist() == list(range(9, 73, 9))


@pytest.mark.parametrize(
    ("version", "facts"), [("v3.0", {"chunk": 0, "file": 0, "frames": 25}), ("v2.1", {"episode": 2, "frames": 12})]
)
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_video_says_whose_it_is_and_every_second_frame_is_a_key_frame(tmp_path, version, facts, codec):
    write(tmp_path / "set", version=version, codec=codec)
    [path] = (tmp_path / "set" / "videos").rglob("*front/*/file-000.mp4" if version == "v3.0" else "*front/*2.mp4")
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["comment"]) == {"camera": "observation.images.front", **facts}
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert len(packets) == facts["frames"]
    assert all(packet.pts == packet.dts for packet in packets)  # no frame refers to a later one
    assert all(a.is_keyframe or b.is_keyframe for a, b in pairwise(packets))
    times = [float(packet.pts * packet.time_base) for packet in packets]
    np.testing.assert_allclose(times, np.arange(len(times)) / 10, atol=1e-6)


def test_rows_are_as_many_as_frames_and_the_last_action_is_not_valid(tmp_path):
    write(tmp_path / "set")
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert table.num_rows == sum(LENGTHS)
    last = np.cumsum(LENGTHS) - 1
    valid = table["action_valid"].to_numpy()
    assert np.flatnonzero(valid == 0).tolist() == last.tolist()
    actions = np.array(table["action"].to_pylist())
    for row, length in zip(last, LENGTHS, strict=True):
        np.testing.assert_array_equal(actions[row], actions[row - 1] if length > 1 else [0, 0])


def test_pages_carry_checksums(tmp_path):
    write(tmp_path / "set")
    path = tmp_path / "set/data/chunk-000/file-000.parquet"
    column = pq.read_metadata(path).row_group(0).column(0)
    damaged = bytearray(path.read_bytes())
    damaged[4 + column.total_compressed_size - 2] ^= 4  # the end of the column's last page
    path.write_bytes(damaged)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_statistics_are_those_of_the_rows(tmp_path):
    given = write(tmp_path / "set")
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    actions = np.concatenate([episode.actions for _, episode in given])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["max"], actions.max(0))
    assert stats["action"]["count"] == [len(actions)]  # not the fillers
    pixels = np.concatenate([frames["front"] for frames, _ in given]) / 255
    image = stats["observation.images.front"]
    assert np.shape(image["mean"]) == (3, 1, 1)
    assert image["count"] == [sum(LENGTHS)]
    np.testing.assert_allclose(np.ravel(image["mean"]), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(np.ravel(image["std"]), pixels.std((0, 2, 3)), rtol=1e-6)
    episodes = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    np.testing.assert_allclose(
        episodes["stats/action/q50"].to_pylist()[0], np.quantile(given[0][1].actions, 0.5, axis=0), rtol=1e-6
    )


def test_inferred_actions_never_come_into_the_plain_column(tmp_path):
    length = 8
    origin = np.array([0, 0, 1, 1, 0, 1, 0])
    mask = np.array([1, 1, 1, 1, 0, 1, 1], dtype=bool)
    mixed = labels(length, 0, provenance=origin, labeller="vpt/a", action_mask=mask)
    pseudo = labels(length, 1, provenance=Provenance.PSEUDO, labeller="vpt/b")
    latent = labels(
        length, 2, actions=np.ones((length - 1, 5), np.float32), provenance=Provenance.LATENT, labeller="lapo"
    )
    bare = labels(length, 3, actions=None)
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"front": (32, 32)}, **NAMES) as writer:
        for episode in (mixed, pseudo, latent, bare):
            writer.add_episode({"front": movie(length, (32, 32), 0)}, episode)
    features = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]
    assert features["pseudo_action"]["info"] == {"provenance": "pseudo", "model": "vpt/a"}
    assert features["pseudo_action.vpt_b"]["info"] == {"provenance": "pseudo", "model": "vpt/b"}
    assert features["latent_action"]["info"] == {"provenance": "latent", "model": "lapo"}
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pydict()
    rows = {name: np.array(values).reshape(4, length, -1) for name, values in table.items()}
    true = np.append((origin == 0) & mask, False)
    np.testing.assert_array_equal(rows["action_valid"][0, :, 0], true)
    np.testing.assert_array_equal(rows["action"][0][true], mixed.actions[true[:-1]])
    assert not rows["action_valid"][1:].any()
    assert not rows["action"][1:].any()
    for step in np.flatnonzero(origin == 1):  # no trace of an inferred action
        assert (rows["action"] != mixed.actions[step]).all()
    np.testing.assert_array_equal(rows["pseudo_action"][0, :-1][origin == 1], mixed.actions[origin == 1])
    np.testing.assert_array_equal(rows["pseudo_action_valid"][0, :-1, 0], origin)
    np.testing.assert_array_equal(rows["pseudo_action.vpt_b"][1, :-1], pseudo.actions)
    np.testing.assert_array_equal(rows["latent_action"][2, :-1], latent.actions)
    with pytest.raises(DataError, match="another name"):
        LeRobotWriter(
            tmp_path / "no", fps=10, cameras={"front": (32, 32)}, features={"action.mine": {"dtype": "float32"}}
        )


@pytest.mark.parametrize("copied", [False, True])
def test_provenance_reads_back(tmp_path, copied):
    origin, mask = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 1], dtype=bool)
    mixed = labels(5, 0, provenance=origin, labeller="vpt", action_mask=mask)
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"front": (32, 32)}, **NAMES) as writer:
        writer.add_episode({"front": movie(5, (32, 32), 0)}, mixed)
        writer.add_episode({"front": movie(5, (32, 32), 1)}, labels(5, 1))
    dataset = LeRobot(tmp_path / "set", pseudo="pseudo_action")
    if copied:
        copy_dataset(dataset, tmp_path / "copy", version="v2.1")
        dataset = LeRobot(tmp_path / "copy", pseudo="pseudo_action")
    found, true = dataset.episode(0), dataset.episode(1)
    assert found.labelled().tolist() == mask.tolist()
    assert found.origins()[mask].tolist() == origin[mask].tolist()
    np.testing.assert_array_equal(found.actions[mask], mixed.actions[mask])
    assert found.labeller == "vpt"
    assert (true.origins() == Provenance.TRUE).all()


def test_a_data_set_of_inferred_actions_has_no_plain_column(tmp_path):
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"front": (32, 32)}) as writer:
        writer.add_episode({"front": movie(5, (32, 32), 0)}, labels(5, 0, provenance=Provenance.PSEUDO, labeller="m"))
    assert "action" not in json.loads((tmp_path / "set/meta/info.json").read_text())["features"]
    assert load_dataset(tmp_path / "set").action_names is None


def test_whole_numbers_one_dimension_and_further_columns(tmp_path):
    actions = np.array([[0], [2], [1], [2]], np.float32)
    episode = Episode(0, 5, actions=actions)
    extra = {"force": {"dtype": "float32", "shape": (2,)}, "contact": {"dtype": "bool"}}
    with LeRobotWriter(tmp_path / "set", fps=5, cameras={"front": (32, 32)}, discrete=[3], features=extra) as writer:
        columns = {"force": np.arange(10).reshape(5, 2), "contact": np.arange(5) > 2}
        writer.add_episode({"front": torch.from_numpy(movie(5, (32, 32), 0))}, episode, columns=columns)
    feature = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["action"]
    assert (feature["dtype"], feature["shape"], feature["info"]) == ("int64", [1], {"discrete": 3})
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert str(table.schema.field("action").type) == "int64"
    assert table["force"].to_pylist()[2] == [4, 5]
    assert table["contact"].to_pylist() == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(load_dataset(tmp_path / "set").episode(0).actions, actions)


def test_episodes_open_at_once_keep_the_order_in_which_they_began(tmp_path):
    def fill(writer: LeRobotWriter, order: list[int]) -> None:
        open_ = [writer.begin() for _ in range(4)]
        for e, episode in enumerate(open_):
            for frame in movie(4 + e, (32, 32), e):
                episode.add_frame({"front": frame})
        for e in order:
            open_[e].finish(labels(4 + e, e))
        open_[2].discard()

    for name, order in (("a", [0, 1, 3]), ("b", [3, 0, 1])):
        with LeRobotWriter(tmp_path / name, fps=10, cameras={"front": (32, 32)}, video_mb=0.003) as writer:
            fill(writer, order)
    assert load_dataset(tmp_path / "a").lengths().tolist() == [4, 5, 7]
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*") if path.is_file())
    assert len([path for path in files if path.suffix == ".mp4"]) > 1
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def interrupted(root: Path, episodes: int) -> None:
    with LeRobotWriter(root, fps=10, cameras={"a": (32, 32)}) as writer:
        for e in range(episodes):
            writer.add_episode({"a": movie(5, (32, 32), e)}, labels(5, e))
        writer.begin().add_frame({"a": movie(1, (32, 32), 1)[0]})
        raise KeyboardInterrupt


def test_an_error_keeps_the_finished_episodes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "set", 1)
    assert load_dataset(tmp_path / "set").lengths().tolist() == [5]
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "none", 0)
    assert list((tmp_path / "none").iterdir()) == []


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from moving_picture import labels, movie
from jepa_actions.data.lerobot.writer import LeRobotWriter
writer = LeRobotWriter(sys.argv[1], fps=10, cameras={"a": (32, 32)}, video_mb=0.004)
for e in range(4):
    writer.add_episode({"a": movie(6, (32, 32), e)}, labels(6, e))
episode = writer.begin()
episode.add_frame({"a": movie(1, (32, 32), 0)[0]})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_data_set_but_one_that_can_be_finished(tmp_path):
    here = [str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "set"), *here], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(DataError, match="info"):
        load_dataset(tmp_path / "set")
    with pytest.raises(DataError, match="finish_interrupted"):
        LeRobotWriter(tmp_path / "set", fps=10, cameras={"a": (32, 32)})
    assert finish_interrupted(tmp_path / "set") == 4
    dataset = load_dataset(tmp_path / "set")
    assert dataset.lengths().tolist() == [6] * 4
    for e in range(4):
        assert_frames(read_frames(dataset, e, 6)["a"], movie(6, (32, 32), e))
        np.testing.assert_array_equal(dataset.episode(e).actions, labels(6, e).actions)
    assert not (tmp_path / "set" / lerobot_parts.WORK).exists()
    assert verify(tmp_path / "set") == []
    with pytest.raises(DataError, match="no unfinished"):
        finish_interrupted(tmp_path / "set")


STEPS = [  # of putting a data set together, and the call at which it is stopped
    ("v3.0", lerobot_layout, "join", 1),
    ("v3.0", lerobot_layout, "write_stats", 1),
    ("v3.0", lerobot_layout, "_write_tasks", 1),
    ("v3.0", lerobot_parts, "write_text", 1),
    ("v3.0", lerobot_writer, "seal", 1),
    ("v3.0", lerobot_parts, "drop_work", 1),
    ("v2.1", lerobot_write_v21, "join", 2),
    ("v2.1", lerobot_write_v21, "write_stats", 1),
]


@pytest.mark.parametrize(("version", "module", "step", "call"), STEPS)
def test_a_stop_at_any_step_of_the_end_can_be_finished(tmp_path, monkeypatch, version, module, step, call):
    real, calls = getattr(module, step), []

    def stops(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == call:
            if step == "drop_work":
                shutil.rmtree(tmp_path / "set" / lerobot_parts.WORK / "episode-000001")
            raise SystemExit
        return real(*arguments)

    writer = LeRobotWriter(tmp_path / "set", fps=10, cameras={"a": (32, 32)}, video_mb=0.003, version=version)
    for e in range(4):
        writer.add_episode({"a": movie(6, (32, 32), e)}, labels(6, e))
    with monkeypatch.context() as patch:
        patch.setattr(module, step, stops)
        with pytest.raises(SystemExit):
            writer.finalize()
    assert finish_interrupted(tmp_path / "set") == 4
    dataset = load_dataset(tmp_path / "set")
    assert dataset.lengths().tolist() == [6] * 4
    for e in range(4):
        assert_frames(read_frames(dataset, e, 6)["a"], movie(6, (32, 32), e))
    assert verify(tmp_path / "set") == []
    assert not (tmp_path / "set" / lerobot_parts.WORK).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": {"a": (33, 32)}}, "even numbers"),
        ({"cameras": {}}, "at least one"),
        ({"cameras": {"a": (32, 32), "observation.images.a": (32, 32)}}, "each once"),
        ({"codec": "vp9"}, "h264, av1"),
        ({"version": "v1.6"}, "v3.0, v2.1"),
        ({"fps": 0}, "positive"),
        ({"features": {"timestamp": {"dtype": "float32"}}}, "another name"),
    ],
)
def test_settings_that_cannot_be(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        LeRobotWriter(tmp_path / "set", **({"fps": 10, "cameras": {"a": (32, 32)}} | change))
    assert not (tmp_path / "set").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="holds something"):
        LeRobotWriter(tmp_path, fps=10, cameras={"a": (32, 32)})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("frames", "episode", "message"),
    [
        ({"a": movie(5, (32, 32), 0)}, labels(6, 0), "labels of 6 frames"),
        ({"a": movie(5, (16, 32), 0)}, labels(5, 0), "expected uint8"),
        ({"a": movie(5, (32, 32), 0) / 255}, labels(5, 0), "expected uint8"),
        ({"b": movie(5, (32, 32), 0)}, labels(5, 0), "cameras"),
        ({"a": movie(5, (32, 32), 0)}, labels(5, 0, actions=np.ones((4, 3), np.float32)), "expected 2"),
        ({"a": movie(5, (32, 32), 0)}, labels(5, 0, actions=np.full((4, 2), np.nan, np.float32)), "finite"),
        ({"a": movie(5, (32, 32), 0)}, labels(5, 0, proprio=None), "lacks observation.state"),
        ({"a": movie(5, (32, 32), 0)}, labels(5, 0, times=np.array([0, 0.1, 0.2, 0.4, 0.5])), "resample"),
    ],
)
def test_a_refused_episode_leaves_no_trace(tmp_path, frames, episode, message):
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"a": (32, 32)}, **NAMES) as writer:
        writer.add_episode({"a": movie(4, (32, 32), 0)}, labels(4, 0))
        with pytest.raises((DataError, ShapeError), match=message):
            writer.add_episode(frames, episode)
        writer.add_episode({"a": movie(4, (32, 32), 0)}, labels(4, 1))
    assert load_dataset(tmp_path / "set").lengths().tolist() == [4, 4]


def test_cameras_of_different_lengths_and_streams(tmp_path):
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"a": (32, 32), "b": (32, 32)}) as writer:
        long, short = movie(5, (32, 32), 0), movie(4, (32, 32), 1)
        for pair in ({"a": long, "b": short}, {"a": iter(long), "b": iter(short)}):
            with pytest.raises(ShapeError, match="as many"):
                writer.add_episode(pair)
        writer.add_episode({"a": iter(long), "b": (frame for frame in long)}, labels(5, 0), text="look", seed=0)
    episode = load_dataset(tmp_path / "set").episode(0)
    assert (episode.text, episode.seed) == ("look", 0)


@pytest.mark.parametrize(("first", "second"), [("v2.1", "v3.0"), ("v3.0", "v2.1")])
def test_a_copy_in_the_other_version_holds_the_same(tmp_path, first, second):
    given = write(tmp_path / "a", version=first)
    copy_dataset(load_dataset(tmp_path / "a"), tmp_path / "b", version=second, at_once=5)
    assert json.loads((tmp_path / "b/meta/info.json").read_text())["codebase_version"] == second
    assert_same(load_dataset(tmp_path / "b"), given)


def test_a_copy_keeps_what_the_first_says_of_its_actions(tmp_path):
    kinds = {"a": {"discrete": [3, 4]}, "b": {"action_bounds": ([0, 0], [2, 3])}}
    for name, said in kinds.items():
        with LeRobotWriter(tmp_path / name, fps=5, cameras={"x": (32, 32)}, robot_type="arm", **said) as writer:
            writer.add_episode(
                {"x": movie(3, (32, 32), 0)}, Episode(0, 3, actions=np.array([[0, 3], [2, 1]], np.float32))
            )
        copy_dataset(load_dataset(tmp_path / name), tmp_path / f"{name}2")
        infos = [json.loads((tmp_path / folder / "meta/info.json").read_text()) for folder in (name, f"{name}2")]
        assert infos[0] == infos[1]
        assert infos[0]["features"]["action"]["info"]


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    write(tmp_path / "a", video_mb=0.005)
    dataset = load_dataset(tmp_path / "a")
    read = dataset.read_clips

    def broken(episodes: np.ndarray, frames: np.ndarray) -> dict[str, torch.Tensor]:
        if episodes[0] == 3:
            raise DataError("damaged")
        return read(episodes, frames)

    dataset.read_clips = broken
    with pytest.raises(DataError, match="damaged"):
        copy_dataset(dataset, tmp_path / "b", video_mb=0.001)
    assert list((tmp_path / "b").iterdir()) == []
    assert os.listdir(tmp_path / "a")
