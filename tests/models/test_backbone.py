"""A frozen backbone gives what timm's model gives, learns nothing, and travels with the saved model."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_world import TINY, random_frames, tiny_codec
from torch.nn import functional as F

from jepa_actions.errors import CheckpointError, ConfigError, ShapeError
from jepa_actions.evaluation.suite import untrained_like
from jepa_actions.models import BackboneConfig, DynamicsConfig, FrameBackbone, ImageTransform, PoolerConfig, WorldModel
from jepa_actions.models import backbone as backbone_file


def published(name: str, folder: Path) -> tuple[torch.nn.Module, Path]:
    """A model of timm as if it were pretrained, and the file of its weights."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.1 * torch.randn(tensor.shape))
    save_file(model.state_dict(), folder / "weights.safetensors")
    return model, folder / "weights.safetensors"


def frozen_world(file: Path | str, *, cameras: tuple[str, ...] = ("image",), **changes: object) -> WorldModel:
    settings = {"name": "timm:test_vit", "weights": str(file), "image_size": (32, 48)} | changes
    torch.manual_seed(0)
    config = replace(
        TINY,
        cameras=cameras,
        backbone=BackboneConfig(**settings),
        pooler=PoolerConfig(kind="patches", dim=64),
        dynamics=DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=3),
    )
    return WorldModel(config, tiny_codec())


@pytest.fixture(scope="module")
def test_vit(tmp_path_factory: pytest.TempPathFactory):
    return published("test_vit", tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("tokens", ["patch", "pooled"])
@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])  # class token, mean, attention pooling
def test_tokens_are_those_of_timm_at_the_size_of_its_pretraining(name, tokens, tmp_path):
    model, file = published(name, tmp_path)
    found = FrameBackbone(BackboneConfig(f"timm:{name}", str(file), tokens))
    frames = torch.randn(2, 3, 3, 160, 160)
    with torch.no_grad():
        features = model.forward_features(frames.flatten(0, 1))
        expected = features[:, 1:] if tokens == "patch" else model.forward_head(features, pre_logits=True)[:, None]
    torch.testing.assert_close(found.encode_each(frames), expected.unflatten(0, (2, 3)))
    assert found.encode_each(frames).shape == (2, 3, found.patches, found.width)
    assert found.grid == ((10, 10) if tokens == "patch" else (1, 1))


@pytest.mark.parametrize(
    ("name", "prefix", "size"),
    [("vit_small_patch14_reg4_dinov2", 5, (28, 42)), ("vit_small_patch16_dinov3", 5, (32, 48))],
)
def test_class_token_and_registers_are_no_patches(name, prefix, size):
    torch.manual_seed(0)
    found = FrameBackbone(BackboneConfig(f"timm:{name}", "random", image_size=size))
    frames = torch.randn(1, 1, 3, *size)
    features = found.vit.forward_features(frames[0])
    assert features.shape[1] == 6 + prefix
    torch.testing.assert_close(found.encode_each(frames)[0], features[:, prefix:])
    assert (found.grid, found.patches, found.width) == ((2, 3), 6, 384)


def test_another_size_resamples_positions_as_timm_does(test_vit):
    _, file = test_vit
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}, "num_classes": 0}
    expected = timm.create_model("test_vit", img_size=(96, 128), **options).eval()
    found = FrameBackbone(BackboneConfig("timm:test_vit", str(file), image_size=(96, 128)))
    frames = torch.randn(1, 1, 3, 96, 128)
    with torch.no_grad():
        features = expected.forward_features(frames[0])[:, 1:]
    torch.testing.assert_close(found.encode_each(frames)[0], features)
    assert found.grid == (6, 8)


def test_chunks_change_nothing(test_vit, monkeypatch):
    found = FrameBackbone(BackboneConfig("timm:test_vit", str(test_vit[1]), image_size=(32, 32)))
    frames = torch.randn(2, 5, 3, 32, 32)
    whole = found.encode_each(frames)
    passes = []
    monkeypatch.setattr(backbone_file, "CHUNK", 4)
    found.vit.register_forward_pre_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(found, "_tokens", lambda part, inner=found._tokens: (passes.append(len(part)), inner(part))[1])
    torch.testing.assert_close(found.encode_each(frames), whole)
    assert passes == [4, 4, 2]


def test_pictures_of_any_size_get_the_size_and_the_normalisation_of_the_pretraining(test_vit):
    model = frozen_world(test_vit[1])
    frames = random_frames(2, 2, 3, 64, 64)
    sized = F.interpolate(frames.flatten(0, 1).float(), (32, 48), mode="bicubic", antialias=True).clamp(0, 255)
    expected = model.encoder.vit.forward_features((sized / 255 - 0.5) / 0.5)[:, 1:]
    torch.testing.assert_close(model.encode_frames({"image": frames}).flatten(0, 1), expected, atol=1e-4, rtol=1e-4)
    assert model.config.image == ImageTransform((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert model.config.image_size == (32, 48)
    with pytest.raises(ShapeError, match=r"frames\['image'\]: expected uint8"):
        model.encode_frames({"image": frames.float()})


def test_it_never_learns(test_vit):
    model = frozen_world(test_vit[1]).train()
    assert not any(module.training for module in model.encoder.modules())
    assert model.pooler.training
    z = model.encode_frames({"image": random_frames(1, 2, 3, 64, 64)})
    assert not z.requires_grad
    assert not any(weight.requires_grad for weight in model.encoder.parameters())


def test_two_cameras_and_pooled_tokens(test_vit):
    model = frozen_world(test_vit[1], cameras=("front", "wrist"), tokens="pooled")
    frames = {camera: random_frames(1, 2, 3, 64, 64, seed=i) for i, camera in enumerate(model.config.cameras)}
    assert model.encode_frames(frames).shape == (1, 2, 2, 64)


def test_a_saved_model_holds_the_backbone_and_loads_without_its_file_or_the_hub(tmp_path, monkeypatch):
    _, file = published("test_vit", tmp_path)
    model = frozen_world(file).eval()
    frames = random_frames(2, 3, 3, 64, 64)
    past, actions = torch.ones(2, 2, model.action_dim), torch.ones(2, 4, 2, model.action_dim)
    expected = model.rollout(model.encode(frames, past_actions=past), actions).z
    model.save_pretrained(tmp_path / "model")
    file.unlink()
    monkeypatch.setattr(backbone_file, "_with_weights", lambda *_: pytest.fail("weights were read"))
    loaded = WorldModel.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.config.backbone.name == "timm:test_vit.r160_in1k", "the tag is written out"
    assert torch.equal(loaded.rollout(loaded.encode(frames, past_actions=past), actions).z, expected)
    fresh = untrained_like(loaded)
    assert torch.equal(fresh.encode_frames({"image": frames}), loaded.encode_frames({"image": frames}))
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    del tensors["encoder.vit.blocks.0.attn.qkv.weight"]
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor 'encoder.vit.blocks.0.attn.qkv.weight' is missing"):
        WorldModel.from_pretrained(tmp_path / "model")


def test_masked_prediction_is_refused(test_vit):
    with pytest.raises(ConfigError, match=r"frozen backbone \(timm:test_vit.r160_in1k\)"):
        frozen_world(test_vit[1]).masked_parts()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "test_vit"}, "model.backbone.name: expected timm:NAME, found 'test_vit'"),
        (
            {"name": "timm:vit_smal_patch14_dinov2"},
            "has no model 'vit_smal_patch14_dinov2'; did you mean .*vit_small_pa",
        ),
        ({"name": "timm:vit_small_patch14_dinov2.lvd"}, "'vit_small_patch14_dinov2.lvd'; did you mean .*lvd142m"),
        ({"name": "timm:test_resnet"}, "test_resnet.r160_in1k is a ResNet, expected a ViT"),
        ({"image_size": (40, 32)}, r"image_size 40x32 is not a multiple of the patch of test_vit.r160_in1k, 16x16 pix"),
        ({"image_size": (0, 32)}, "image_size 0x32 is not a multiple"),
        ({"weights": "weights.pt"}, r"weights: expected null, random or a .safetensors file, found 'weights.pt'"),
    ],
)
def test_a_configuration_that_is_not_what_it_should_be(changes, text):
    with pytest.raises(ConfigError, match=text) as caught:
        frozen_world("random", **changes)
    assert "\n" not in str(caught.value)


def test_another_normalisation_is_not_the_recipes_to_choose(test_vit):
    config = frozen_world(test_vit[1]).config
    with pytest.raises(ConfigError, match=r"model.image: test_vit.r160_in1k was trained with mean \(0.5, 0.5, 0.5\)"):
        WorldModel(replace(config, image=ImageTransform((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))))


def edited(file: Path, folder: Path, change) -> Path:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, folder / "edited.safetensors")
    return folder / "edited.safetensors"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda t: t.pop("blocks.0.norm1.weight"),
            "tensor 'blocks.0.norm1.weight' is missing; expected the weights of",
        ),
        (lambda t: t.update({"blocks.9.w": torch.ones(1)}), "tensor 'blocks.9.w' is not part of this model; expected"),
        (
            lambda t: t.update({"patch_embed.proj.weight": torch.ones(64, 3, 8, 8)}),
            r"'patch_embed.proj.weight': expected shape \(64, 3, 16, 16\), found \(64, 3, 8, 8\)",
        ),
        (
            lambda t: t.update({"pos_embed": torch.ones(1, 50, 64)}),
            r"'pos_embed': expected shape \(1, 101, 64\), found \(1, 50, 64\)",
        ),
    ],
    ids=["missing", "extra", "patch", "grid"],
)
def test_weights_of_another_model(test_vit, tmp_path, change, text):
    file = edited(test_vit[1], tmp_path, change)
    with pytest.raises(CheckpointError, match=text) as caught:
        frozen_world(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_half_precision_weights_and_a_classifier_of_another_size_are_fine(test_vit, tmp_path):
    def change(tensors):
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})
        tensors["head.weight"] = torch.zeros(7, 64)

    model = frozen_world(edited(test_vit[1], tmp_path, change))
    assert {tensor.dtype for tensor in model.encoder.state_dict().values()} == {torch.float32}


def test_missing_files_and_a_missing_network_are_named(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"none.safetensors: missing"):
        frozen_world(tmp_path / "none.safetensors")

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no network\nat all")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", offline)
    config = BackboneConfig("timm:test_vit")
    with pytest.raises(CheckpointError, match=r"test_vit.r160_in1k are not in the local cache and cannot") as caught:
        FrameBackbone(config)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"timm has no pretrained weights of vit_small_patch16_36x1_224.untrained: "):
        FrameBackbone(replace(config, name="timm:vit_small_patch16_36x1_224"))
