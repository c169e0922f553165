"""Two real processes compute what one does. (`accelerate launch --cpu --num_processes 2` would start one.)"""

import json
from pathlib import Path

import pytest
import torch
from launched import TESTS, launch
from safetensors.torch import load_file
from tiny_world import random_frames
from two_process_worker import losses, recipe, rows

from jepa_actions.models import WorldModel
from jepa_actions.training import train


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes left their results."""
    out = tmp_path_factory.mktemp("two")
    launch(2, TESTS / "training" / "two_process_worker.py", str(out))
    return out


def test_rows_are_gathered_in_rank_order(two):
    for rank in range(2):
        assert torch.equal(load_file(two / f"rank-{rank}.safetensors")["gathered"], rows())


@pytest.mark.parametrize("name", ["sigreg", "vicreg std", "vicreg cov", "standardise", "masked mean"])
def test_loss_and_gradient_are_those_of_one_process_on_all_rows(two, name):
    loss, gradient = losses(slice(None))[name]
    for rank in range(2):
        found = load_file(two / f"rank-{rank}.safetensors")
        torch.testing.assert_close(found[f"{name}/loss"], loss)
        torch.testing.assert_close(found[f"{name}/gradient"], gradient)


def test_the_halves_alone_would_say_something_else():
    whole, half = losses(slice(None)), losses(slice(0, 2))
    for name, (loss, _) in whole.items():
        assert not torch.allclose(half[name][0], loss, rtol=1e-2), name


def test_a_run_on_two_processes_is_the_run_on_one(two, tmp_path):
    model = train(recipe(tmp_path), quiet=True)
    one, both = (
        [json.loads(line) for line in (run / "run" / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path, two)
    )
    assert [row["step"] for row in both] == [1, 2, 3, 4]
    for alone, shared in zip(one, both, strict=True):
        terms = {key for key in alone if key in ("loss", "grad_norm") or "/" in key}
        assert terms <= set(shared)
        for key in terms:
            assert shared[key] == pytest.approx(alone[key], rel=2e-3, abs=1e-5), key
    frames = {"image": random_frames(2, 2, 3, 64, 64)}
    shared_model = WorldModel.from_pretrained(two / "run" / "model")
    torch.testing.assert_close(shared_model.encode_frames(frames), model.encode_frames(frames), rtol=0.02, atol=0.02)
