"""The latent cache gives what the encoder gives, encodes each episode once, and says where it will not fit."""

import numpy as np
import pytest
import torch

from jepa_actions.data import ActionCodec, ClipIndex, ClipLoader, LatentCache
from jepa_actions.data.latents import cache as cache_file
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import DataError
from jepa_actions.training import WorldDataset, whole_episodes


@pytest.fixture(scope="module")
def room() -> WorldDataset:
    return WorldDataset(TwoRoomWorld(), TwoRoomWorld().behaviour(4, steps=30, seed=0))


class Encoder:
    """Two tokens per frame, and a record of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, frames):
        self.asked.append(tuple(frames["image"].shape[:2]))
        cells = frames["image"].float().mean(2).unfold(3, 32, 32).mean(-1)  # (b, t, h, 2)
        return {"image": cells.transpose(2, 3)}


def test_tokens_are_those_of_the_frames_and_each_episode_is_encoded_once(room, monkeypatch):
    monkeypatch.setattr(cache_file, "CHUNK", 20)
    encoder = Encoder()
    cache = LatentCache(room, encoder, range(4))
    episodes, frames = np.array([2, 0, 2]), np.array([[0, 7], [30, 5], [11, 22]])
    expected = Encoder()(room.read_clips(episodes, frames))["image"]
    assert torch.equal(cache.read(episodes, frames)["image"], expected)
    assert encoder.asked == [(1, 20), (1, 11)] * 2
    assert torch.equal(cache.read(episodes[::-1], frames[::-1])["image"], expected.flip(0))
    assert len(encoder.asked) == 4


def test_batches_have_tokens_in_place_of_frames(room):
    codec = ActionCodec.fit(room, whole_episodes(room), block=5)
    index = ClipIndex(whole_episodes(room), frames=3, block=5)
    plain = ClipLoader(room, index, codec, batch_size=4, seed=1).batch(2)
    cached = ClipLoader(room, index, codec, batch_size=4, seed=1, latents=LatentCache(room, Encoder(), range(4)))
    batch = cached.batch(2).to("cpu")
    assert batch.frames == {}
    assert torch.equal(batch.tokens["image"], Encoder()(plain.frames)["image"])
    assert torch.equal(batch.actions, plain.actions)
    assert torch.equal(batch.frame, plain.frame)


def test_what_does_not_fit_is_said_before_it_is_made(room):
    encoder = Encoder()
    cache = LatentCache(room, encoder, range(4), limit=4 * 31 * 512 - 1)
    with pytest.raises(
        DataError, match=r"env:two_room: data.cache latents: the tokens of 124 frames take 0.0 GiB"
    ) as e:
        cache.read(np.array([0]), np.array([[0]]))
    assert "\n" not in str(e.value)
    assert LatentCache(room, encoder, range(4), limit=4 * 31 * 512).read(np.array([0]), np.array([[0]]))


def test_only_frames_that_may_be_asked_for_are_encoded(room):
    encoder = Encoder()
    cache = LatentCache(room, encoder, range(4), every=5)
    episodes, frames = np.array([2, 0]), np.array([[0, 10], [30, 5]])
    expected = Encoder()(room.read_clips(episodes, frames))["image"]
    assert torch.equal(cache.read(episodes, frames)["image"], expected)
    assert encoder.asked == [(1, 7)] * 2  # frames 0, 5, ..., 30
    with pytest.raises(DataError, match="expected frames that 5 divides, found"):
        cache.read(np.array([0]), np.array([[0, 7]]))
