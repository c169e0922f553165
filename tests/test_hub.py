"""Model folders: found on disk, pushed to a local Hub and pulled again, and what is not one is refused in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import ask, sums
from local_hub import Hub
from tiny_world import tiny_world

from jepa_actions.errors import CheckpointError
from jepa_actions.hub import Source, push_folder, resolve_folder, source_of

CARD = "---\nlicense: apache-2.0\n---\n# card\n"


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny_world().save_pretrained(folder, card=CARD, extra={"scores": {"r2": 0.5}})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"library": "jepa_actions"}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "README.md").write_text(CARD)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_pushed_and_pulled_is_the_same_bit_for_bit(saved: Path, hub: Hub, tmp_path: Path):
    """By command and from Python, in one process, as in a notebook; every revision stays what it was."""
    script = """
import contextlib, io, torch
sys.path.insert(0, sys.argv[2])
from tiny_world import random_frames
from jepa_actions.cli import main
from jepa_actions.models import WorldModel

def told(*argv):
    held, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(held), contextlib.redirect_stderr(errors):
        code = main(argv)
    return [code, held.getvalue(), errors.getvalue()]

def z_of(model):
    with torch.no_grad():
        return model.encode_frames({"image": random_frames(2, 2, 3, 16, 16)})

out["push"] = told("push", sys.argv[1], "someone/model", "--private")
out["pull"] = told("pull", "someone/model@main")
out["verify"] = told("verify", "someone/model")
out["info"] = told("info", "someone/model", "--revision", "main")
saved, pulled = WorldModel.from_pretrained(sys.argv[1]), WorldModel.from_pretrained("someone/model")
out["equal"] = torch.equal(z_of(saved), z_of(pulled))
with torch.no_grad():
    saved.encoder.norm.weight.mul_(2)
first = out["push"][1].strip().rpartition("/")[2]
second = saved.push_to_hub("someone/model", max_shard_size=40_000, extra={"v": 2}).rpartition("/")[2]
opened = [WorldModel.from_pretrained("someone/model", revision=r) for r in (first, second, None)]
opened.append(WorldModel.from_pretrained(f"someone/model@{first}"))
out["weights"] = [float(m.encoder.norm.weight.max()) for m in opened]
out["v"] = [m.extra.get("v") for m in opened]
out["both"], out["none"] = pull(f"someone/model@{first}", second), pull("someone/model@")
out["old"] = told("push", sys.argv[3], "someone/old")
out["allowed"] = told("push", sys.argv[3], "someone/old", "--unverified")
"""
    old = Path(__file__).parent / "models" / "formats" / "v3"
    (tmp_path / "old").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "old" / name).write_bytes((old / name).read_bytes())
    out = ask(hub, tmp_path / "home", script, saved, Path(__file__).parent, tmp_path / "old")
    code, address, _ = out["push"]
    commit = address.strip().rpartition("/")[2]
    assert (code, address) == (0, f"http://127.0.0.1:{hub.server_port}/someone/model/commit/{commit}\n")
    code, folder, errors = out["pull"]
    assert code == 0
    assert f"someone/model at commit {commit}\n" in errors
    assert contents(Path(folder.strip())) == contents(saved)
    assert source_of(Path(folder.strip())) == Source("someone/model", commit)
    assert out["equal"]
    assert out["verify"][0] == 0
    assert json.loads(out["info"][1])["source"] == {"repo_id": "someone/model", "commit": commit}
    assert out["weights"] == [1.0, 2.0, 2.0, 1.0]
    assert out["v"] == [None, 2, 2, None]
    held = hub.repositories["someone/model"]  # the one file of the first push is gone from `main`
    assert "model.safetensors" not in held
    assert "model.safetensors.index.json" in held
    assert "names revision" in out["both"]["error"]
    assert "not a Hub id" in out["none"]["error"]
    assert out["old"][0] == 2
    assert "no checksums.json" in out["old"][2]
    assert out["allowed"][0] == 0
    assert set(hub.repositories["someone/old"]) == {"config.json", "model.safetensors"}


def test_names_and_refusals(model: Path, hub: Hub, tmp_path: Path):
    script = """
out["pushed"] = push(sys.argv[1], "someone/model", private=True)
out["again"] = push(sys.argv[1], "someone/model")
out["pulled"] = pull("someone/model")
out["pinned"] = pull("someone/model", revision=out["pushed"]["commit"])
for key, args in {"absent": ("someone/absent",), "revision": ("someone/model", "v9"), "bad": ("someone/a--b",)}.items():
    out[key] = pull(*args)
import huggingface_hub.constants
huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
out["no_network"] = push(sys.argv[1], "someone/model")
"""
    out = ask(hub, tmp_path / "home", script, model)
    assert out["pushed"] == out["again"]
    assert out["pulled"] == out["pinned"]
    assert out["pulled"]["files"] == sums(model)
    assert out["absent"]["error"].startswith("someone/absent: no such folder and no such repository on the Hub")
    assert out["bad"]["error"].startswith("someone/a--b: no such folder, and cannot be downloaded from the Hub: ")
    assert out["no_network"]["error"].startswith("someone/model: cannot be pushed: ")
    assert out["revision"]["error"] == "someone/model: has no revision 'v9' on the Hub"


def test_offline_opens_what_was_pulled_and_names_the_setting(model: Path, hub: Hub, tmp_path: Path):
    assert "error" not in ask(hub, tmp_path / "home", 'out = push(sys.argv[1], "someone/model")', model)
    commit = hub.commit("someone/model")
    assert "files" in ask(hub, tmp_path / "home", 'out = pull("someone/model")')
    asked = len(hub.asked)
    script = """
out["pulled"], out["pinned"] = pull("someone/model"), pull("someone/model@" + sys.argv[2])
out["other"], out["revision"] = pull("someone/other"), pull("someone/model", "v2")
out["pushed"] = push(sys.argv[1], "a/b")
"""
    out = ask(hub, tmp_path / "home", script, model, commit, HF_HUB_OFFLINE="1")
    assert len(hub.asked) == asked
    assert out["pulled"] == out["pinned"]
    assert len(out["pulled"]["files"]) == 3
    assert out["other"]["error"].startswith(
        "someone/other: no such folder, not in the cache, and HF_HUB_OFFLINE is set"
    )
    assert "not in the cache at revision 'v2', and HF_HUB_OFFLINE is set" in out["revision"]["error"]
    assert out["pushed"]["error"] == "a/b: cannot be pushed: HF_HUB_OFFLINE is set"


def test_without_a_network_the_address_that_was_tried_is_named(hub: Hub, tmp_path: Path):
    out = ask(hub, tmp_path / "home", 'out = pull("someone/model")', HF_ENDPOINT="http://127.0.0.1:9")
    assert "not in the cache, and the Hub (http://127.0.0.1:9) cannot be reached" in out["error"]


def test_another_librarys_repository_is_named_before_its_weights_come(hub: Hub, tmp_path: Path):
    weights = {"model.safetensors": bytes(1000)}
    hub.repositories["someone/bert"] = {"config.json": b'{"model_type": "bert"}', **weights}
    hub.repositories["someone/list"] = {"config.json": b"[1]", **weights}
    hub.repositories["someone/bomb"] = {"config.json": b'{"a":' * 100_000, **weights}
    hub.repositories["someone/pickle"] = {"pytorch_model.bin": b"\x80\x04."}
    script = 'out = {name: pull(f"someone/{name}", library="jepa_actions") for name in sys.argv[1:]}'
    out = ask(hub, tmp_path / "home", script, "bert", "list", "bomb", "pickle")
    assert out["bert"]["error"] == (
        "someone/bert: not a jepa_actions model (config.json, field 'library'); it looks like one of 'bert'"
    )
    assert "someone/list: not a jepa_actions model" in out["list"]["error"]
    assert "someone/bomb: config.json: not valid JSON" in out["bomb"]["error"]
    assert out["pickle"]["error"] == "someone/pickle: not a saved model, the Hub has no config.json in it"
    assert "model.safetensors" not in hub.served
    assert "pytorch_model.bin" not in hub.served


def test_a_file_name_that_leaves_the_cache_is_refused(hub: Hub, tmp_path: Path):
    evil = {"../../../../evil.safetensors": b"x" * 100, "config.json": b'{"library": "jepa_actions"}'}
    hub.repositories["someone/evil"] = evil
    out = ask(hub, tmp_path / "home", 'out = pull("someone/evil")')
    assert out["error"].startswith("someone/evil: ")
    assert not list(tmp_path.rglob("evil.safetensors"))


def test_a_folder_is_used_as_it_is(model: Path):
    assert resolve_folder(model) == model
    assert resolve_folder(str(model)) == model
    assert source_of(model) is None


def test_what_is_not_a_model_is_refused(model: Path, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    pickles = tmp_path / "pickles"
    pickles.mkdir()
    (pickles / "config.json").write_text("{}")
    (pickles / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for call, expected in (
        (lambda: resolve_folder(empty), f"{empty}: not a saved model, missing *.safetensors"),
        (lambda: resolve_folder(tmp_path), f"{tmp_path}: not a saved model, missing config.json and *.safetensors"),
        (
            lambda: resolve_folder(pickles),
            f"{pickles}: not a saved model, missing *.safetensors; pickles such as pytorch_model.bin are never opened",
        ),
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


def test_what_the_checksums_say_is_json_of_their_own(saved: Path):
    facts = json.loads((saved / "checksums.json").read_text())
    assert facts["algorithm"] == "sha256"
    assert facts["files"]["model.safetensors"]["bytes"] == (saved / "model.safetensors").stat().st_size
