"""A process of its own that talks to the Hub of the tests: its client reads the settings once, when imported."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from local_hub import Hub

HEAD = """
import hashlib, json, sys
from pathlib import Path
from jepa_actions.errors import CheckpointError
from jepa_actions.hub import push_folder, resolve_folder

def pull(name, *args, **kwargs):
    try:
        folder = resolve_folder(name, *args, **kwargs)
    except CheckpointError as error:
        return {"error": str(error)}
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    return {"folder": str(folder), "files": files}

def push(folder, name, **kwargs):
    try:
        return {"commit": push_folder(folder, name, **kwargs).rpartition("/")[2]}
    except CheckpointError as error:
        return {"error": str(error)}

out = {}
"""


def sums(folder: Path) -> dict[str, str]:
    """What `pull` gives as `files` of this folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def settings(port: int, home: Path, **more: str) -> dict[str, str]:
    """The environment of a client with a cache of its own."""
    env = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_TOKEN": "hf_x",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    return env | more


def ask(hub: Hub, home: Path, script: str, *argv: object, **more: str) -> dict[str, Any]:
    """What a script leaves in `out`; it finds `pull` and `push` there."""
    command = [sys.executable, "-c", HEAD + script + "\nprint(json.dumps(out))", *map(str, argv)]
    done = subprocess.run(
        command, env=settings(hub.server_port, home, **more), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def begun(hub: Hub, home: Path, script: str, *argv: object) -> subprocess.Popen[str]:
    """The same, still running."""
    command = [sys.executable, "-c", HEAD + script, *map(str, argv)]
    return subprocess.Popen(
        command, env=settings(hub.server_port, home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )


def kill(process: subprocess.Popen[str]) -> None:
    """As the kernel does when memory is short."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)
