"""A Hub that is slow, breaks off, answers 500, or sends something else: transfers resume or fail in one line that names
the file, and nothing half-written is taken for a model."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_client import ask, begun, kill, sums
from local_hub import Faults, Hub
from safetensors.torch import save_file

from jepa_actions.hub import seal

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing here looks into the files: their names, sizes and checksums are enough."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps({"library": "jepa_actions"}))
    (folder / "README.md").write_text("# card\n")
    save_file({"a": torch.randn(100_000, generator=torch.Generator().manual_seed(0))}, folder / WEIGHTS)
    seal(folder, ["config.json", WEIGHTS])
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client writes ten megabytes at a time: what is smaller begins anew."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "config.json").write_text(json.dumps({"library": "jepa_actions"}))
    save_file({"a": torch.randn(6_000_000, generator=torch.Generator().manual_seed(0))}, folder / WEIGHTS)
    seal(folder, ["config.json", WEIGHTS])
    return folder


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    made = Hub()
    made.repositories["someone/model"] = {path.name: path.read_bytes() for path in model.iterdir()}
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def whole(out: dict, model: Path) -> bool:
    return bool(out.get("files") == sums(model))


PULL = 'out = pull("someone/model")'
TWICE = 'out["first"], out["second"] = pull("someone/model"), pull("someone/model")'


def test_a_slow_hub(hub: Hub, model: Path, tmp_path: Path):
    hub.faults = Faults(file=WEIGHTS, slow=200_000)
    start = time.monotonic()
    assert whole(ask(hub, tmp_path, PULL), model)
    assert time.monotonic() - start > 400_000 / 200_000 * 0.9


def test_a_body_that_breaks_off_is_resumed_where_it_was(hub: Hub, model: Path, large: Path, tmp_path: Path):
    hub.faults = Faults(file=WEIGHTS, cut=2)
    assert whole(ask(hub, tmp_path, PULL), model)
    hub.repositories["someone/model"] = {path.name: path.read_bytes() for path in large.iterdir()}
    hub.asked.clear()
    hub.faults = Faults(file=WEIGHTS, cut=1)
    assert whole(ask(hub, tmp_path, PULL), large)
    (begun_at,) = [asked.range for asked in hub.asked if asked.range and asked.path.endswith(WEIGHTS)]
    assert int(begun_at.removeprefix("bytes=").removesuffix("-")) >= 10_000_000


def test_a_client_killed_in_the_middle_leaves_no_model_and_pulls_again(hub: Hub, large: Path, tmp_path: Path):
    hub.repositories["someone/model"] = {path.name: path.read_bytes() for path in large.iterdir()}
    hub.faults = Faults(file=WEIGHTS, slow=6_000_000)
    running = begun(hub, tmp_path, PULL)
    until = time.monotonic() + 60
    while not any(path.stat().st_size > 1_000_000 for path in tmp_path.rglob("*.incomplete")):
        assert time.monotonic() < until
        assert running.poll() is None
        time.sleep(0.05)
    kill(running)
    assert any(path.name == "config.json" for path in tmp_path.rglob("config.json"))  # so far it came
    out = ask(hub, tmp_path, PULL, HF_HUB_OFFLINE="1")
    assert out["error"].startswith("someone/model: the cache holds only a part of it, and HF_HUB_OFFLINE is set")
    hub.faults = Faults()
    assert whole(ask(hub, tmp_path, PULL), large)


@pytest.mark.parametrize("errors", [1, 3])
def test_answers_of_500_are_tried_again_or_said(hub: Hub, model: Path, tmp_path: Path, errors: int):
    hub.faults = Faults(errors=errors)
    out = ask(hub, tmp_path, f"out['all'] = [pull('someone/model') for _ in range({errors + 1})]")["all"]
    assert whole(out[-1], model)
    for failed in [one["error"] for one in out if "error" in one]:
        assert failed.startswith("someone/model: ")
        assert "500" in failed
        assert "\n" not in failed


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_with_another_checksum_is_named_and_leaves_the_cache(hub: Hub, model: Path, tmp_path: Path, name: str):
    hub.faults = Faults(file=name, flip=1)
    script = 'out["first"], out["offline"] = pull("someone/model"), None\nout["second"] = pull("someone/model")'
    out = ask(hub, tmp_path, script)
    assert name in out["first"]["error"]
    assert "\n" not in out["first"]["error"]
    if name == WEIGHTS:
        assert f"someone/model: {WEIGHTS}: damaged on its way or on the Hub, SHA-256 is not" in out["first"]["error"]
    assert whole(out["second"], model)


def test_a_file_of_another_size_is_named(hub: Hub, model: Path, tmp_path: Path):
    hub.faults = Faults(file=WEIGHTS, wrong_size=True)
    out = ask(hub, tmp_path, PULL)
    assert WEIGHTS in out["error"] or "size" in out["error"]
    assert "model" not in ask(hub, tmp_path, PULL, HF_HUB_OFFLINE="1").get("folder", "")
    hub.faults = Faults()
    assert whole(ask(hub, tmp_path, PULL), model)


def test_a_file_that_the_tree_names_and_is_not_there(hub: Hub, model: Path, tmp_path: Path):
    hub.faults = Faults(file=WEIGHTS, missing=True)
    out = ask(hub, tmp_path, PULL)
    assert out["error"] == f"someone/model: not a saved model, the Hub has no {WEIGHTS} in it"
    assert "error" in ask(hub, tmp_path, PULL, HF_HUB_OFFLINE="1")


def test_a_file_that_the_checksums_name_and_the_repository_lacks(hub: Hub, tmp_path: Path):
    files = hub.repositories["someone/model"]
    files["other.safetensors"] = files.pop(WEIGHTS)
    out = ask(hub, tmp_path, PULL)
    assert out["error"] == f"someone/model: checksums.json names {WEIGHTS}, which the repository does not have"


def test_tokens(hub: Hub, model: Path, tmp_path: Path):
    hub.faults = Faults(token="hf_right")
    script = f'{TWICE}\nout["pushed"] = push(sys.argv[1], "someone/new")'
    out = ask(hub, tmp_path, script, model, HF_TOKEN="")
    assert "or it is private: log in with `hf auth login`, or set HF_TOKEN" in out["first"]["error"]
    assert out["pushed"]["error"].startswith("someone/new: cannot be pushed: ")
    assert "set HF_TOKEN to a token that may write" in out["pushed"]["error"]
    assert "someone/new" not in hub.repositories
    assert whole(ask(hub, tmp_path, PULL, HF_TOKEN="hf_right"), model)
    hub.faults = Faults(gated=True)
    assert "is gated: ask for access on its page" in ask(hub, tmp_path / "other", PULL)["error"]
    hub.faults = Faults(read_only=True)
    out = ask(hub, tmp_path, 'out = push(sys.argv[1], "someone/model")', model)
    assert "set HF_TOKEN to a token that may write" in out["error"]


def test_an_upload_of_which_half_arrives_is_named(hub: Hub, model: Path, tmp_path: Path):
    hub.faults = Faults(cut_upload=1)
    out = ask(hub, tmp_path, 'out = [push(sys.argv[1], "someone/new") for _ in range(2)]', model)
    size = (model / WEIGHTS).stat().st_size
    assert out[0]["error"].startswith(
        f"someone/new: {WEIGHTS}: {size} bytes were sent, the Hub holds {size // 2} bytes with another checksum"
    )
    assert set(out[1]) == {"commit"}
    assert hub.repositories["someone/new"][WEIGHTS] == (model / WEIGHTS).read_bytes()


def test_an_upload_that_breaks_off_is_sent_again(hub: Hub, model: Path, tmp_path: Path):
    before = dict(hub.repositories["someone/model"])
    hub.faults = Faults(lose_upload=1)
    out = ask(hub, tmp_path, 'out = push(sys.argv[1], "someone/new")', model)
    assert "commit" in out or out["error"].startswith("someone/new: cannot be pushed: ")
    assert (
        hub.repositories["someone/new"].get(WEIGHTS, (model / WEIGHTS).read_bytes()) == (model / WEIGHTS).read_bytes()
    )
    assert hub.repositories["someone/model"] == before


def test_faults_are_switched_over_http(hub: Hub):
    address = f"http://127.0.0.1:{hub.server_port}/control"
    body = json.dumps({"file": WEIGHTS, "slow": 7}).encode()
    urllib.request.urlopen(urllib.request.Request(address, data=body, method="POST")).read()
    assert hub.faults == Faults(file=WEIGHTS, slow=7)
    assert json.loads(urllib.request.urlopen(address).read()) == []
