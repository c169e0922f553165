"""What we write opens in lerobot 0.4.4, whose pins exclude ours: in an environment of its own.

`JEPA_ACTIONS_LEROBOT_PYTHON` names a Python that has it, or says `install` (about 6 GB, minutes, a temporary folder).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from moving_picture import labels, movie
from own_environment import python_with

from jepa_actions.data.lerobot.copying import copy_dataset
from jepa_actions.data.lerobot.writer import LeRobotWriter
from jepa_actions.data.open import load_dataset
from jepa_actions.data.recorder.record import record
from jepa_actions.data.types import Provenance, VideoDataset
from jepa_actions.envs.gym_vector import TwoRoomVectorEnv

pytestmark = pytest.mark.slow
VARIABLE = "JEPA_ACTIONS_LEROBOT_PYTHON"
HERE = Path(__file__).parent
SIZES = {"front": (64, 96), "wrist": (48, 64)}
LENGTHS = (17, 1, 25, 9, 12)
Items = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def lerobot_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with lerobot 0.4.4."""
    return python_with("lerobot 0.4.4", VARIABLE, ["lerobot==0.4.4"], tmp_path_factory)


def run(python: str, home: Path, *arguments: str) -> None:
    """Run lerobot_items.py there, without a network."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))} | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home),
        "HF_LEROBOT_HOME": str(home),
    }
    command = [python, str(HERE / "lerobot_items.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def items(python: str, root: Path, home: Path, deltas: dict[str, list[float]] | None = None) -> Items:
    """Every item of the data set as lerobot gives it."""
    out = home / f"{root.name}.npz"
    run(python, home, str(root), str(out), *([json.dumps(deltas)] if deltas else []))
    with np.load(out) as arrays:
        return dict(arrays)


def ours(dataset: VideoDataset) -> Items:
    """Every row as our reader gives it: frames, actions (their last row left out by `same`), state, task."""
    rows: dict[str, list[np.ndarray]] = {}
    for i, length in enumerate(dataset.lengths().tolist()):
        episode = dataset.episode(i)
        for camera, clip in dataset.read_clips(np.array([i]), np.arange(length)[None]).items():
            rows.setdefault(camera, []).append(clip[0].numpy())
        fillers = np.full((1, episode.actions.shape[1]), np.nan, np.float32)
        rows.setdefault("action", []).append(np.concatenate([episode.actions, fillers]))
        if episode.proprio is not None:
            rows.setdefault("observation.state", []).append(episode.proprio)
        rows.setdefault("task", []).append(np.full(length, episode.text or ""))
    return {name: np.concatenate(values) for name, values in rows.items()}


def assert_same(theirs: Items, dataset: VideoDataset) -> None:
    mine = ours(dataset)
    assert theirs["episodes"] == len(dataset)
    for camera in dataset.cameras:
        np.testing.assert_array_equal(theirs[camera], mine[camera])
    known = ~np.isnan(mine["action"]).any(axis=1)
    np.testing.assert_array_equal(theirs["action"].reshape(mine["action"].shape)[known], mine["action"][known])
    assert theirs["task"].tolist() == mine["task"].tolist()
    if "observation.state" in mine:
        np.testing.assert_array_equal(theirs["observation.state"], mine["observation.state"])


def write(root: Path, **settings: object) -> list[dict[str, np.ndarray]]:
    """Small files, so that there are several, in several folders."""
    settings = {"fps": 10, "cameras": SIZES, "data_mb": 0.003, "video_mb": 0.006, "chunk_files": 2} | settings
    given = []
    with LeRobotWriter(root, action_names=("dx", "dy"), **settings) as writer:
        for e, length in enumerate(LENGTHS):
            given.append({name: movie(length, size, e + 3 * c) for c, (name, size) in enumerate(SIZES.items())})
            writer.add_episode(given[-1], labels(length, e))
    return given


@pytest.mark.parametrize(("codec", "fps"), [("h264", 10), ("av1", 30), ("h264", 12.5)])
def test_every_item_is_what_we_wrote_and_what_we_read(lerobot_python, tmp_path, codec, fps):
    given = write(tmp_path / "set", codec=codec, fps=fps)
    assert len(list((tmp_path / "set/videos").rglob("*.mp4"))) > 2
    assert len(list((tmp_path / "set/data").rglob("*.parquet"))) > 2
    theirs = items(lerobot_python, tmp_path / "set", tmp_path)
    dataset = load_dataset(tmp_path / "set")
    assert_same(theirs, dataset)
    for name in SIZES:
        frames = np.concatenate([episode[name] for episode in given])
        error = np.abs(theirs[f"observation.images.{name}"].astype(int) - frames).mean(axis=(1, 2, 3))
        print(f"{codec}, {name}: mean error {error.mean():.2f}, worst frame {error.max():.2f} of 255")
        assert error.max() < 5
    every = [labels(length, e) for e, length in enumerate(LENGTHS)]
    valid = theirs["action_valid"] == 1
    np.testing.assert_array_equal(theirs["action"][valid], np.concatenate([episode.actions for episode in every]))
    np.testing.assert_array_equal(theirs["next.reward"][valid], np.concatenate([e.rewards for e in every]))
    states = np.concatenate([episode.simulator_state for episode in every])
    np.testing.assert_array_equal(theirs["simulator.state"], states.astype(np.float32))  # the package's precision


def test_windows_in_time(lerobot_python, tmp_path):
    write(tmp_path / "set")
    front = "observation.images.front"
    theirs = items(lerobot_python, tmp_path / "set", tmp_path, {front: [-0.2, 0, 0.1], "action": [0, 0.1]})
    mine, ends = ours(load_dataset(tmp_path / "set")), np.cumsum(LENGTHS)
    begin = np.repeat(ends - LENGTHS, LENGTHS)
    for k, step in enumerate((-2, 0, 1)):
        there = np.arange(len(begin)) + step
        inside = np.clip(there, begin, begin + np.repeat(LENGTHS, LENGTHS) - 1)
        np.testing.assert_array_equal(theirs[front][:, k], mine[front][inside])
        np.testing.assert_array_equal(theirs[f"{front}_is_pad"][:, k], there != inside)


def test_inferred_actions_are_no_actions_to_it(lerobot_python, tmp_path):
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"front": (64, 64)}) as writer:
        for e, kind in enumerate((Provenance.TRUE, Provenance.PSEUDO, Provenance.LATENT)):
            named = {} if kind == Provenance.TRUE else {"labeller": "model"}
            writer.add_episode({"front": movie(6, (64, 64), e)}, labels(6, e, provenance=kind, **named))
    theirs = items(lerobot_python, tmp_path / "set", tmp_path)
    assert set(theirs["policy_actions"]) == {"action", "action_valid"}
    np.testing.assert_array_equal(theirs["pseudo_action"][6:11], labels(6, 1).actions)
    np.testing.assert_array_equal(theirs["latent_action"][12:17], labels(6, 2).actions)


def test_its_converter_takes_our_older_version(lerobot_python, tmp_path):
    write(tmp_path / "set", version="v2.1")
    dataset = load_dataset(tmp_path / "set")
    before = ours(dataset)
    run(lerobot_python, tmp_path, "--convert", str(tmp_path / "set"))
    assert (tmp_path / "set_old").is_dir()
    converted = load_dataset(tmp_path / "set")
    assert_same(items(lerobot_python, tmp_path / "set", tmp_path), converted)
    after = ours(converted)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    assert converted.episode(3).seed == 103


def test_a_recording_and_a_copy(lerobot_python, tmp_path):
    record(TwoRoomVectorEnv(3), "random", tmp_path / "rooms", episodes=7, max_steps=15, text="go")
    dataset = load_dataset(tmp_path / "rooms")
    assert_same(items(lerobot_python, tmp_path / "rooms", tmp_path), dataset)
    copy_dataset(dataset, tmp_path / "copy", codec="av1", crf=20)
    assert_same(items(lerobot_python, tmp_path / "copy", tmp_path), load_dataset(tmp_path / "copy"))


def test_real_recordings_copied(lerobot_python, tmp_path, real_data):
    source = load_dataset(real_data / "droid_franka").subset([0, 1])
    copy_dataset(source, tmp_path / "droid", codec="h264")
    copied = load_dataset(tmp_path / "droid")
    assert_same(items(lerobot_python, tmp_path / "droid", tmp_path), copied)
    before, after = ours(source), ours(copied)
    for name in ("action", "observation.state", "task"):
        np.testing.assert_array_equal(before[name], after[name])
    for camera in source.cameras:
        error = np.abs(before[camera].astype(int) - after[camera]).mean()
        print(f"{camera}: mean error of the second encoding {error:.2f} of 255")
        assert error < 3
