"""Options that trade memory, time and precision leave what is learned as it was."""

import pytest
import torch
from tiny_world import tiny_recipe

from jepa_actions.nn import Block
from jepa_actions.objectives import MaskedConfig
from jepa_actions.training import ObjectivesConfig, train
from jepa_actions.training import run as training_run

PACKED = ObjectivesConfig(masked=MaskedConfig(kinds=("short", "long"), split=False, packed=True))


def trained(out, **optim) -> dict[str, torch.Tensor]:
    recipe = tiny_recipe(out, PACKED, steps=3, checkpoint_every=0, **optim)
    return train(recipe, quiet=True).state_dict()


def test_gradient_checkpointing_gives_the_same_weights_from_blocks_that_run_twice(tmp_path, monkeypatch):
    runs = []
    forward = Block._forward
    monkeypatch.setattr(Block, "_forward", lambda self, *inputs: runs.append(self) or forward(self, *inputs))
    plain, counts = trained(tmp_path / "plain"), [len(runs)]
    saving = trained(tmp_path / "saving", gradient_checkpointing=True)
    counts.append(len(runs) - counts[0])
    assert counts[1] > counts[0]
    for name, weight in plain.items():
        assert torch.equal(weight, saving[name])


def test_compile_reaches_the_model_and_the_target(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(training_run, "compile_blocks", compiled.append)
    trained(tmp_path / "plain")
    assert not compiled
    trained(tmp_path / "compiled", compile=True)
    assert [type(part).__name__ for part in compiled] == ["WorldModel", "TargetEncoder"]


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(tmp_path):
    plain, compiled = trained(tmp_path / "plain"), trained(tmp_path / "compiled", compile=True)
    assert plain.keys() == compiled.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(weight, compiled[name], rtol=1e-3, atol=1e-3)
