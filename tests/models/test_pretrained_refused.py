"""Weights that do not fit are named in one line that begins with their file; nothing in a file runs."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from vjepa2_weights import SMALL, hugging_face_config, release_content, write_hugging_face, write_release

from jepa_actions.errors import CheckpointError
from jepa_actions.models import Architecture, VideoEncoder, encoder_config, load_vjepa2


def refused(source: Path, text: str, **options) -> str:
    """The message, which must be one line that begins with the file."""
    with pytest.raises(CheckpointError, match=text) as caught:
        load_vjepa2(source, **options)
    message = str(caught.value)
    assert message.startswith(str(source))
    assert "\n" not in message
    return message


def altered(**changes) -> Architecture:
    parts = {"encoder": {}, "predictor": {}}
    for name, value in changes.items():
        part, _, key = name.partition("__")
        parts[part][key] = value
    return Architecture(replace(SMALL.encoder, **parts["encoder"]), replace(SMALL.predictor, **parts["predictor"]))


DIFFERENT = [  # what is asked for, and what the message says of a folder and of a .pt
    (
        altered(encoder__width=48),
        r"hidden_size \(encoder.width\): expected 48, found 24",
        r"width\): expected 48, found 24",
    ),
    (altered(encoder__depth=3), r"num_hidden_layers \(encoder.depth\): expected 3, found 2", "expected 3, found 2"),
    (altered(encoder__patch=8), r"patch_size \(encoder.patch\): expected 8, found 4", r"patch\): expected 8, found 4"),
    (altered(encoder__tubelet=1), r"tubelet_size \(encoder.tubelet\): expected 1", r"tubelet\): expected 1, found 2"),
    (altered(encoder__mlp_ratio=2.0), r"mlp_ratio \(encoder.mlp_ratio\): expected 2.0", r"fc1.weight'.*\(48, 24\)"),
    (
        altered(predictor__width=24),
        r"pred_hidden_size \(predictor.width\): expected 24",
        r"predictor.width\): expected 24",
    ),
    (altered(predictor__mask_tokens=10), r"pred_num_mask_tokens .*expected 10, found 4", r"expected 10, found 4"),
    (altered(predictor__residual=True), "expected predictor.residual false", "expected predictor.residual false"),
]


@pytest.mark.parametrize(("asked", "folder_says", "pt_says"), DIFFERENT)
def test_weights_of_another_architecture(tmp_path, asked, folder_says, pt_says):
    refused(write_hugging_face(tmp_path / "a"), folder_says, architecture=asked)
    refused(write_release(tmp_path / "b.pt"), pt_says, architecture=asked)


def test_every_difference_is_named_at_once(tmp_path):
    folder = write_hugging_face(tmp_path)
    text = refused(folder, "hidden_size", architecture="vit_large_16_256")
    for name in (
        "crop_size",
        "patch_size",
        "hidden_size",
        "num_hidden_layers",
        "pred_hidden_size",
        "num_attention_heads",
    ):
        assert name in text


def test_another_grid(tmp_path):
    asked = altered(encoder__image_size=(32, 32))
    text = r"crop_size \(encoder.image_size\): expected \(32, 32\), found \(16, 16\)"
    refused(write_hugging_face(tmp_path / "a"), text, architecture=asked)
    content = release_content()
    content["target_encoder"]["pos_embed"] = torch.zeros(1, 32, 24)
    file = write_release(tmp_path / "b.pt", **content)
    assert load_vjepa2(file, architecture=SMALL).encoder.config.grid == (4, 4)
    refused(file, "32 tokens are no whole number of 8x8 grids", architecture=asked)


def test_a_pt_does_not_say_its_architecture(tmp_path):
    refused(write_release(tmp_path / "a.pt"), "pass an architecture; none of those with a name fits its shapes")
    with torch.device("meta"):
        large = VideoEncoder(encoder_config("vit_large_16_256"))
    wanted = {n: torch.zeros((), dtype=torch.float32).expand(p.shape) for n, p in large.state_dict().items()}
    some = {n: wanted[n] for n in ("patch_embed.proj.weight", "blocks.23.norm1.weight")}
    file = write_release(tmp_path / "b.pt", target_encoder=some, predictor={})
    refused(file, "pass an architecture; one of vit_large_16_256, vit_large_16_384 fits its shapes")


def edit(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


QUERY = "encoder.layer.1.attention.query.weight"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop(QUERY), f"tensor '{QUERY}' is missing; expected shape \\(24, 24\\)"),
        (
            lambda t: t.update({"encoder.layer.2.norm1.bias": torch.zeros(24)}),
            "encoder.layer.2.norm1.bias' is not part",
        ),
        (lambda t: t.update({QUERY: torch.zeros(24, 12)}), r"expected shape \(24, 24\), found \(24, 12\)"),
        (lambda t: t[QUERY].fill_(float("inf")), f"{QUERY}' has values that are not finite"),
        (lambda t: t.update({QUERY: torch.zeros(24, 24, dtype=torch.int64)}), "expected floats, found torch.int64"),
        (
            lambda t: t.update({"predictor.embeddings.mask_tokens": torch.zeros(3, 1, 1, 16)}),
            r"mask_tokens': expected shape \(4, 1, 1, 16\), found \(3, 1, 1, 16\)",
        ),
    ],
    ids=["missing", "extra", "shape", "infinite", "integers", "mask tokens"],
)
def test_a_tensor_that_is_not_what_it_should_be(tmp_path, change, text):
    folder = write_hugging_face(tmp_path)
    edit(folder, change)
    refused(folder, text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["target_encoder"].pop("module.backbone.norm.bias"), "tensor 'encoder.norm.bias' is missing"),
        (lambda c: c["target_encoder"].update({"head.weight": torch.zeros(2)}), "'encoder.head.weight' is not part of"),
        (lambda c: c["predictor"].update({"predictor_norm.bias": torch.zeros(16)}), "stands there twice"),
        (lambda c: c["predictor"]["module.backbone.predictor_norm.bias"].fill_(float("nan")), "not finite"),
        (lambda c: c["predictor"].update({"depth": 3}), r"predictor\['depth'\]: expected a tensor, found int"),
        (
            lambda c: c.pop("target_encoder"),
            "expected a dictionary 'target_encoder' of tensors, found encoder, predictor",
        ),
        (lambda c: c.update(predictor=None), "expected a dictionary 'predictor' of tensors"),
    ],
    ids=["missing", "extra", "twice", "nan", "no tensor", "no encoder", "no predictor"],
)
def test_a_release_that_is_not_what_it_should_be(tmp_path, change, text):
    content = release_content()
    change(content)
    torch.save(content, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", text, architecture=SMALL)


class Code:
    """What unpickling would run."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return os.mkdir, (str(self.touched),)


@pytest.mark.parametrize("whole", [False, True])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, whole):
    file, touched = tmp_path / "a.pt", tmp_path / "touched"
    if whole:
        file.write_bytes(pickle.dumps(Code(touched), protocol=2))
    else:
        write_release(file, epoch=Code(touched))
    refused(file, r"refused by torch.load\(weights_only=True\): it asks for (posix|nt).mkdir", architecture=SMALL)
    assert not touched.exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all\n", b"PK\x03\x04 cut short"])
def test_not_a_weights_file(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    refused(tmp_path / "a.pt", r"refused by torch.load\(weights_only=True\): \S", architecture=SMALL)


def test_other_things_than_weights(tmp_path):
    torch.save([1, 2], tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "expected a dictionary with encoder, target_encoder, predictor, found list")
    folder = write_hugging_face(tmp_path / "b")
    refused(folder / "model.safetensors", "expected its folder, which also holds config.json")
    refused(tmp_path / "a.pt", "is a file, so it has no revision 'v1'", revision="v1")
    refused(tmp_path / "a.pt", "expected 'target_encoder' or 'encoder', found 'ema'", which="ema")
    (folder / "model.safetensors").write_bytes(b"short")
    refused(folder, "missing or damaged")
    with pytest.raises(CheckpointError, match=r"no such folder, and not a Hub id"):
        load_vjepa2(tmp_path / "absent")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("model_type", "vit", "model_type: expected 'vjepa2', found 'vit'"),
        ("hidden_act", "silu", "hidden_act: expected 'gelu', found 'silu'"),
        ("layer_norm_eps", 1e-5, "layer_norm_eps: expected 1e-06, found 1e-05"),
        ("qkv_bias", False, "qkv_bias: expected True"),
        ("hidden_size", None, "hidden_size: expected a positive number, found None"),
        ("hidden_size", True, "hidden_size: expected a positive number, found True"),
        ("patch_size", [4, 8], r"patch_size: expected a positive number, found \[4, 8\]"),
        ("num_attention_heads", 7, "encoder.width 24 is not a multiple of encoder.heads 7"),
        ("pred_num_attention_heads", 8, "predictor.width / heads is 2: rotary embedding needs at least 6"),
        ("num_hidden_layers", 3, "tensor 'encoder.layer.2.norm1.weight' is missing"),
        ("num_hidden_layers", 1, "tensor 'encoder.layer.1.attention.key.bias' is not part of this architecture"),
        ("patch_size", 8, "patch_embeddings.proj.weight'.*expected shape .*8, 8.*found .*4, 4"),
    ],
)
def test_a_config_that_is_not_what_it_should_be(tmp_path, key, value, text):
    folder = write_hugging_face(tmp_path)
    (folder / "config.json").write_text(json.dumps(hugging_face_config() | {key: value}))
    refused(folder, text)


def test_a_config_that_is_none(tmp_path):
    folder = write_hugging_face(tmp_path)
    config = hugging_face_config()
    del config["crop_size"]
    for text, message in (
        (json.dumps(config), "field 'crop_size' is missing"),
        ("{", "not valid JSON"),
        ("[]", "expected an object, found list"),
    ):
        (folder / "config.json").write_text(text)
        refused(folder, message)


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/tmp/model.safetensors", "a/b.safetensors", "weights.bin", 3]
)
def test_an_index_reaches_nowhere_but_into_its_folder(tmp_path, file):
    folder = write_hugging_face(tmp_path / "a", shards=2)
    save_file(load_file(next(folder.glob("*.safetensors"))), tmp_path / "model.safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["encoder.layernorm.bias"] = file
    path.write_text(json.dumps(index))
    refused(folder, r"encoder.layernorm.bias: expected the name of a \*.safetensors file, found")


def test_shards_that_do_not_hold_what_the_index_says(tmp_path):
    folder = write_hugging_face(tmp_path, shards=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first, second = sorted(set(index["weight_map"].values()))
    name = next(name for name, file in index["weight_map"].items() if file == first)
    index["weight_map"][name] = second
    path.write_text(json.dumps(index))
    refused(folder, f"{second}: tensor '{name}' is missing, though the index places it here")
    (folder / second).unlink()
    refused(folder, f"{second}: missing or damaged")
    path.write_text('{"weight_map": {}}')
    refused(folder, "expected an object 'weight_map'")
