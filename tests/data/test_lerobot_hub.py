"""Hub ids: tables at once, videos as they are needed, within a limit on disk; what the Hub does not give is said."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from lerobot_writer import CAMERAS, write_lerobot
from local_hub import Hub

from jepa_actions.data.lerobot.checksums import seal
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import DataError

SCRIPT = """
import json, pickle, sys
import numpy as np
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import DataError

def message(**options):
    name = options.pop("name", "someone/robot")
    try:
        return LeRobot(name, **options).name
    except DataError as error:
        return str(error)

def videos(data):
    return {p.relative_to(data.root).as_posix(): p.stat().st_size for p in data.root.rglob("*.mp4")}

def clip(data, i, frames=(0, 3)):
    return {c: v.numpy().tolist() for c, v in data.read_clips(np.array([i]), np.array([list(frames)])).items()}

out = {}
data = LeRobot("someone/robot")
out["name"], out["lengths"] = data.name, data.lengths().tolist()
out["actions"] = data.episode(2).actions.tolist()
out["at opening"] = [videos(data), (data.root / "README.md").exists()]
out["commit"] = data.root.name
out["clip"] = clip(data, 1)
out["first use"] = sorted(videos(data))
out["copy"] = clip(pickle.loads(pickle.dumps(data)), 1)
limit = int(sys.argv[1])
small = LeRobot("someone/robot", revision=data.root.name, disk_limit=limit)
out["clips"], out["bytes"] = [], []
for i in (0, 1, 2, 0, 2):
    out["clips"].append(clip(small, i))
    out["bytes"].append(sum(videos(small).values()))
both = small.read_clips(np.array([0, 1, 2]), np.array([[0], [1], [2]]))
out["together"] = {c: v.numpy().tolist() for c, v in both.items()}
out["after"] = sum(videos(small).values())
out["print"] = data.fingerprint() == LeRobot("someone/robot").fingerprint()
sealed = LeRobot("someone/sealed")
out["sealed"] = clip(sealed, 0) == clip(data, 0)
try:
    clip(LeRobot("someone/damaged"), 0)
except DataError as error:
    out["damaged"] = str(error)
try:
    clip(LeRobot("someone/gone"), 0)
except DataError as error:
    out["gone"] = str(error)
out["absent"] = message(name="someone/absent")
out["revision"] = message(revision="v9")
out["limit"] = message(disk_limit=0)
for p in data.root.rglob("episode_000001.mp4"):  # which of them the limit left is a matter of threads
    p.unlink()
print(json.dumps(out))
"""

OFFLINE = """
import sys
import numpy as np
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import DataError

data = LeRobot("someone/robot")
print(data.lengths().tolist())
for name in ("someone/robot", "someone/other"):
    try:
        LeRobot(name).read_clips(np.array([1]), np.array([[0]]))
    except DataError as error:
        print(error)
"""


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub") / "robot"
    return write_lerobot(root, version="v2.1", lengths=(5, 6, 7))


@pytest.fixture(scope="module")
def served(local, tmp_path_factory):
    """What a process with nothing in its cache made of the Hub, then one without the Hub."""
    hub = Hub()
    hub.repositories["datasets/someone/robot"] = {**files(local), "README.md": b"about"}
    seal(local)
    sealed = files(local)
    hub.repositories["datasets/someone/sealed"] = sealed
    video = f"videos/chunk-000/{CAMERAS[0]}/episode_000000.mp4"
    bad = bytearray(sealed[video])
    bad[len(bad) // 2] ^= 1
    hub.repositories["datasets/someone/damaged"] = {**sealed, video: bytes(bad)}
    hub.repositories["datasets/someone/gone"] = {
        k: v for k, v in files(local).items() if k != video and "sums" not in k
    }
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    env = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
    }
    env.pop("HF_HUB_OFFLINE", None)
    limit = str(3 * max(len(data) for name, data in sealed.items() if name.endswith(".mp4")))
    command = [sys.executable, "-c", SCRIPT, limit]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    hub.shutdown()
    hub.server_close()
    command = [sys.executable, "-c", OFFLINE]
    offline = subprocess.run(
        command, env={**env, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert offline.returncode == 0, offline.stderr
    return json.loads(done.stdout) | {"max": int(limit), "offline": offline.stdout.splitlines()}


def clip(root, i, frames=(0, 3)):
    data = LeRobot(root)
    return {c: v.numpy().tolist() for c, v in data.read_clips(np.array([i]), np.array([list(frames)])).items()}


def test_tables_come_at_once_and_videos_when_they_are_needed(served, local):
    assert served["name"] == "someone/robot"
    assert served["lengths"] == [5, 6, 7]
    assert served["actions"] == LeRobot(local).episode(2).actions.tolist()
    assert served["at opening"] == [{}, False]
    assert len(served["commit"]) == 40
    assert served["first use"] == sorted(f"videos/chunk-000/{camera}/episode_000001.mp4" for camera in CAMERAS)
    assert served["clip"] == served["copy"] == clip(local, 1)
    assert served["print"]


def test_no_more_than_the_limit_stays_on_disk(served, local):
    assert served["clips"] == [clip(local, i) for i in (0, 1, 2, 0, 2)]
    assert all(0 < size <= served["max"] for size in served["bytes"])
    whole = LeRobot(local).read_clips(np.array([0, 1, 2]), np.array([[0], [1], [2]]))
    assert served["together"] == {c: v.numpy().tolist() for c, v in whole.items()}, "more than the limit at once"
    assert served["after"] <= served["max"]


def test_what_the_hub_gives_is_checked_too(served):
    assert served["sealed"]
    assert f"{CAMERAS[0]}/episode_000000.mp4: damaged, sha256" in served["damaged"]


def test_what_the_hub_does_not_give_is_said_in_one_line(served):
    assert (
        "someone/gone: videos/chunk-000/observation.images.front/episode_000000.mp4: the Hub does not" in served["gone"]
    )
    assert "someone/absent: no such folder, and the Hub gives no data set of this name" in served["absent"]
    assert "at revision 'v9'" in served["revision"]
    assert "disk_limit 0, expected a number of bytes" in served["limit"]
    assert all("\n" not in served[key] for key in ("gone", "absent", "revision", "damaged"))


def test_without_the_hub_what_was_fetched_still_opens(served):
    lengths, video, other = served["offline"]
    assert lengths == "[5, 6, 7]"
    assert "the Hub does not give this video of camera" in video
    assert other.startswith("someone/other: no such folder, and the Hub gives no data set of this name")


def test_a_folder_takes_neither_revision_nor_limit(local):
    with pytest.raises(DataError, match="is a folder, so it takes no revision"):
        LeRobot(local, revision="main")
    copied = pickle.loads(pickle.dumps(LeRobot(local)))
    assert copied.episode(1).text == "task 1"
    assert Path(copied.root) == local
