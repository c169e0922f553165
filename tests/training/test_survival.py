"""Real processes that are killed, told to end, started twice, and given a disk that is full."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_world import tiny_recipe

from jepa_actions.cli import main
from jepa_actions.errors import CheckpointError, ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.training import Resume, TerminatedError, train
from jepa_actions.training.resume import faults_of
from jepa_actions.training.run_folder import plain

ROOT = Path(__file__).resolve().parents[2]


def start(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jepa_actions.cli", "train", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def written(folder: Path, **optim: object) -> Path:
    """A recipe as a file, whose run is `folder/run`."""
    recipe = tiny_recipe(folder, **({"steps": 20, "checkpoint_every": 1, "log_every": 1} | optim))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain(asdict(recipe))))
    return path


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def newest(run: Path) -> str:
    return max(path.name for path in (run / "checkpoints").glob("step-*"))


def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    torch.set_num_threads(1)
    straight = start("--config", written(tmp_path / "straight"))
    assert straight.wait(timeout=120) == 0, straight.communicate()
    run, words = tmp_path / "killed" / "run", ["--config", written(tmp_path / "killed")]
    for step, later in ((1, 0.003), (12, 0.0)):
        process = start(*words)
        wait_for(run / "checkpoints" / f"step-{step:07d}", process)
        time.sleep(later)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not faults_of(run / "checkpoints" / newest(run))
        words = ["--resume", run]
    last = start(*words)
    assert last.wait(timeout=120) == 0, last.communicate()
    assert same(weights(run), weights(tmp_path / "straight" / "run"))
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 21))


def test_sigterm_saves_the_step_and_exits_143(tmp_path):
    recipe = written(tmp_path, steps=100_000, checkpoint_every=50_000)
    process = start("--config", recipe)
    run = tmp_path / "run"
    wait_for(run / "metrics.jsonl", process)
    while not (run / "metrics.jsonl").stat().st_size:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert time.monotonic() - began < 15
    step = int(newest(run)[5:])
    assert f"ended by SIGTERM, saved at step {step}: --resume {run} goes on" in said
    assert not faults_of(run / "checkpoints" / newest(run))
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == step


def test_sigterm_in_a_program_of_ones_own_is_an_error_it_can_catch(tmp_path):
    recipe = tiny_recipe(tmp_path, steps=10, log_every=1)

    def tell(step: int, row: dict[str, float]) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminatedError, match="saved at step 5"):
        train(recipe, on_log=tell, quiet=True)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = train(recipe, resume=True, quiet=True)
    straight = train(tiny_recipe(tmp_path / "straight", steps=10), quiet=True)
    assert same(resumed.state_dict(), straight.state_dict())


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path, steps=6, log_every=1, checkpoint_every=4)
    straight = train(recipe, quiet=True).state_dict()
    run = tmp_path / "run"
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(recipe, resume=True, quiet=True)  # it has finished: its checkpoints were taken away
    shutil.rmtree(run / "model")
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(recipe, resume=True, quiet=True)  # its metrics reach beyond the first checkpoint
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:4]) + '{"step": 5')
    assert same(train(recipe, resume=True, quiet=True).state_dict(), straight)
    assert "ended before its first checkpoint, so it begins again at step 0" in capsys.readouterr().out


def test_a_run_is_never_begun_again_in_silence(tmp_path):
    recipe = tiny_recipe(tmp_path, steps=4, checkpoint_every=2)
    train(recipe, quiet=True)
    before = weights(tmp_path / "run")
    other = replace(recipe, seed=1)
    with pytest.raises(
        ConfigError, match=r"found checkpoints up to step 4, expected a new folder: --resume .* --restart"
    ):
        train(other, quiet=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match="found a finished model"):
        train(other, quiet=True)
    assert same(weights(tmp_path / "run"), before)
    train(other, restart=True, quiet=True)
    assert not same(weights(tmp_path / "run"), before)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    recipe = tiny_recipe(tmp_path, steps=4, log_every=1)
    found = []

    def second(step: int, row: dict[str, float]) -> None:
        if step == 1:
            process = start("--resume", tmp_path / "run")
            found.extend([process.communicate(timeout=60)[1], process.returncode])

    train(recipe, on_log=second, quiet=True)
    assert found[1] == 2
    assert f"another process (number {os.getpid()}) trains in this folder" in found[0]


def test_another_checkpoint_than_the_newest_is_taken_only_when_named_and_the_later_are_set_aside(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path, steps=6, checkpoint_every=2, keep_checkpoints=3)
    straight = train(recipe, quiet=True).state_dict()
    run = tmp_path / "run"
    damaged = run / "checkpoints" / "step-0000006" / "ema.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged, ema\.safetensors.*--resume_step 4"):
        train(recipe, resume=True, quiet=True)
    assert same(train(recipe, resume=Resume(step=2), quiet=True).state_dict(), straight)
    aside = run / "checkpoints" / "set_aside"
    assert sorted(path.name for path in aside.iterdir()) == ["step-0000004", "step-0000006"]
    assert sorted(path.name for path in (run / "checkpoints").glob("step-*")) == [f"step-{n:07d}" for n in (2, 4, 6)]
    assert "step-0000006 is of a later step and was moved" in capsys.readouterr().out


def test_changes_that_are_allowed_are_said_and_kept(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path, steps=4, checkpoint_every=2)
    train(recipe, stop_after=2, quiet=True)
    changed = replace(recipe, train=replace(recipe.train, lr=5e-4))
    with pytest.raises(
        CheckpointError, match=r"train\.lr was 0\.002, now 0\.0005.*--allow_changes goes on all the same"
    ):
        train(changed, resume=True, quiet=True)
    train(changed, resume=Resume(allow_changes=True), quiet=True)
    assert "other weights than an uninterrupted run: train.lr was 0.002, now 0.0005" in capsys.readouterr().out
    state = json.loads((tmp_path / "run/checkpoints/step-0000004/state.json").read_text())
    assert state["notes"] == [
        "resumed at step 2, other weights than an uninterrupted run: train.lr was 0.002, now 0.0005"
    ]


def test_another_data_set_under_the_same_name_is_seen(tmp_path, monkeypatch):
    recipe = tiny_recipe(tmp_path, steps=4, checkpoint_every=2)
    train(recipe, stop_after=2, quiet=True)
    state = tmp_path / "run/checkpoints/step-0000002/state.json"
    known = json.loads(state.read_text())
    known["data"] |= {"episodes": 23, "lengths": "0" * 16}
    state.write_text(json.dumps(known))
    sums = state.with_name("checksums.json")
    import hashlib

    sums.write_text(
        json.dumps(json.loads(sums.read_text()) | {"state.json": hashlib.sha256(state.read_bytes()).hexdigest()})
    )
    with pytest.raises(
        CheckpointError, match=r"the data set's episodes was 23, now 24; the data set's lengths was '0000"
    ):
        train(recipe, resume=True, quiet=True)


def test_other_threads_are_said_not_to_be_exact_and_other_workers_are_exact(tmp_path, capsys):
    torch.set_num_threads(1)
    recipe = tiny_recipe(tmp_path, steps=6, checkpoint_every=3)
    straight = train(replace(recipe, out=str(tmp_path / "straight")), quiet=True).state_dict()
    train(recipe, stop_after=3, quiet=True)
    capsys.readouterr()
    workers = replace(recipe, data=replace(recipe.data, workers=3))
    shutil.copytree(tmp_path / "run", tmp_path / "other" / "run")
    assert same(train(workers, resume=True, quiet=True).state_dict(), straight)
    assert "rounding" not in capsys.readouterr().out
    torch.set_num_threads(2)
    try:
        train(replace(recipe, out=str(tmp_path / "other")), resume=True, quiet=True)
    finally:
        torch.set_num_threads(1)
    assert "equal to an uninterrupted run up to rounding: threads was 1, now 2" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        recipe = tiny_recipe(disk, steps=8, checkpoint_every=2, keep_checkpoints=50)
        straight = train(tiny_recipe(tmp_path / "straight", steps=8), quiet=True).state_dict()
        with pytest.raises(
            CheckpointError, match=r"not saved, the disk is full; the last whole one is step-"
        ) as caught:
            train(recipe, quiet=True)
        assert "\n" not in str(caught.value)
        run = disk / "run"
        assert not list((run / "checkpoints").glob(".writing-*"))
        assert not faults_of(run / "checkpoints" / newest(run))
        shutil.copytree(run, tmp_path / "elsewhere" / "run")
        elsewhere = replace(recipe, out=str(tmp_path / "elsewhere"))
        assert same(train(elsewhere, resume=True, quiet=True).state_dict(), straight)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_checkpoint_becomes_a_model_folder_without_its_data(tmp_path, monkeypatch, capsys):
    recipe = tiny_recipe(tmp_path, steps=4, checkpoint_every=2)
    model = train(recipe, quiet=True)
    run = tmp_path / "run"
    monkeypatch.setattr("jepa_actions.training.sources.world_dataset", None)  # no data is opened
    for source, step in ((run, None), (run / "checkpoints" / "step-0000004", None), (run, 2)):
        out = tmp_path / f"out-{source.name}-{step}"
        words = [] if step is None else ["--step", str(step)]
        assert main(["convert", str(source), str(out), *words]) == 0
        assert capsys.readouterr().out.strip().endswith(str(out))
        found = WorldModel.from_pretrained(out)
        assert same(found.state_dict(), model.state_dict()) == (step is None)
        assert found.codec.to_dict() == model.codec.to_dict()
        assert found.extra["recipe"]["train"]["steps"] == 4
    assert main(["convert", str(run), str(out)]) == 2
    assert "is not empty, expected a folder that does not exist yet" in capsys.readouterr().err
    (run / "checkpoints/step-0000004/ema.safetensors").write_bytes(b"")
    assert main(["convert", str(run), str(tmp_path / "new")]) == 2
    assert "ema.safetensors: damaged" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
