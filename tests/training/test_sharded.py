"""FSDP2 on two processes: what one process trains, in checkpoints that one process opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from launched import launch
from safetensors.torch import load_file
from sharded_worker import STEPS, recipe
from tiny_world import tiny_recipe

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.training import train


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sharded")
    launch(2, Path(__file__).with_name("sharded_worker.py"), str(out))
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    train(recipe(out, "one"), quiet=True)
    return out / "one"


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def tensors(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:07d}"
    parts = ("model", "ema", "optimizer")
    return {
        f"{part}/{key}": value for part in parts for key, value in load_file(folder / f"{part}.safetensors").items()
    }


def test_shards_train_what_one_process_does(two, one):
    both = rows(two / "sharded")
    assert len(both) == STEPS
    for alone, shared in zip(rows(one), both, strict=True):
        for key in (key for key in alone if key in ("loss", "grad_norm") or key.endswith("/total")):
            far = 1e-2 if key == "grad_norm" else 1e-3  # Adam enlarges rounding, and gradients show it before losses
            assert shared[key] == pytest.approx(alone[key], rel=far), key


def test_the_checkpoint_is_whole(two, one):
    whole, gathered = tensors(one, STEPS), tensors(two / "sharded", STEPS)
    assert {key: value.shape for key, value in gathered.items()} == {key: value.shape for key, value in whole.items()}
    for key, value in whole.items():
        if key.startswith("model/encoder") and key.endswith("weight"):
            torch.testing.assert_close(gathered[key], value, rtol=1e-2, atol=1e-4, msg=key)


def test_one_process_goes_on_with_it(two, one, tmp_path):
    shutil.copytree(two / "stopped", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / f"step-{STEPS:07d}")
    model = train(recipe(tmp_path, "stopped"), resume=True, quiet=True)
    assert rows(tmp_path / "stopped")[-1]["loss"] == pytest.approx(rows(one)[-1]["loss"], rel=1e-3)
    assert not any(parameter.grad is None for parameter in model.predictor.parameters())


def test_shards_go_on_with_it_bit_for_bit(two):
    straight, resumed = tensors(two / "sharded", STEPS), tensors(two / "stopped", STEPS)
    for key, value in straight.items():
        assert torch.equal(resumed[key], value), key


def test_the_saved_model_opens(two):
    model = WorldModel.from_pretrained(two / "sharded" / "model")
    trained = tensors(two / "sharded", STEPS)
    assert all(torch.equal(value, trained[f"model/{key}"]) for key, value in model.state_dict().items())


def test_bf16_and_gradient_checkpointing_keep_working(two):
    for shared, plain in zip(rows(two / "bf16"), rows(two / "plain_bf16"), strict=True):
        assert shared["loss"] == pytest.approx(plain["loss"], rel=1e-2)


def test_a_tensor_is_parted_and_whole_again(two):
    expected = torch.arange(10.0).view(5, 2)
    found = [json.loads((two / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert sorted(part["local"] for part in found) == [2, 3]
    for part in found:
        assert torch.equal(torch.tensor(part["whole"]), expected)
        assert torch.equal(torch.tensor(part["again"]), 2 * expected)
        assert part["is_shard"]


def test_one_process_has_nothing_to_shard(tmp_path):
    assert Accelerator().num_processes == 1
    with pytest.raises(ConfigError, match=r"train\.shard: found one process"):
        train(tiny_recipe(tmp_path, shard=True, steps=1), quiet=True)
