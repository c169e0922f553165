import errno
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world import tiny_recipe, tiny_world

from jepa_actions.errors import CheckpointError
from jepa_actions.training import Ema, train
from jepa_actions.training.checkpoint import save_checkpoint, training_tensors
from jepa_actions.training.resume import check_same, fill_training, find_checkpoint, read_state


class State:
    """A model, its EMA and an optimiser after one step, with the recipe they belong to."""

    def __init__(self, run: Path, seed: int = 0):
        self.run, self.config = run, tiny_recipe(run)
        self.model = tiny_world()
        self.ema = Ema(self.model, 0.9, 0.9, 10)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1 + seed)
        torch.manual_seed(seed)
        for parameter in self.model.encoder.parameters():
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()
        self.ema.update(0)

    def save(self, step: int, keep: int = 2) -> Path:
        tensors = training_tensors(self.model, self.ema, self.optimizer)
        return save_checkpoint(self.run, step, self.config, tensors, keep)

    def load(self, **changes) -> int:
        folder = find_checkpoint(self.run)
        state = read_state(folder)
        check_same(folder, state, replace(self.config, **changes), {}, allow_changes=False)
        fill_training(folder, self.model, self.ema, self.optimizer)
        return int(state["step"])

    def tensors(self) -> list[torch.Tensor]:
        state = self.optimizer.state_dict()["state"]
        moments = [value for i in sorted(state) for value in state[i].values()]
        return [*self.model.state_dict().values(), *self.ema.target.state_dict().values(), *moments]


def test_everything_comes_back(tmp_path):
    saved, other = State(tmp_path, seed=0), State(tmp_path, seed=1)
    folder = saved.save(30)
    assert folder.name == "step-0000030"
    assert not all(torch.equal(a, b) for a, b in zip(saved.tensors(), other.tensors(), strict=True))
    assert other.load() == 30
    assert len(saved.tensors()) == len(other.tensors())
    assert all(torch.equal(a, b) for a, b in zip(saved.tensors(), other.tensors(), strict=True))


def test_no_pickle_anywhere(tmp_path):
    names = sorted(path.name for path in State(tmp_path).save(1).iterdir())
    assert names == ["checksums.json", "ema.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]


def test_the_oldest_go_once_the_newest_is_whole(tmp_path):
    state = State(tmp_path)
    for step in (5, 100, 20, 1000):
        state.save(step, keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-0000100", "step-0001000"]
    assert state.load() == 1000


def test_a_kill_while_writing_leaves_the_last_one(tmp_path, monkeypatch):
    state = State(tmp_path)
    state.save(10)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jepa_actions.training.checkpoint.file_sha256", killed)
        with pytest.raises(KeyboardInterrupt):
            state.save(20)
    left = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert left == [".writing-0000020", "step-0000010"]
    assert state.load() == 10
    state.save(20)  # and what was left is no obstacle
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-0000010", "step-0000020"]


def test_saving_the_same_step_again_replaces_it(tmp_path):
    State(tmp_path, seed=1).save(10)
    state = State(tmp_path, seed=0)
    state.save(10)
    other = State(tmp_path, seed=2)
    other.load()
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), other.tensors(), strict=True))


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(tiny_recipe(tmp_path), resume=True, quiet=True)


def test_a_changed_recipe_names_the_key_and_leaves_the_run_alone(tmp_path):
    recipe = tiny_recipe(tmp_path, steps=2)
    train(recipe, stop_after=1, quiet=True)
    before = (tmp_path / "run" / "config.yaml").read_text()
    changed = replace(recipe, train=replace(recipe.train, lr=0.5))
    with pytest.raises(CheckpointError, match=r"the recipe has changed since this checkpoint: train\.lr was 0\.002"):
        train(changed, resume=True, quiet=True)
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_several_changes_are_named_in_one_line(tmp_path):
    state = State(tmp_path)
    state.save(10)
    model = replace(state.config.model, cameras=("front",))
    with pytest.raises(CheckpointError) as caught:
        state.load(seed=7, model=model)
    assert "model.cameras was ['image'], now ['front']; seed was 0, now 7" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_change_the_result_may_change(tmp_path):
    state = State(tmp_path)
    state.save(10)
    optim = replace(state.config.train, log_every=1, checkpoint_every=3, keep_checkpoints=9)
    assert state.load(name="other", out="elsewhere", evaluate=("planning",), train=optim) == 10


@pytest.mark.parametrize("name", ["model", "ema", "optimizer"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_files_are_named(tmp_path, name, damage):
    state = State(tmp_path)
    path = state.save(10) / f"{name}.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=f"{name}.safetensors: {'missing' if damage == 'missing' else 'damaged'}"):
        state.load()


def sealed(folder: Path) -> Path:
    """The same checkpoint, with the checksums of what its files are now."""
    names = [path.name for path in folder.iterdir() if path.name != "checksums.json"]
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "checksums.json").write_text(json.dumps(sums))
    return folder


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1}', '{"version": 2, "step": 3}'])
def test_a_state_that_is_not_one_is_named(tmp_path, text):
    state = State(tmp_path)
    folder = state.save(10)
    (folder / "state.json").write_text(text)
    for make in (lambda: folder, lambda: sealed(folder)):
        make()
        with pytest.raises(CheckpointError, match=r"state\.json: ") as caught:
            state.load()
        assert "\n" not in str(caught.value)


def test_optimiser_state_of_another_model_is_refused(tmp_path):
    state = State(tmp_path)
    path = state.save(10) / "optimizer.safetensors"
    save_file(load_file(path) | {"decoder.weight/exp_avg": torch.zeros(2)}, path)
    sealed(path.parent)
    with pytest.raises(CheckpointError, match=r"optimiser state of 'decoder\.weight', which is not part"):
        state.load()


def test_a_folder_that_is_no_step_is_not_resumed(tmp_path):
    state = State(tmp_path)
    shutil.copytree(state.save(10), tmp_path / "checkpoints" / ".writing-0000099")
    assert state.load() == 10
    assert json.loads((tmp_path / "checkpoints/step-0000010/state.json").read_text())["step"] == 10


def test_every_byte_of_every_header_and_any_other_byte_is_seen_and_named(tmp_path):
    """Also those of the sums themselves; and the checkpoint before it is offered, not taken."""
    state = State(tmp_path)
    state.save(10)
    folder = state.save(20)
    draw = torch.Generator().manual_seed(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little") if path.suffix == ".safetensors" else 0
        chosen = torch.randint(0, len(whole), (20,), generator=draw).tolist()
        for position in sorted({*range(0, header, max(1, header // 40)), *chosen}):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(CheckpointError, match=f"step-0000020: damaged, .*{path.name}") as caught:
                find_checkpoint(tmp_path)
            assert str(caught.value).endswith(f"is step-0000010: --resume {tmp_path} --resume_step 10")
        path.write_bytes(whole)
    assert find_checkpoint(tmp_path) == folder
    assert find_checkpoint(tmp_path, 10).name == "step-0000010"


def test_no_whole_checkpoint_is_said(tmp_path):
    state = State(tmp_path)
    for step in (10, 20):
        (state.save(step) / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint before it is whole"):
        state.load()


def test_a_checkpoint_of_before_there_were_sums_is_read_and_one_that_lost_them_is_not(tmp_path):
    state = State(tmp_path)
    folder = state.save(10)
    (folder / "checksums.json").unlink()
    with pytest.raises(CheckpointError, match=r"checksums\.json: missing"):
        state.load()
    known = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(known | {"version": 1}))
    assert state.load() == 10


def test_a_step_that_is_not_there_names_those_that_are(tmp_path):
    state = State(tmp_path)
    state.save(10)
    state.save(20)
    with pytest.raises(CheckpointError, match="no checkpoint of step 15, found 10, 20"):
        find_checkpoint(tmp_path, 15)


def test_a_folder_that_cannot_be_written_keeps_what_was_there(tmp_path, monkeypatch):
    state = State(tmp_path)
    state.save(10)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("jepa_actions.training.checkpoint.save_file", full)
    with pytest.raises(
        CheckpointError, match=r"step-0000020: not saved, the disk is full; the last whole one is step-"
    ):
        state.save(20)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000010"]
    assert state.load() == 10
