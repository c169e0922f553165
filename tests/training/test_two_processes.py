"""Two real processes compute what one does. (`accelerate launch --cpu --num_processes 2` would start one.)"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import random_frames
from two_process_worker import losses, recipe, rows

from jepa_actions.models import WorldModel
from jepa_actions.training import train

TESTS = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes left their results."""
    out = tmp_path_factory.mktemp("two")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    env = {"PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    env |= {"LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "training" / "two_process_worker.py"), str(out)]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
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
        for key in ("sigreg/total", "vicreg/total", "grad_norm"):  # the others are means of each process's own clips
            assert shared[key] == pytest.approx(alone[key], rel=2e-3), key
    frames = {"image": random_frames(2, 2, 3, 64, 64)}
    shared_model = WorldModel.from_pretrained(two / "run" / "model")
    torch.testing.assert_close(shared_model.encode_frames(frames), model.encode_frames(frames), rtol=0.02, atol=0.02)
