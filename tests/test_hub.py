"""Model folders: found on disk, pushed to a local Hub and pulled again, and what is not one is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jepa_actions.errors import CheckpointError
from jepa_actions.hub import push_folder, resolve_folder

HERE = Path(__file__).parent


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# card\n")
    (folder / "optimizer.bin").write_bytes(b"not to be pushed")
    return folder


@pytest.fixture(scope="module")
def hub_port():
    command = [sys.executable, str(HERE / "local_hub.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield int(server.stdout.readline())
        server.stdin.close()  # ends it
        server.wait(timeout=10)


SCRIPT = """
import json, sys
import huggingface_hub.constants
from pathlib import Path
from jepa_actions.errors import CheckpointError
from jepa_actions.hub import push_folder, resolve_folder

def message(function, *args, **kwargs):
    try:
        return str(function(*args, **kwargs))
    except CheckpointError as error:
        return str(error)

out = {"pushed": push_folder(sys.argv[1], "someone/model", private=True)}
out["again"] = push_folder(sys.argv[1], "someone/model")
folder = resolve_folder("someone/model")
out["files"] = {p.name: p.read_bytes().hex() for p in folder.iterdir()}
out["pinned"] = resolve_folder("someone/model", revision=out["pushed"].rpartition("/")[2]) == folder
out["absent"] = message(resolve_folder, "someone/absent")
out["revision"] = message(resolve_folder, "someone/model", revision="v9")
out["refused"] = message(resolve_folder, "someone/a--b")
huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
out["no_network"] = message(push_folder, sys.argv[1], "someone/model")
print(json.dumps(out))
"""


def test_push_then_pull(model: Path, hub_port: int, tmp_path: Path):
    env = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub_port}",
        "HF_TOKEN": "hf_x",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout.splitlines()[-1])
    assert out["pushed"].startswith(f"http://127.0.0.1:{hub_port}/someone/model/commit/")
    expected = {p.name: p.read_bytes().hex() for p in model.iterdir() if p.name != "optimizer.bin"}
    assert out["files"] == expected
    assert out["pinned"] is True
    assert out["absent"].startswith("someone/absent: no such folder and no such repository on the Hub")
    assert out["refused"].startswith("someone/a--b: no such folder, and cannot be downloaded from the Hub: ")
    assert out["no_network"].startswith("someone/model: cannot be pushed: ")
    assert out["revision"] == "someone/model: has no revision 'v9' on the Hub"


def test_a_folder_is_used_as_it_is(model: Path):
    assert resolve_folder(model) == model
    assert resolve_folder(str(model)) == model


def test_what_is_not_a_model_is_refused(model: Path, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    for call, expected in (
        (lambda: resolve_folder(empty), f"{empty}: not a saved model, missing *.safetensors"),
        (lambda: resolve_folder(tmp_path), f"{tmp_path}: not a saved model, missing config.json and *.safetensors"),
        (
            lambda: resolve_folder("./no/such/folder"),
            "./no/such/folder: no such folder, and not a Hub id (owner/name, or owner/name@REVISION)",
        ),
        (lambda: resolve_folder(model / "config.json"), f"{model / 'config.json'}: is a file, expected a model folder"),
        (lambda: resolve_folder(model, revision="v1"), f"{model}: is a folder, so it has no revision 'v1'"),
        (lambda: push_folder(empty, "a/b"), f"{empty}: not a saved model, missing *.safetensors"),
        (lambda: push_folder(tmp_path / "x", "a/b"), f"{tmp_path / 'x'}: no such folder"),
        (lambda: push_folder(model, "justaname"), "justaname: not a Hub id, expected owner/name"),
    ):
        with pytest.raises(CheckpointError) as caught:
            call()
        assert str(caught.value) == expected
