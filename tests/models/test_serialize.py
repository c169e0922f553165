import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world import random_frames, tiny_codec, tiny_world

from jepa_actions.errors import CheckpointError
from jepa_actions.models import (
    DistanceConfig,
    DynamicsConfig,
    ImageTransform,
    InverseConfig,
    MotionConfig,
    PoolerConfig,
    WorldModel,
)
from jepa_actions.models.migrations import MIGRATIONS

VARIANTS = {
    "mlp": {},
    "categorical": {"inverse": InverseConfig(width=24, distribution="categorical", bins=5)},
    "memory": {
        "cameras": ("front", "wrist"),
        "image": ImageTransform(mean=(0.0, 0.1, 0.2), std=(0.3, 0.4, 0.5)),
        "dynamics": DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=2),
    },
    "goals": {
        "distance": DistanceConfig(width=24, depth=1),
        "goal_inverse": InverseConfig(width=24, max_gap=6, history=2),
        "dynamics": DynamicsConfig(width=24, depth=1, history=2),
    },
    "motion": {
        "pooler": PoolerConfig(kind="patches", dim=24),
        "inverse": InverseConfig(kind="motion", motion=MotionConfig(radius=1, pool=(2, 2))),
    },
}


def answers(model: WorldModel) -> list[torch.Tensor]:
    frames = {camera: random_frames(2, 2, 3, 16, 16, seed=i) for i, camera in enumerate(model.config.cameras)}
    context = model.encode(frames, past_actions=torch.ones(2, 1, model.action_dim))
    rollout = model.rollout(context, torch.ones(2, 3, 2, model.action_dim))
    belief = model.infer_actions(context.z, context.z.flip(0), 1)
    if model.distance is not None:
        far, goal = model.temporal_distance(context.z, context.z.flip(0)), context.z.flip(0)
        return [rollout.z, far, model.goal_actions(context.z, goal, before=context.before).mean, model.distance.reach]
    tokens = model.encoder(model.images(frames)[model.config.cameras[0]])
    ids = torch.arange(4).expand(2, -1)
    return [context.z, rollout.z, belief.mean, belief.std, model.predictor(tokens[:, :4], ids, ids + 16, "future")]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_loaded_model_answers_the_same_bit_for_bit(name, tmp_path):
    model = tiny_world(tiny_codec(block=2), **VARIANTS[name])
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).abs())
    model.save_pretrained(tmp_path)
    loaded = WorldModel.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert not loaded.training
    for one, two in zip(answers(model), answers(loaded), strict=True):
        assert torch.equal(one, two)
    raw = torch.tensor([[1.0, 0.5], [-1.0, 0.2]])
    assert torch.equal(loaded.codec.encode(raw), model.codec.encode(raw))
    assert torch.equal(loaded.action_bounds.low, model.action_bounds.low)


def test_a_model_of_video_alone_is_saved_without_codec(tmp_path):
    tiny_world(video_only=True).save_pretrained(tmp_path)
    loaded = WorldModel.from_pretrained(tmp_path)
    assert loaded.codec is None
    assert loaded.dynamics is None


def test_facts_and_card_travel_with_the_weights(tmp_path):
    model = tiny_world()
    model.extra = {"recipe": {"name": "a"}}
    model.save_pretrained(tmp_path, card="# Card\n", extra={"scores": {"r2": 0.9}})
    loaded = WorldModel.from_pretrained(tmp_path)
    assert loaded.extra == {"recipe": {"name": "a"}, "scores": {"r2": 0.9}}
    assert (tmp_path / "README.md").read_text() == "# Card\n"
    loaded.save_pretrained(tmp_path)
    assert WorldModel.from_pretrained(tmp_path).extra == loaded.extra
    assert (tmp_path / "README.md").read_text() == "# Card\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "checksums.json",
        "config.json",
        "golden.safetensors",
        "model.safetensors",
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_world().save_pretrained(tmp_path)
    return tmp_path


def refused(folder: Path, file: str, text: str) -> None:
    with pytest.raises(CheckpointError, match=text) as caught:
        WorldModel.from_pretrained(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / file))
    assert "\n" not in message


def test_a_missing_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "model.safetensors", "tensor 'encoder.norm.weight' is missing")


def test_an_extra_tensor(folder):
    tensors = load_file(folder / "model.safetensors") | {"decoder.weight": torch.zeros(2)}
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "model.safetensors", "tensor 'decoder.weight' is not part of this model")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (torch.zeros(24, 24), r"expected shape \(24,\), found \(24, 24\)"),
        (torch.zeros(24, dtype=torch.float64), "expected torch.float32, found torch.float64"),
        (torch.full((24,), float("nan")), "values that are not finite"),
    ],
    ids=["shape", "dtype", "nan"],
)
def test_a_tensor_that_is_not_what_it_should_be(folder, wrong, text):
    tensors = load_file(folder / "model.safetensors") | {"encoder.norm.weight": wrong}
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "model.safetensors", f"tensor 'encoder.norm.weight'.*{text}")


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_weights(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(folder, "model.safetensors", "damaged")


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "model.safetensors", "missing")


def test_a_folder_without_config(folder):
    (folder / "config.json").unlink()
    refused(folder, "config.json", "missing; a model folder has config.json and model.safetensors, found .*safetensors")


def edit(folder: Path, *keys: str, value: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        (("format_version",), 7, "format_version 7 is newer than 6, which this release reads: upgrade"),
        (("format_version",), "1", "format_version: expected a whole number from 1 to 6, found '1'"),
        (("library",), "other", "not a jepa_actions model"),
        (("notes",), "", r"missing or unknown: \['notes'\]"),
        (("model", "encoder", "depht"), 3, r"model.encoder: unknown field 'depht' \(did you mean 'depth'\?\)"),
        (("model", "encoder", "depth"), "3", "model.encoder.depth: expected int, found '3'"),
        (("model", "encoder", "depth"), True, "model.encoder.depth: expected int, found True"),
        (("model", "encoder", "heads"), 5, "model.encoder: encoder.width 24 is not a multiple of encoder.heads 5"),
        (("model", "encoder", "patch"), 0, "model.encoder: encoder.patch 0"),
        (("model", "encoder", "image_size"), [16], "model.encoder.image_size: expected tuple"),
        (("model", "encoder"), [], "model.encoder: expected an object, found list"),
        (("model", "dynamics", "kind"), "lstm", r"model.dynamics.kind: expected one of \('mlp', 'transformer', 'ac'\)"),
        (("model", "dynamics", "proprio"), 2, "dynamics.kind mlp takes an action alone"),
        (("model", "pooler", "dim"), "wide", "model.pooler.dim: expected int"),
        (("codec", "std"), [0.0, 1.0], "std > 0"),
        (("codec", "block"), 0, "block"),
        (("codec",), {}, "codec"),
    ],
)
def test_a_config_that_is_not_what_it_should_be(folder, keys, value, text):
    edit(folder, *keys, value=value)
    refused(folder, "config.json", text)


def rewind(folder: Path, version: int = 1) -> None:
    """Make the folder one of an older format, as it was written before the later fields were thought of."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["format_version"] = version
    for field in [field for step in MIGRATIONS if step.to > version for field in step.added]:
        *parents, name = field.split(".")
        inner = config
        for parent in parents:
            inner = inner[parent]
        del inner[name]
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_model_of_an_older_format_still_answers_the_same(tmp_path, version):
    model = tiny_world(tiny_codec(block=2), **VARIANTS["memory"])
    model.save_pretrained(tmp_path)
    rewind(tmp_path, version)
    loaded = WorldModel.from_pretrained(tmp_path)
    assert loaded.config == model.config
    for one, two in zip(answers(model), answers(loaded), strict=True):
        assert torch.equal(one, two)


def test_a_model_of_format_1_loads():
    folder = Path(__file__).parent / "formats" / "v1"
    assert json.loads((folder / "config.json").read_text())["format_version"] == 1
    loaded = WorldModel.from_pretrained(folder)
    assert loaded.config.backbone is None
    assert loaded.distance is None
    assert loaded.goal_inverse is None
    assert loaded.config.inverse.history == 1


def test_a_field_that_came_later_is_no_part_of_format_1(folder):
    rewind(folder)
    edit(folder, "model", "backbone", value=None)
    refused(folder, "config.json", "model.backbone: not part of format_version 1")


def test_a_field_of_todays_format_is_not_filled_in(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["model"]["backbone"]
    path.write_text(json.dumps(config))
    refused(folder, "config.json", "model: field 'backbone' is missing")


def test_a_missing_field(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["model"]["predictor"]["depth"]
    path.write_text(json.dumps(config))
    refused(folder, "config.json", "model.predictor: field 'depth' is missing")


@pytest.mark.parametrize(
    ("text", "fault"), [("", "not valid JSON"), ("{", "not valid JSON"), ("[1]", "not a jepa_actions model")]
)
def test_a_config_that_is_not_json(folder, text, fault):
    (folder / "config.json").write_text(text)
    refused(folder, "config.json", fault)


def test_another_size_in_the_config_is_found_in_the_weights(folder):
    edit(folder, "model", "encoder", "depth", value=2)
    refused(folder, "model.safetensors", "tensor 'encoder.blocks.1.*' is missing")


def test_no_such_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder, and not a Hub id") as caught:
        WorldModel.from_pretrained(tmp_path / "none")
    assert "\n" not in str(caught.value)
