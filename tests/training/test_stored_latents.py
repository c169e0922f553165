"""What stored latents are filed under changes with the encoder and its transform, and with nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import TINY, tiny_codec, tiny_world

from jepa_actions.data import LatentCache
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import DataError
from jepa_actions.models import BackboneConfig, EncoderConfig, ImageTransform, PoolerConfig, WorldModel
from jepa_actions.training import WorldDataset
from jepa_actions.training.latents import encode_latents, encoder_key, encoder_of, stored_latents, transform_key

BACKBONE = BackboneConfig("timm:test_vit", "random", image_size=(32, 32))
FROZEN = replace(TINY, backbone=BACKBONE, pooler=PoolerConfig(kind="patches", dim=64))


def frozen(seed: int = 0, **backbone) -> WorldModel:
    torch.manual_seed(seed)
    return WorldModel(replace(FROZEN, backbone=replace(BACKBONE, **backbone)), tiny_codec()).eval()


@pytest.fixture(scope="module")
def room() -> WorldDataset:
    return WorldDataset(TwoRoomWorld(), TwoRoomWorld().behaviour(3, steps=70, seed=0))


class TestKeys:
    @pytest.mark.parametrize("make", [frozen, tiny_world])
    def test_one_bit_of_one_weight_is_another_encoder(self, make):
        model = make()
        before = encoder_key(model)
        for name, tensor in model.encoder.state_dict().items():
            changed = copy.deepcopy(model)
            flat = changed.encoder.state_dict()[name].view(-1).view(torch.int32)
            flat[-1] ^= 1
            assert encoder_key(changed) != before, (name, tensor.shape)
        assert encoder_key(copy.deepcopy(model)) == before

    def test_the_same_weights_in_another_form_are_another_encoder(self):
        """The number of heads changes no tensor's shape."""
        one, two = (tiny_world(encoder=EncoderConfig((16, 16), patch=4, width=24, depth=1, heads=h)) for h in (2, 3))
        assert all(
            torch.equal(a, b) for a, b in zip(*(m.encoder.state_dict().values() for m in (one, two)), strict=True)
        )
        assert encoder_key(one) != encoder_key(two)

    def test_heads_and_where_weights_came_from_do_not_matter(self, tmp_path):
        model = frozen()
        other = copy.deepcopy(model)
        with torch.no_grad():
            for part in (other.dynamics, other.inverse):
                for weight in part.parameters():
                    weight.add_(1)
        model.save_pretrained(tmp_path)
        for same in (other, WorldModel.from_pretrained(tmp_path)):
            assert encoder_key(same) == encoder_key(model)
            assert transform_key(same) == transform_key(model)

    def test_transform(self):
        image = ImageTransform(mean=(0.5, 0.5, 0.5))
        models = [
            frozen(),
            frozen(tokens="pooled"),
            frozen(image_size=(64, 64)),
            tiny_world(),
            tiny_world(image=image),
            tiny_world(cameras=("left",)),
            tiny_world(encoder=EncoderConfig((32, 16), patch=4, width=24, depth=1, heads=2)),
        ]
        assert len({transform_key(model) for model in models}) == len(models)
        assert encoder_key(models[0]) == encoder_key(models[1]), "pooled or not, the encoder is the same"


@pytest.mark.parametrize("tokens", ["patch", "pooled"])
def test_stored_latents_are_what_the_model_makes_of_the_frames(tokens, room, tmp_path):
    model = frozen(tokens=tokens)
    model.train()
    store = encode_latents(model, room, tmp_path)
    memory = LatentCache(room, encoder_of(model), range(3))
    episodes, frames = np.array([2, 0, 2]), np.array([[0, 70], [65, 5], [11, 22]])
    found, expected = store.read(episodes, frames)["image"], memory.read(episodes, frames)["image"]
    images = model.tokens_of(model.images(room.read_clips(episodes, frames)))["image"]
    assert found.shape == (3, 2, 1 if tokens == "pooled" else 4, 64)
    torch.testing.assert_close(found, expected, rtol=0, atol=float(expected.abs().max()) * 2**-11)
    torch.testing.assert_close(expected, images)
    assert torch.equal(stored_latents(model, room, tmp_path).latents_of(1)["image"], store.latents_of(1)["image"])


def test_another_model_does_not_read_them(room, tmp_path):
    encode_latents(frozen(), room, tmp_path)
    for other, part in ((frozen(seed=1), "encoder"), (frozen(tokens="pooled"), "transform")):
        with pytest.raises(DataError, match=rf"no latents of env:two_room by this encoder .*\(another {part}\)"):
            stored_latents(other, room, tmp_path)


def test_precision_of_training_does_not_matter(room):
    model = frozen()
    frames = room.read_clips(np.array([0]), np.arange(4)[None])
    plain = encoder_of(model)(frames)["image"]
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder_of(model)(frames)["image"]
    assert inside.dtype == torch.float32
    assert torch.equal(plain, inside)
    assert not encoder_of(tiny_world())({"image": frames["image"][..., :16, :16].contiguous()})["image"].requires_grad
