"""Batches of several clips of each scene: who is drawn, whatever the ranks, and what the loader then says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jepa_actions.data import ActionCodec, Batch, ClipIndex, ClipLoader, LatentCache, Segment
from jepa_actions.data.index import SceneSampler
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import DataError, ShapeError
from jepa_actions.training import WorldDataset, whole_episodes

SCENES = np.array([3, 0, 3, 3, 1, 0, 2, 2, 2, 2, 1, 3])


def drawn(step: int, **more) -> np.ndarray:
    return SceneSampler(SCENES, 6, 5, per_scene=2, **more).ids(step)


def test_a_batch_is_whole_scenes_side_by_side_and_a_function_of_seed_and_step():
    seen: list[int] = []
    for step in range(200):
        scenes = SCENES[drawn(step)].reshape(3, 2)
        assert (scenes[:, 0] == scenes[:, 1]).all()
        assert len(set(scenes[:, 0])) == 3, "a scene came twice"
        seen += scenes[:, 0].tolist()
        assert np.array_equal(drawn(step), drawn(step))
    assert np.bincount(seen, minlength=4) / 200 == pytest.approx([0.75] * 4, abs=0.12), "each scene alike"
    assert not np.array_equal(drawn(0), drawn(1))
    assert not np.array_equal(drawn(0), SceneSampler(SCENES, 6, 6, per_scene=2).ids(0))
    clips = np.bincount(np.concatenate([drawn(step) for step in range(400)]), minlength=12)
    assert (clips > 0).all()
    assert clips[[6, 7, 8, 9]] / clips[[6, 7, 8, 9]].sum() == pytest.approx([0.25] * 4, abs=0.06)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_are_one_rank_and_each_has_whole_scenes(world_size):
    batch = SceneSampler(np.repeat(np.arange(20), 3), 24, 0, per_scene=2).ids(7)
    parts = [
        SceneSampler(np.repeat(np.arange(20), 3), 24, 0, per_scene=2, rank=rank, world_size=world_size).ids(7)
        for rank in range(world_size)
    ]
    assert sorted(np.concatenate(parts)) == sorted(batch)
    for part in parts:
        assert len(part) == 24 // world_size
        scenes = (part // 3).reshape(-1, 2)
        assert (scenes[:, 0] == scenes[:, 1]).all()


@pytest.mark.parametrize(
    ("batch_size", "per_scene", "message"),
    [
        (7, 2, "batch_size 7 with 2 clips per scene, expected a whole number"),
        (4, 0, "with 0 clips per scene"),
        (10, 2, r"a batch of 5 scenes \(10 clips, 2 of each\) asked for, found 4 scenes"),
    ],
)
def test_batches_that_cannot_be_are_refused(batch_size, per_scene, message):
    with pytest.raises(DataError, match=message):
        SceneSampler(SCENES, batch_size, 0, per_scene=per_scene)


@pytest.fixture(scope="module")
def room() -> WorldDataset:
    world = TwoRoomWorld()
    return WorldDataset(world, world.behaviour(12, steps=12, seed=0, episodes_per_layout=3))


def pooled(frames):
    """Two latent tokens of a frame, from two cameras' worth of nothing but its mean."""
    return {"z": frames["image"].float().mean((2, 3, 4))[..., None, None].expand(-1, -1, 2, 5)}


def loader_for(room, **more):
    index = ClipIndex(whole_episodes(room), frames=3, block=2)
    codec = ActionCodec.fit(room, whole_episodes(room), block=2)
    settings = {"batch_size": 8, "seed": 0, "scenes": room.scenes(), "per_scene": 4} | more
    return ClipLoader(room, index, codec, **settings)


def test_the_loader_says_which_clips_show_one_scene(room):
    batch = loader_for(room).batch(3)
    assert batch.scene is not None
    assert batch.scene.tolist() == room.scenes()[batch.episode.numpy()].tolist()
    assert (batch.scene.view(2, 4) == batch.scene.view(2, 4)[:, :1]).all()
    assert torch.equal(batch.to(torch.device("cpu")).scene, batch.scene)
    assert loader_for(room, scenes=None, per_scene=0).batch(3).scene is None


def test_latent_states_come_in_place_of_frames_where_they_are_cached(room):
    cache = LatentCache(room, pooled, range(12))
    batch, plain = loader_for(room, latents=cache, pooled=True).batch(3), loader_for(room).batch(3)
    assert batch.frames == {}
    assert batch.tokens is None
    assert batch.z is not None
    assert torch.equal(batch.z, pooled(plain.frames)["z"])
    assert torch.equal(batch.actions, plain.actions)
    assert torch.equal(batch.to(torch.device("cpu")).z, batch.z)


def test_scenes_that_do_not_fit_are_refused(room):
    with pytest.raises(DataError, match="3 scenes and labelled fraction None, expected one scene for each of 12"):
        loader_for(room, scenes=np.arange(3))
    with pytest.raises(DataError, match=r"12 scenes and labelled fraction 0\.5, expected .* no fraction"):
        loader_for(room, labelled_fraction=0.5)


def test_a_batch_checks_z_and_scene():
    shape = {"episode": torch.zeros(2, dtype=torch.int64), "frame": torch.zeros(2, 3, dtype=torch.int64)}
    Batch(frames={}, z=torch.zeros(2, 3, 1, 4), **shape)
    with pytest.raises(ShapeError, match="z"):
        Batch(frames={}, z=torch.zeros(2, 4, 1, 4), **shape)
    with pytest.raises(ShapeError, match="scene"):
        Batch(frames={}, z=torch.zeros(2, 3, 1, 4), scene=torch.zeros(3, dtype=torch.int64), **shape)
    with pytest.raises(ShapeError, match="expected at least one camera"):
        Batch(frames={}, **shape)


def test_a_cache_of_every_other_frame_encodes_those_alone(room):
    asked = []

    def counted(frames):
        asked.append(frames["image"].shape[1])
        return pooled(frames)

    cache, whole = LatentCache(room, counted, range(12), every=2), LatentCache(room, pooled, range(12))
    episodes, frames = np.array([3, 0]), np.array([[0, 4, 12], [2, 2, 6]])
    assert torch.equal(cache.read(episodes, frames)["z"], whole.read(episodes, frames)["z"])
    assert sum(asked) == 2 * 7
    with pytest.raises(DataError, match="expected frames that 2 divides"):
        cache.read(episodes, frames[:, :1] + 1)


def test_segments_of_one_scene_are_found_whatever_their_order(room):
    index = ClipIndex([Segment(e, 0, 13) for e in (11, 0, 5, 2, 9)], frames=3, block=2)
    loader = ClipLoader(room, index, None, batch_size=4, seed=0, scenes=room.scenes(), per_scene=2)
    for step in range(20):
        batch = loader.batch(step)
        assert batch.scene is not None
        assert batch.scene.tolist() == (batch.episode // 3).tolist() or len(set(batch.scene.tolist())) == 2
        assert set(batch.episode.tolist()) <= {11, 0, 5, 2, 9}
