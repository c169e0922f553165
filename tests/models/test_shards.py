"""Weights in several files: the same model, whatever lay in the folder before, and nothing half there."""

import json
import os

import pytest
import torch
from tiny_world import random_frames, tiny_world

from jepa_actions.errors import CheckpointError
from jepa_actions.hub import MAX_JSON
from jepa_actions.models import WorldModel
from jepa_actions.models.share import verify_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("model"))


def z_of(model):
    with torch.no_grad():
        return model.encode_frames({"image": random_frames(2, 2, 3, 16, 16)})


def test_shards_are_the_same_model(tmp_path):
    model = tiny_world()
    model.save_pretrained(tmp_path, max_shard_size=40_000)
    found = names(tmp_path)
    assert found[-1] == "model.safetensors.index.json"
    assert len(found) >= 4
    assert all((tmp_path / name).stat().st_size < 50_000 for name in found)
    index = json.loads((tmp_path / found[-1]).read_text())
    assert set(index["weight_map"]) == set(model.state_dict())
    loaded = WorldModel.from_pretrained(tmp_path)
    assert torch.equal(z_of(loaded), z_of(model))
    assert verify_folder(tmp_path).ok


def test_the_files_of_an_earlier_save_are_gone(tmp_path):
    tiny_world().save_pretrained(tmp_path, max_shard_size="40KB")
    tiny_world().save_pretrained(tmp_path)
    assert names(tmp_path) == ["model.safetensors"]
    tiny_world().save_pretrained(tmp_path, max_shard_size="40KB")
    assert "model.safetensors" not in names(tmp_path)
    assert WorldModel.from_pretrained(tmp_path).encoder.config.width == 24


def test_a_missing_or_damaged_shard_is_named(tmp_path):
    tiny_world().save_pretrained(tmp_path, max_shard_size=40_000)
    second = tmp_path / names(tmp_path)[1]
    data = second.read_bytes()
    second.unlink()
    with pytest.raises(CheckpointError, match=rf"{second.name}: missing"):
        WorldModel.from_pretrained(tmp_path)
    second.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=rf"{second.name}: damaged"):
        WorldModel.from_pretrained(tmp_path)
    second.write_bytes(data)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"holds both model.safetensors and model.safetensors.index.json"):
        WorldModel.from_pretrained(tmp_path)


def test_a_save_that_stops_leaves_no_model(tmp_path, monkeypatch):
    """Killed between weights and configuration: refused, never the old configuration with new weights."""
    tiny_world().save_pretrained(tmp_path)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("jepa_actions.models.serialize.write_golden", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny_world(cameras=("other",)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config.json: missing"):
        WorldModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("extra", [{"a": float("nan")}, {"a": object()}, {"a": "x" * MAX_JSON}])
def test_facts_that_no_reader_takes_are_not_written(tmp_path, extra):
    tiny_world().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config.json: (cannot be written|would be)"):
        tiny_world().save_pretrained(tmp_path, extra=extra)
    assert verify_folder(tmp_path).ok  # what was there is untouched


def test_a_size_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match="max_shard_size"):
        tiny_world().save_pretrained(tmp_path, max_shard_size="large")


def test_others_may_read_what_is_written(tmp_path):
    old = os.umask(0o022)
    try:
        tiny_world().save_pretrained(tmp_path)
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
