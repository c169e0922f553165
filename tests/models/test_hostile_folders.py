"""Hostile model folders: a few of the 288 of `eval/hostile_folders.py`, and that its judge sees what it should."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "eval"))  # where the script finds its modules

from fuzz import model_cases  # noqa: E402
from fuzz.model_base import Case, base, edited, written  # noqa: E402
from fuzz.model_cases import HOSTILE, VALID, memory, run_case  # noqa: E402

from jepa_actions.errors import CheckpointError  # noqa: E402
from jepa_actions.models import WorldModel  # noqa: E402

SLOW = ("MB", "GB", "million", "thousand", "backbone")
OFTEN = [i for i, case in enumerate(HOSTILE) if i % 10 == 0 and not any(word in case.name for word in SLOW)]
NAMED = {
    "encoder.width": "asks for a larger model than the weights beside it are of",
    "encoder.depth": "layers, the weights beside it are",
    "encoder.image_size": "asks for a larger model",
    "features.rank": "asks for a larger model",
    "codec.block": "numbers a model action",
    "a header of 100 GB": "model.safetensors: damaged (a header of 107374182400 bytes",
    "a pointer of git LFS": "git lfs pull",
    "overlap": "begins at byte",
    "NaN in one weight": "tensor 'encoder.norm.weight' has values that are not finite",
    "NaN in codec statistics": "config.json: not valid JSON (NaN is no number)",
    "100 GB of holes, and a configuration for them": "",
    "pytorch_model.bin alone": "model.safetensors: missing",
    "places a tensor at a path out of the folder": "expected a name such as model-00001-of-00002.safetensors, found '../",  # noqa: E501
    "config.json to /etc/passwd": "is a link to /etc/passwd, which is outside the model folder",
    "a snapshot of another repository's blobs": "which is outside the model folder",
    "model.safetensors": "is a FIFO, expected a file",
    "a billion laughs": "an anchor or alias, expected none in a card",
    "an object of Python": "expected none in a card",
    "100,000 objects in one another": "not valid JSON",
    "format_version is 7": "format_version 7 is newer than 6",
}


@pytest.mark.parametrize("number", OFTEN, ids=lambda n: f"{HOSTILE[n].kind}: {HOSTILE[n].name}")
def test_a_hostile_folder_is_refused_and_nothing_else_happens(number: int, tmp_path: Path):
    row = run_case(number, True, tmp_path, memory("VmRSS"))
    assert row.faults == []
    assert row.said


@pytest.mark.parametrize("name", NAMED)
def test_the_fault_is_named(name: str, tmp_path: Path):
    kinds = {"model.safetensors": "pipe", "an object of Python": "card"}
    number = next(i for i, case in enumerate(HOSTILE) if case.name == name and kinds.get(name, case.kind) == case.kind)
    row = run_case(number, True, tmp_path, memory("VmRSS"))
    assert row.faults == []
    assert NAMED[name] in row.said


@pytest.mark.parametrize("number", range(0, len(VALID), 6), ids=lambda n: VALID[n].name)
def test_a_valid_folder_opens(number: int, tmp_path: Path):
    assert run_case(number, False, tmp_path, memory("VmRSS")).faults == []


def test_there_are_as_many_as_the_bar_asks_for():
    assert len(HOSTILE) >= 200
    assert len(VALID) >= 50
    assert len({(case.kind, case.name) for case in HOSTILE}) == len(HOSTILE)


def test_the_judge_sees_a_folder_that_opens_and_a_model_that_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_cases, "HOSTILE", [Case("judge", "valid", base)])
    assert run_case(0, True, tmp_path, memory("VmRSS")).faults == ["opened"]
    opening = WorldModel.from_pretrained

    def writing(folder: Path) -> WorldModel:
        (folder.parent / "outside" / "executed").touch()
        return opening(folder)

    monkeypatch.setattr(WorldModel, "from_pretrained", writing)
    *faults, large = run_case(0, True, tmp_path, -1000.0).faults
    assert faults == ["opened", "something was written", "something was executed"]
    assert large.startswith("took ")


def test_a_pipe_in_place_of_a_file_does_not_hang_the_card(tmp_path: Path):
    """A README that is a FIFO, which a reader would wait on for ever."""
    workspace = tmp_path / "w"
    workspace.mkdir()
    folder = base(workspace)
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")
    with pytest.raises(CheckpointError, match=r"README\.md: is a FIFO"):
        WorldModel.from_pretrained(folder)


def test_several_faults_are_one_line(tmp_path: Path):
    workspace = tmp_path / "w"
    workspace.mkdir()
    folder = base(workspace)
    edited("model", "encoder", "width", value=10**9)(folder)
    written("model.safetensors", b"\n\n\n")(folder)
    with pytest.raises(CheckpointError) as caught:
        WorldModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)
