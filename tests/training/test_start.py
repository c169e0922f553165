"""Training that starts from V-JEPA 2's published weights, in either layout, or from a folder converted from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_world import tiny_recipe
from vjepa2_weights import SMALL, modules, write_hugging_face, write_release

from jepa_actions.cli import main
from jepa_actions.errors import ConfigError
from jepa_actions.models import ImageTransform, WorldModel
from jepa_actions.models.backbone import BackboneConfig
from jepa_actions.objectives import InverseLossConfig, MaskedConfig
from jepa_actions.training import ObjectivesConfig, train
from jepa_actions.training.start import start_model

TERMS = ObjectivesConfig(masked=MaskedConfig(), inverse=InverseLossConfig())


def recipe(out, init, **model):
    """Two steps on frames of 64x64 pixels, four times the size that the weights were made for."""
    parts = {"encoder": replace(SMALL.encoder, image_size=(64, 64)), "predictor": SMALL.predictor} | model
    return replace(tiny_recipe(out, TERMS, model=parts, steps=2), init=init)


def moved(one: torch.nn.Module, two: torch.nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("layout", ["hugging_face", "release"])
def test_two_steps_from_published_weights(tmp_path, layout):
    source = write_release(tmp_path / "vitx.pt") if layout == "release" else write_hugging_face(tmp_path / "weights")
    first = recipe(tmp_path / "runs", f"vjepa2:{source}")
    model = train(replace(first, train=replace(first.train, lr=1e-4)), quiet=True)
    for part, published in zip((model.encoder, model.predictor), modules(), strict=True):
        assert 0.0 < moved(part, published) < 1e-3
    saved = WorldModel.from_pretrained(tmp_path / "runs" / "run" / "model")
    assert moved(saved.encoder, model.encoder) == 0.0
    assert saved.inverse is not None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoder": {"depth": 3}}, r"num_hidden_layers \(encoder.depth\): expected 3, found 2"),
        ({"encoder": {"heads": 4}}, r"num_attention_heads \(encoder.heads\): expected 4, found 2"),
        ({"predictor": {"mask_tokens": 3}}, r"pred_num_mask_tokens \(predictor.mask_tokens\): expected 3, found 4"),
        ({"predictor": {"residual": True}}, "expected predictor.residual false"),
    ],
)
def test_a_recipe_of_another_architecture_is_one_line(tmp_path, changes, text):
    source = write_hugging_face(tmp_path / "weights")
    parts = {
        "encoder": replace(SMALL.encoder, image_size=(64, 64), **changes.get("encoder", {})),
        "predictor": replace(SMALL.predictor, **changes.get("predictor", {})),
    }
    with pytest.raises(ConfigError, match=f"init: .*{text}") as caught:
        train(recipe(tmp_path / "runs", f"vjepa2:{source}", **parts), quiet=True)
    assert "\n" not in str(caught.value)


def test_a_backbone_leaves_no_place_for_them(tmp_path):
    first = recipe(tmp_path, "vjepa2:weights")
    config = replace(first.model, backbone=BackboneConfig("timm:vit_tiny_patch16_224"))
    with pytest.raises(ConfigError, match=r"init: vjepa2:weights has weights for model.encoder, but .* model.backbone"):
        start_model(config, None, first.init)


def test_pictures_that_are_normalised_otherwise_are_one_line(tmp_path):
    source = write_hugging_face(tmp_path / "weights")
    other = ImageTransform(mean=(0.5, 0.5, 0.5))
    with pytest.raises(ConfigError, match=r"init: V-JEPA 2 expects model.image .*0.485.*, found .*0.5, 0.5"):
        train(recipe(tmp_path / "runs", f"vjepa2:{source}", image=other), quiet=True)


def test_published_weights_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"init: .*no such folder, and not a Hub id"):
        train(recipe(tmp_path / "runs", f"vjepa2:{tmp_path / 'absent'}"), quiet=True)


def test_convert_writes_a_folder_that_opens(tmp_path, capsys):
    source, out = write_hugging_face(tmp_path / "weights"), tmp_path / "model"
    assert main(["convert", str(source), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    model = WorldModel.from_pretrained(out)
    for part, published in zip((model.encoder, model.predictor), modules(), strict=True):
        assert moved(part, published) == 0.0
    assert str(source) in (out / "README.md").read_text()
    assert main(["convert", str(source), str(out)]) == 2
    assert f"{out}: expected a new or empty folder, found a folder" in capsys.readouterr().err


def test_convert_a_pt_at_another_size(tmp_path, capsys, monkeypatch):
    from jepa_actions.models import architectures

    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    source, out = write_release(tmp_path / "vitx.pt"), tmp_path / "model"
    options = ["--architecture", "small", "--image-size", "8", "24", "--which", "encoder"]
    assert main(["convert", str(source), str(out), *options]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("not used: batch_size, epoch, loss, lr, opt, ")
    assert second == str(out)
    model = WorldModel.from_pretrained(out)
    assert model.config.encoder.image_size == (8, 24)
    assert moved(model.encoder, modules(seed=1)[0]) == 0.0
    assert main(["convert", str(source), str(tmp_path / "b")]) == 2
    assert "pass an architecture" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "b"), "--architecture", "smal"]) == 2
    assert "did you mean 'small'?" in capsys.readouterr().err
