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
from jepa_actions.training.checkpoint import load_checkpoint, save_checkpoint


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
        return save_checkpoint(self.run, step, self.config, self.model, self.ema, self.optimizer, keep)

    def load(self, **changes) -> int:
        config = replace(self.config, **changes)
        return load_checkpoint(self.run, config, self.model, self.ema, self.optimizer)

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
    assert names == ["ema.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]


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
        patch.setattr("jepa_actions.training.checkpoint._optimizer_tensors", killed)
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


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1}', '{"version": 1, "step": 3}'])
def test_a_state_that_is_not_one_is_named(tmp_path, text):
    state = State(tmp_path)
    (state.save(10) / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json: ") as caught:
        state.load()
    assert "\n" not in str(caught.value)


def test_optimiser_state_of_another_model_is_refused(tmp_path):
    state = State(tmp_path)
    path = state.save(10) / "optimizer.safetensors"
    save_file(load_file(path) | {"decoder.weight/exp_avg": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"optimiser state of 'decoder\.weight', which is not part"):
        state.load()


def test_a_folder_that_is_no_step_is_not_resumed(tmp_path):
    state = State(tmp_path)
    shutil.copytree(state.save(10), tmp_path / "checkpoints" / ".writing-0000099")
    assert state.load() == 10
    assert json.loads((tmp_path / "checkpoints/step-0000010/state.json").read_text())["step"] == 10
