"""The example launch files: what accelerate reads, two processes, and two agents that meet as on two nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from launched import TESTS, free_port, launched_environment
from tiny_world import tiny_recipe

from jepa_actions.training import train
from jepa_actions.training.run_folder import plain

ROOT = TESTS.parent
LAUNCH = ROOT / "recipes" / "launch"
SRUN = """#!/usr/bin/env bash
# Slurm's part: one task on each node, here two on one machine
[[ "$1" == --kill-on-bad-exit=1 ]] && shift
"$@" & first=$!
"$@" & second=$!
trap 'kill -TERM $first $second; wait; exit 1' TERM
wait $first && wait $second
"""
SCONTROL = """#!/usr/bin/env bash
echo "$@" >> "$SCONTROL_LOG"
[[ "$2" == hostnames ]] && printf 'localhost\\nlocalhost\\n'
exit 0
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny recipe's file."""
    folder = tmp_path_factory.mktemp("recipe")
    config = tiny_recipe(folder / "runs", steps=3, log_every=1, checkpoint_every=0)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(plain(asdict(config))))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def alone(recipe: Path) -> list[float]:
    """Losses of one process."""
    config = tiny_recipe(recipe.parent / "alone", steps=3, log_every=1, checkpoint_every=0)
    train(config, quiet=True)
    return losses(recipe.parent / "alone" / "run")


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def environment(**variables: str) -> dict[str, str]:
    path = os.pathsep.join([variables.pop("BIN", ""), str(Path(sys.executable).parent), os.environ["PATH"]])
    return launched_environment(PATH=path, ADDRESS="127.0.0.1", **variables)


def run_script(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, env=environment(**variables), cwd=ROOT, capture_output=True, text=True, timeout=240)


def slurm(folder: Path) -> dict[str, str]:
    """What Slurm gives a job of two nodes, with its two commands in `folder`."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    job = str(free_port() % 20000 + 20000)
    found = {"SLURM_JOB_NODELIST": "n[0-1]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": job, "PER_NODE": "1"}
    return found | {"BIN": str(folder), "SCONTROL_LOG": str(folder / "log")}


@pytest.mark.parametrize(("name", "processes", "kind"), [("one_gpu", 1, "NO"), ("eight_gpus", 8, "MULTI_GPU")])
def test_accelerate_reads_its_files(name, processes, kind):
    config = load_config_from_file(str(LAUNCH / f"{name}.yml"))
    assert (config.num_processes, config.num_machines) == (processes, 1)
    assert str(getattr(config.distributed_type, "value", config.distributed_type)) == kind


def test_two_processes_of_one_node(recipe, alone):
    port = str(free_port())
    done = run_script("nodes.sh", "--config", str(recipe), "--name=pair", PER_NODE="2", ENDPOINT=f"127.0.0.1:{port}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batch of 8 clips of 4 frames: 2 processes x 1 part x 4 clips" in done.stdout
    assert losses(recipe.parent / "runs" / "pair") == pytest.approx(alone, rel=1e-5)


@pytest.mark.slow
def test_slurm_starts_two_agents_that_meet(recipe, alone, tmp_path):
    done = run_script("slurm.sbatch", "--config", str(recipe), "--name=nodes", **slurm(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes x 1 part x 4 clips" in done.stdout
    assert losses(recipe.parent / "runs" / "nodes") == pytest.approx(alone, rel=1e-5)
    assert (recipe.parent / "runs" / "nodes" / "model" / "config.json").is_file()
    assert "requeue" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_job_whose_time_is_up_saves_and_is_queued_again(recipe, tmp_path):
    command = ["bash", str(LAUNCH / "slurm.sbatch"), "--config", str(recipe), "--name=long", "--train.steps", "9999"]
    metrics = recipe.parent / "runs" / "long" / "metrics.jsonl"
    with (tmp_path / "out").open("w") as out:
        job = subprocess.Popen(command, env=environment(**slurm(tmp_path)), cwd=ROOT, stdout=out, stderr=out)
        end = time.monotonic() + 120
        while not (metrics.is_file() and len(losses(metrics.parent)) > 2) and time.monotonic() < end:
            time.sleep(0.2)
        job.terminate()
        assert job.wait(timeout=60) == 143, (tmp_path / "out").read_text()
    assert list((metrics.parent / "checkpoints").glob("step-*"))
    assert "requeue" in (tmp_path / "log").read_text()
