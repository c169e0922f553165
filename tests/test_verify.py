"""`jepa-actions verify`: golden outputs recomputed, checksums held; what does not verify is not shared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world import tiny_codec, tiny_world

from jepa_actions.cli import main
from jepa_actions.errors import CheckpointError
from jepa_actions.hub import seal
from jepa_actions.models import (
    DistanceConfig,
    DynamicsConfig,
    InverseConfig,
    RolloutConfig,
    SubgoalConfig,
    WorldModel,
)
from jepa_actions.models.golden import TOLERANCE, golden_tensors
from jepa_actions.models.share import share_folder, verify_folder

REPOSITORY = Path(__file__).parents[1]
WHOLE = {
    "dynamics": DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=2, proprio=3),
    "distance": DistanceConfig(width=24, depth=1),
    "goal_inverse": InverseConfig(width=24, max_gap=6, history=2),
    "subgoal": SubgoalConfig(width=24),
    "cameras": ("front", "wrist"),
    "rollout": RolloutConfig(precision="bf16"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_world().save_pretrained(tmp_path / "model", card="---\nlicense: mit\n---\n", extra={"scores": {"r2": 0.5}})
    return tmp_path / "model"


def change_weight(folder: Path, by: float, name: str = "encoder.patch_embed.proj.weight") -> None:
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    tensors[name][0] += by  # of one channel: a layer norm takes away what is added to all
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def verified(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    code = main(["verify", *map(str, argv)])
    return code, capsys.readouterr().out


def test_what_was_just_saved_verifies(folder, capsys):
    code, out = verified(capsys, folder)
    assert code == 0
    assert out.splitlines()[-1] == "verified"
    assert [line.split()[0] for line in out.splitlines()[:-1]] == ["z", "next", "inverse"]
    assert all(
        "agrees: largest difference 0 of the largest value, tolerance 0.001" in line for line in out.splitlines()[:-1]
    )


def test_every_part_that_a_model_has_is_recomputed(tmp_path):
    tiny_world(tiny_codec(block=2), **WHOLE).save_pretrained(tmp_path)
    found = verify_folder(tmp_path)
    assert found.ok
    assert set(found.differences) == {"z", "next", "inverse", "distance", "goal_inverse", "subgoal"}
    assert max(found.differences.values()) == 0.0  # in float32, whatever the precision of rollouts is
    tiny_world(video_only=True).save_pretrained(tmp_path / "video")
    assert set(verify_folder(tmp_path / "video").differences) == {"z"}


def test_golden_outputs_are_small_and_leave_a_model_in_training_as_it_was():
    model = tiny_world(**WHOLE)
    expected = golden_tensors(model)
    model.train()
    model.encoder.eval()
    model.predictor.requires_grad_(False)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    again = golden_tensors(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.dynamics.training
    assert not model.encoder.training
    assert all(torch.equal(expected[name], tensor) for name, tensor in again.items())
    assert sum(tensor.nbytes for tensor in again.values()) < 64_000


def test_a_changed_weight_is_seen_by_both_and_by_outputs_alone_where_it_was_sealed(folder, capsys):
    change_weight(folder, 0.5)
    code, out = verified(capsys, folder)
    assert code == 1
    assert out.splitlines()[-1] == "NOT VERIFIED"
    assert "model.safetensors: sha256" in out
    assert "output 'z' differs by" in out
    seal(folder, ["model.safetensors", "config.json", "golden.safetensors"])
    failed = verify_folder(folder).failed
    assert failed
    assert all("differs by" in line for line in failed)


def test_a_change_below_the_tolerance_is_seen_by_the_checksum(folder):
    change_weight(folder, 1e-7, "inverse.trunk.out.bias")
    found = verify_folder(folder)
    assert 0 < found.differences["inverse"] < TOLERANCE
    assert len(found.failed) == 1
    assert "model.safetensors: sha256" in found.failed[0]


def test_edited_scores_are_seen(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace("0.5\n", "0.9\n"))
    assert WorldModel.from_pretrained(folder).extra["scores"] == {"r2": 0.9}
    (line,) = verify_folder(folder).failed
    assert line.startswith(f"{path}: sha256 ")


def test_an_edited_card_is_no_change_of_the_model(folder):
    (folder / "README.md").write_text("# Another\n")
    assert verify_folder(folder).ok


@pytest.mark.parametrize(
    ("name", "text"),
    [("golden.safetensors", "golden.safetensors: missing"), ("checksums.json", "no checksums.json")],
)
def test_what_is_missing_is_said(folder, name, text):
    (folder / name).unlink()
    found = verify_folder(folder)
    assert not found.ok
    assert any(text in line for line in [*found.failed, *found.missing])


def test_golden_outputs_of_another_model_are_refused(folder, tmp_path):
    tiny_world(cameras=("front",)).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "golden.safetensors", folder)
    assert any(
        "golden.safetensors: is not of this model: in.frames.front" in line for line in verify_folder(folder).failed
    )


@pytest.mark.parametrize("name", ["point_maze", "push_t", "reacher", "swm_two_room", "two_room", "two_room_goals"])
def test_released_models_answer_here_what_they_answered_where_they_were_saved(capsys, name):
    code, out = verified(capsys, REPOSITORY / "checkpoints" / name)
    assert code == 0, out


def test_a_model_of_an_older_format_says_that_nothing_is_stored(capsys):
    code, out = verified(capsys, REPOSITORY / "tests" / "models" / "formats" / "v1")
    assert code == 1
    assert "no golden outputs are stored (format_version 1): nothing could be recomputed" in out


def refused(folder: Path, **options: bool) -> str:
    with pytest.raises(CheckpointError, match=r"^not shared: ") as caught:
        share_folder(folder, "someone/model", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_verify_or_holds_more_is_not_shared(folder, tmp_path, monkeypatch):
    """Refused before anything is asked of the Hub, which is not there."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (folder / "optimizer.bin").write_bytes(b"x")
    (folder / ".cache").mkdir()
    assert "optimizer.bin: no part of a model folder" in refused(folder)
    (folder / "optimizer.bin").unlink()
    tensors = folder / "golden.safetensors"
    kept = tensors.read_bytes()
    tensors.unlink()
    assert "golden.safetensors: missing" in refused(folder, unverified=True)
    tensors.write_bytes(kept)
    change_weight(folder, 0.5)
    assert "model.safetensors: sha256" in refused(folder, unverified=True)
    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(REPOSITORY / "tests" / "models" / "formats" / "v4" / name, old)
    assert "no checksums.json" in refused(old)
    assert "(and 1 more); save it again, or allow that" in refused(old)


def test_the_command_refuses_in_one_line(folder, capsys):
    (folder / "model.safetensors").write_bytes(b"x")
    assert main(["push", str(folder), "someone/model"]) == 2
    assert "model.safetensors: damaged" in capsys.readouterr().err


def test_info_says_what_verify_goes_by(folder, capsys):
    (folder / "notes.txt").write_text("x")
    assert main(["info", str(folder)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["golden"] is True
    assert facts["migrations"] == []
    assert facts["scores"] == {"r2": 0.5}
    assert facts["not_part_of_it"] == ["notes.txt"]
    sealed = json.loads((folder / "checksums.json").read_text())["files"]
    assert set(sealed) == {"config.json", "golden.safetensors", "model.safetensors"}
    assert all(facts["files"][name] == sealed[name] for name in sealed)
    assert sum(facts["parts"].values()) == facts["parameters"]
    assert main(["info", str(REPOSITORY / "tests" / "models" / "formats" / "v1")]) == 0
    old = json.loads(capsys.readouterr().out)
    assert [line.split(":")[0] for line in old["migrations"]] == ["2", "3", "4", "5", "6"]
