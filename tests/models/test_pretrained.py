"""Published V-JEPA 2 weights: both layouts load, and what does not fit is named in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from vjepa2_weights import SMALL, modules, release_content, write_hugging_face, write_release

from jepa_actions.errors import CheckpointError, ConfigError
from jepa_actions.models import (
    ARCHITECTURES,
    ImageTransform,
    MaskedPredictor,
    PoolerConfig,
    Pretrained,
    VideoEncoder,
    WorldModel,
    encoder_config,
    load_vjepa2,
    load_vjepa2_encoder,
    predictor_config,
)

IGNORED = ("batch_size", "encoder", "epoch", "loss", "lr", "opt", "scaler", "world_size")


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- what loads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_in_the_hugging_face_layout(tmp_path, shards):
    folder = write_hugging_face(tmp_path, shards=shards)
    found = load_vjepa2(folder)
    encoder, predictor = modules()
    assert same(found.encoder, encoder)
    assert same(found.predictor, predictor)
    assert (found.encoder.config, found.predictor.config) == (SMALL.encoder, SMALL.predictor)
    assert not found.encoder.training
    assert found.ignored == ()
    assert found.image == ImageTransform()  # ImageNet's
    assert same(load_vjepa2(str(folder), architecture=SMALL).encoder, encoder)


@pytest.mark.parametrize(("which", "seed"), [("target_encoder", 0), ("encoder", 1)])
def test_a_pt_of_the_release(tmp_path, which, seed):
    found = load_vjepa2(write_release(tmp_path / "vitx.pt"), architecture=SMALL, which=which)
    assert same(found.encoder, modules(seed=seed)[0])
    assert same(found.predictor, modules()[1])
    other = {"target_encoder", "encoder"} - {which}
    assert set(found.ignored) == {"opt", "scaler", "epoch", "loss", "batch_size", "world_size", "lr"} | other


def test_prefixes_come_in_every_combination(tmp_path):
    content = release_content()
    for prefix in ("", "module.", "backbone.", "module.module.backbone."):
        renamed = {
            part: {prefix + name.removeprefix("module.backbone."): tensor for name, tensor in content[part].items()}
            for part in ("target_encoder", "predictor")
        }
        found = load_vjepa2(write_release(tmp_path / "a.pt", **renamed), architecture=SMALL)
        assert same(found.encoder, modules()[0])


def test_an_unused_position_table_is_listed_and_nothing_else_is_let_through(tmp_path):
    content = release_content()
    content["target_encoder"]["module.backbone.pos_embed"] = torch.zeros(1, 32, 24)
    content["predictor"]["module.backbone.predictor_pos_embed"] = torch.zeros(1, 32, 16)
    found = load_vjepa2(write_release(tmp_path / "a.pt", **content), architecture=SMALL)
    assert found.ignored == (*IGNORED, "encoder.pos_embed", "predictor.predictor_pos_embed")
    content["target_encoder"]["module.backbone.pos_embed_2"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"tensor .encoder\.pos_embed_2. is not part of this architecture"):
        load_vjepa2(write_release(tmp_path / "a.pt", **content), architecture=SMALL)


def test_a_file_of_before_zip_files(tmp_path):
    torch.save(release_content(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(load_vjepa2(tmp_path / "old.pt", architecture=SMALL).encoder, modules()[0])


def test_half_precision_becomes_single(tmp_path):
    folder = write_hugging_face(tmp_path)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    found = load_vjepa2(folder)
    for ours, theirs in zip(found.encoder.parameters(), modules()[0].parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16().float())


def test_the_weights_of_a_classifier_load_without_its_head(tmp_path):
    folder = write_hugging_face(tmp_path)
    tensors = {f"vjepa2.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors | {"classifier.weight": torch.zeros(3, 24)}, folder / "model.safetensors")
    found = load_vjepa2(folder)
    assert same(found.encoder, modules()[0])
    assert found.ignored == ("classifier.weight",)


def test_the_encoder_alone_whatever_predictor_is_beside_it(tmp_path):
    content = release_content()
    content["predictor"] = {"module.action_encoder.weight": torch.zeros(16, 7)}
    del content["target_encoder"]  # as in the release of V-JEPA 2-AC
    torch.save(content, tmp_path / "ac.pt")
    encoder = load_vjepa2_encoder(tmp_path / "ac.pt", architecture=SMALL, which="encoder")
    assert same(encoder, modules(seed=1)[0])
    with pytest.raises(CheckpointError, match=r"tensor 'predictor[.]\w+[.]\w+' is missing"):
        load_vjepa2(tmp_path / "ac.pt", architecture=SMALL, which="encoder")
    folder = write_hugging_face(tmp_path / "folder")
    assert same(load_vjepa2_encoder(folder), modules()[0])
    assert load_vjepa2_encoder(folder, image_size=(8, 24)).config.grid == (2, 6)
    (folder / "model.safetensors").unlink()
    save_file({"encoder.norm.weight": torch.ones(24)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor 'encoder\.[\w.]+' is missing"):
        load_vjepa2_encoder(folder)


def test_another_image_size_is_a_wish_not_a_difference(tmp_path):
    folder, file = write_hugging_face(tmp_path / "a"), write_release(tmp_path / "b.pt")
    for found in (
        load_vjepa2(folder, image_size=(8, 24)),
        load_vjepa2(file, architecture=SMALL, image_size=(8, 24)),
    ):
        assert found.encoder.config.grid == found.predictor.grid == (2, 6)
        assert same(found.encoder, modules()[0])


def test_weights_are_free_of_their_file_and_can_be_trained(tmp_path):
    folder = write_hugging_face(tmp_path)
    found = load_vjepa2(folder)
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    assert same(found.encoder, modules()[0])
    for parameter in (*found.encoder.parameters(), *found.predictor.parameters()):
        assert parameter.requires_grad
        assert not parameter.is_meta
    with torch.no_grad():
        found.encoder.norm.weight.add_(1.0)


def test_nothing_is_allocated_but_the_weights_themselves(tmp_path, monkeypatch):
    """A model of a billion parameters must not be drawn at random first, nor be read twice."""
    from jepa_actions.models import pretrained

    folder, born, reads = write_hugging_face(tmp_path), [], []

    def build(cls, original):
        def init(self, *args):
            original(self, *args)
            born.append(all(parameter.is_meta for parameter in self.parameters()))

        monkeypatch.setattr(cls, "__init__", init)

    def opened(*args, **options):
        files = open_weights(*args, **options)
        return replace(files, read=lambda name: (reads.append(name), files.read(name))[1])

    open_weights = pretrained.open_weights
    monkeypatch.setattr(pretrained, "open_weights", opened)
    for cls in (VideoEncoder, MaskedPredictor):
        build(cls, cls.__init__)
    load_vjepa2(folder)
    assert born == [True, True]
    big = [name for name in reads if "mask_tokens" not in name]
    assert len(big) == len(set(big)) == len(load_file(folder / "model.safetensors")) - 1


def test_a_world_model_around_them_plans_nothing_but_encodes_saves_and_loads(tmp_path):
    found = load_vjepa2(write_hugging_face(tmp_path / "weights"))
    world = found.world_model()
    frames = {"image": torch.randint(0, 256, (2, 3, 3, 16, 16), dtype=torch.uint8)}
    z = world.encode_frames(frames)
    assert z.shape == (2, 3, 16, 24)
    each = found.encoder.encode_each(found.image(frames["image"]))
    assert torch.equal(z, each)
    world.save_pretrained(tmp_path / "model")
    loaded = WorldModel.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.encode_frames(frames), z)
    assert loaded.config.pooler == PoolerConfig(kind="patches", dim=24)
    assert loaded.extra["source"] == str(tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"is a model of this library: open its folder with WorldModel"):
        load_vjepa2(tmp_path / "model")


HUB = """
import json
from jepa_actions.models import load_vjepa2
found = load_vjepa2("someone/vjepa2")
print(json.dumps(sum(float(p.double().sum()) for p in found.encoder.parameters())))
"""


def test_a_hub_id(tmp_path):
    """From a local Hub: only configuration and weights are fetched."""
    from local_hub import Hub

    folder = write_hugging_face(tmp_path / "weights", shards=2)
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    hub = Hub()
    hub.repositories["someone/vjepa2"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    env = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", HUB], env=env, capture_output=True, text=True, timeout=120)
    hub.shutdown()
    assert done.returncode == 0, done.stderr
    expected = sum(float(p.detach().double().sum()) for p in modules()[0].parameters())
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(expected)
    assert not list((tmp_path / "cache").rglob("modeling.py"))


def test_the_result_says_where_it_came_from(tmp_path):
    found = load_vjepa2(write_hugging_face(tmp_path))
    assert isinstance(found, Pretrained)
    assert found.source == str(tmp_path)


# -- named architectures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "encoder_count", "predictor_count", "head"),
    [  # parameters of the modules that the release's own factory functions build
        ("vit_large_16_256", 303_885_312, 22_086_016, 64),
        ("vit_huge_16_256", 631_648_000, 22_282_880, 80),
        ("vit_giant_16_256", 1_012_173_952, 22_381_312, 64),
        ("vit_giant_16_384", 1_012_173_952, 22_381_312, 64),
    ],
)
def test_published_sizes(name, encoder_count, predictor_count, head):
    config = encoder_config(name)
    with torch.device("meta"):
        encoder = VideoEncoder(config)
        predictor = MaskedPredictor(predictor_config(name), config)
    for module, count in ((encoder, encoder_count), (predictor, predictor_count)):
        assert sum(parameter.numel() for parameter in module.parameters()) == count
    assert config.width // config.heads == head
    assert (config.patch, config.tubelet) == (16, 2)
    assert config.image_size == (int(name[-3:]),) * 2
    assert len(predictor.mask_tokens) == 10
    assert len(predictor.blocks) == 12


@pytest.mark.parametrize("name", ["vit_tiny_16_224", "vit_small_16_224", "vit_base_16_224", "vit_laptop_8_64"])
def test_small_sizes_grow(name):
    order = ["vit_laptop_8_64", "vit_tiny_16_224", "vit_small_16_224", "vit_base_16_224", "vit_large_16_256"]
    widths = [encoder_config(size).width for size in order]
    assert widths == sorted(set(widths))
    assert predictor_config(name).width < encoder_config(name).width
    assert ARCHITECTURES[name].hub_id is None


def test_an_unknown_architecture():
    with pytest.raises(ConfigError, match=r"found 'vit_lage_16_256' \(did you mean 'vit_large_16_256'\?\)") as caught:
        encoder_config("vit_lage_16_256")
    assert "\n" not in str(caught.value)
