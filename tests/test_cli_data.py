"""`jepa-actions data ...`: exit codes, JSON, one-line errors."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import edit_column, write_lerobot, write_video

from jepa_actions.cli_data import data
from jepa_actions.data import Episode, LeRobotWriter, load_dataset
from jepa_actions.envs import TwoRoomConfig
from jepa_actions.errors import ConfigError, DataError

DATA = "data/chunk-000/file-000.parquet"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("cli") / "robot")


@pytest.fixture
def robot(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "robot"))


def spoil(robot: Path) -> None:
    frames = pq.read_table(robot / DATA)["frame_index"].to_numpy().copy()
    frames[13] = 5
    edit_column(robot / DATA, "frame_index", pa.array(frames))


def test_check_of_a_good_data_set_is_0_and_says_so(robot: Path, capsys: pytest.CaptureFixture[str]):
    assert data(["check", str(robot)]) == 0
    assert capsys.readouterr().out.strip().endswith("0 fatal, 0 warnings")


def test_check_of_a_bad_one_is_1_with_a_line_per_problem(robot: Path, capsys: pytest.CaptureFixture[str]):
    spoil(robot)
    assert data(["check", str(robot)]) == 1
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[1].split()[:3] == ["FATAL", "1", "rows"] or lines[1].split()[:3] == ["FATAL", "1", "labels"]
    assert DATA in lines[1]
    assert lines[-1].endswith("1 fatal, 0 warnings")


def test_check_of_what_is_no_data_set_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert data(["check", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().out


def test_check_json_on_stdout_and_in_a_file(robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spoil(robot)
    assert data(["check", str(robot), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["fatal"], report["warnings"]) == (1, 0)
    assert report["problems"][0]["episode"] == 1
    assert data(["check", str(robot), "--no-decode", "--json", str(tmp_path / "r.json")]) == 1
    assert json.loads((tmp_path / "r.json").read_text())["problems"] == report["problems"]
    with pytest.raises(DataError, match="cannot be written"):
        data(["check", str(robot), "--json", str(tmp_path / "no" / "r.json")])


def test_check_seals_only_what_is_good(robot: Path, capsys: pytest.CaptureFixture[str]):
    sums = robot / "meta" / "checksums.json"
    spoil(robot)
    assert data(["check", str(robot), "--seal"]) == 1
    assert not sums.exists()
    assert "not sealed" in capsys.readouterr().out
    write_lerobot(robot)
    assert data(["seal", str(robot)]) == 0
    assert DATA in json.loads(sums.read_text())["files"]
    (robot / DATA).write_bytes((robot / DATA).read_bytes() + b"\0")
    assert data(["check", str(robot)]) == 1


def test_check_against_a_validation_set(robot: Path, good: Path):
    assert data(["check", str(robot), "--validation", str(good)]) == 1


def test_mistakes_are_one_line(robot: Path):
    for words, said in (
        (["chekc", str(robot)], "expected one of check"),
        (["check", str(robot), "--threads", "0"], "at least 1"),
        (["check", str(robot), "--validatoin", "x"], "did you mean --validation"),
        (["info", str(robot), "--image-size", "0", "9"], "height and width"),
        (["cache", str(robot), "out", "--size", "1", "2", "3"], "height and width"),
        (["record", "No/Such-v0", "out", "--episodes", "1", "--seed", "0"], "gymnasium makes no such environment"),
        (["record", "CartPole-v1", "out", "--episodes", "0", "--seed", "0"], "at least 1"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            data(words)
        assert "\n" not in str(error.value)
    assert data([]) == 0


def test_info_prints_a_table_json_and_a_sheet(robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert data(["info", str(robot), "--sheet", str(tmp_path / "s.png"), "--cameras", "front"]) == 0
    out = capsys.readouterr().out
    assert "2 episodes, 21 frames" in out
    assert "wrist" not in out
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert data(["info", str(robot), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 21


def test_info_needs_no_matplotlib_without_a_sheet(robot: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert data(["info", str(robot)]) == 0


def test_convert_writes_the_same_data_set_again(robot: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert data(["convert", str(robot), str(out), "--version", "v2.1"]) == 0
    before, after = load_dataset(robot), load_dataset(out)
    assert after.lengths().tolist() == before.lengths().tolist()
    assert np.array_equal(after.episode(1).actions, before.episode(1).actions)
    assert data(["check", str(out)]) == 0
    with pytest.raises(DataError, match="holds something"):
        data(["convert", str(robot), str(out)])


def test_cache_decodes_once_and_opens(robot: Path, tmp_path: Path):
    pytest.importorskip("jepa_actions.data.decoded.cache")
    out = tmp_path / "cache"
    assert data(["cache", str(robot), str(out), "--size", "32"]) == 0
    cached, direct = load_dataset(out), load_dataset(robot, image_size=(32, 32))
    frames = np.arange(6)[None]
    for camera, images in cached.read_clips(np.array([1]), frames).items():
        assert images.equal(direct.read_clips(np.array([1]), frames)[camera])


def test_record_plays_an_environment(tmp_path: Path):
    out = tmp_path / "play"
    words = ["record", "jepa_actions/TwoRoom-v0", str(out), "--episodes", "2", "--seed", "3", "--steps", "5"]
    assert data(words) == 0
    assert len(load_dataset(out)) == 2


def test_a_folder_of_videos_has_its_damaged_file_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for k in range(2):
        write_video(tmp_path / f"{k}.mp4", [20 + 5 * j + k for j in range(12)], 10, (32, 32))
    (tmp_path / "1.mp4").write_bytes((tmp_path / "1.mp4").read_bytes()[:300])
    assert data(["check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "1.mp4" in out
    assert "0.mp4" not in out


def test_what_an_interrupted_recording_left_is_finished(tmp_path, capsys):
    writer = LeRobotWriter(tmp_path / "out", fps=10, cameras={"front": (32, 48)})
    writer.add_episode({"front": np.zeros((3, 3, 32, 48), np.uint8)}, Episode(0, 3))
    del writer  # a kill
    assert data(["finish", str(tmp_path / "out")]) == 0
    assert "1 episodes" in capsys.readouterr().out
    assert load_dataset(tmp_path / "out").lengths().tolist() == [3]


def test_a_recording_of_two_room_keeps_the_simulator_s_state(tmp_path):
    out = tmp_path / "play"
    options = ["--episodes", "1", "--seed", "3", "--steps", "3", "--text", "go there"]
    assert data(["record", "jepa_actions/TwoRoom-v0", str(out), *options]) == 0
    episode = load_dataset(out).episode(0)
    assert episode.simulator_state.shape == (4, 4)
    norm = np.linalg.norm(episode.actions, axis=1, keepdims=True)
    moved = episode.actions * np.minimum(1.0, TwoRoomConfig().max_step / norm)  # no wall is near
    assert np.allclose(np.diff(episode.simulator_state[:, :2], axis=0), moved, atol=1e-4)
    assert episode.text == "go there"
