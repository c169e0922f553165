"""Batches hold the frames, actions and masks of the clips they name, whatever the cache, the rank or the thread."""

import numpy as np
import pytest
import torch
from lerobot_writer import CAMERAS, write_lerobot, write_video

from jepa_actions.data import (
    ActionCodec,
    ClipIndex,
    ClipLoader,
    Episode,
    InMemory,
    LeRobot,
    Provenance,
    Segment,
    VideoFolder,
    WithLabels,
)
from jepa_actions.errors import DataError

LENGTHS = (12, 9, 10)
SEGMENTS = [Segment(i, 0, n) for i, n in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(5)
    rows = [rng.normal(size=(n, 2)).astype(np.float32) for n in LENGTHS]
    valid = [np.ones(n) for n in LENGTHS]
    valid[0][4] = 0
    rows[0][4] = np.nan
    valid[2][:] = 0
    root = tmp_path_factory.mktemp("loader") / "robot"
    return LeRobot(
        write_lerobot(root, lengths=LENGTHS, actions=rows, action_valid=valid, rewards=True), image_size=(8, 12)
    )


def loader_for(data, *, block=2, frames=3, **more):
    codec = ActionCodec.fit(data, SEGMENTS[:2], block=block)
    more = {"batch_size": 4, "seed": 0, **more}
    return ClipLoader(data, ClipIndex(SEGMENTS, frames=frames, block=block), codec, **more)


def same(a, b):
    tensors = [name for name in vars(a) if isinstance(getattr(a, name), torch.Tensor)]
    assert len(tensors) == 9
    pairs = [(a.frames[c], b.frames[c]) for c in CAMERAS] + [(getattr(a, name), getattr(b, name)) for name in tensors]
    return a.text == b.text and all(torch.equal(x, y) for x, y in pairs)


def test_model_actions_are_the_raw_actions_between_the_frames(data):
    loader = loader_for(data)
    batch = loader.clips(np.arange(len(loader.index)))
    assert batch.actions.shape == (len(loader.index), 2, 4)
    assert batch.actions.dtype == torch.float32
    seen_partly_labelled = False
    for k in range(batch.batch_size):
        episode = data.episode(int(batch.episode[k]))
        for j, f in enumerate(batch.frame[k, :-1].tolist()):
            assert int(batch.frame[k, j + 1]) == f + 2
            known = episode.labelled()[f : f + 2]
            assert bool(batch.action_mask[k, j]) == known.all()
            seen_partly_labelled |= bool(known.any() and not known.all())
            if known.all():
                raw = loader.codec.decode(batch.actions[k, j])
                assert np.allclose(raw, episode.actions[f : f + 2], atol=1e-6)
            else:
                assert (batch.actions[k, j] == 0).all()
            assert float(batch.rewards[k, j]) == f + f + 1
            assert bool(batch.reward_mask[k, j])
        assert np.array_equal(batch.proprio[k], episode.proprio[batch.frame[k]])
        assert batch.text[k] == f"task {int(batch.episode[k]) % 2}"
    assert seen_partly_labelled
    assert not batch.action_mask[batch.episode == 2].any()
    assert (batch.provenance == Provenance.TRUE).all()


def test_frames_are_those_the_batch_names(data):
    batch = loader_for(data).batch(0)
    for k in range(4):
        alone = data.read_clips(batch.episode[k : k + 1].numpy(), batch.frame[k : k + 1].numpy())
        assert all(torch.equal(batch.frames[camera][k], alone[camera][0]) for camera in CAMERAS)


def test_cache_thread_and_resume_change_nothing(data):
    plain, cached = loader_for(data), loader_for(data, cache="memory")
    assert plain.steps_per_epoch >= 3
    whole = [plain.batch(step) for step in range(7)]
    assert all(same(a, b) for a, b in zip(whole, cached.prefetch(0, 7), strict=True))
    assert all(same(a, b) for a, b in zip(whole[5:], loader_for(data).prefetch(5, 7), strict=True))
    assert list(plain.prefetch(3, 3)) == []
    assert not same(whole[0], whole[1])


def test_ranks_share_a_batch(data):
    whole = loader_for(data).batch(2)
    parts = [loader_for(data, rank=r, world_size=2).batch(2) for r in (0, 1)]
    assert torch.equal(torch.cat([part.frame for part in parts]), whole.frame)
    assert torch.equal(torch.cat([part.actions for part in parts]), whole.actions)


def test_every_batch_keeps_the_labelled_fraction_on_every_rank(data):
    few = WithLabels(data, 1, seed=0)
    index = ClipIndex(SEGMENTS, frames=3, block=2)
    codec = ActionCodec.fit(few, SEGMENTS, block=2)
    parts = [
        ClipLoader(few, index, codec, batch_size=8, seed=3, labelled_fraction=0.25, rank=r, world_size=2)
        for r in (0, 1)
    ]
    seen = set()
    for step in range(40):
        batches = [part.batch(step) for part in parts]
        known = [batch.action_mask.any(1) for batch in batches]
        assert [int(k.sum()) for k in known] == [1, 1]
        for batch, labelled in zip(batches, known, strict=True):
            assert (torch.isin(batch.episode, torch.tensor(few.shown)) == labelled).all()
            seen |= set(zip(batch.episode.tolist(), batch.frame[:, 0].tolist(), strict=True))
    assert len(seen) == len(index)


def test_a_fraction_of_labels_that_are_not_there_is_refused(data):
    none = WithLabels(data, 0, seed=0)
    index = ClipIndex(SEGMENTS, frames=3, block=2)
    codec = ActionCodec.fit(data, SEGMENTS, block=2)
    with pytest.raises(DataError, match=r"4 labelled clips of a batch of 8 .* found no labelled clip among"):
        ClipLoader(none, index, codec, batch_size=8, seed=0, labelled_fraction=0.5)


def test_padding_is_marked_and_has_no_actions(data):
    index = ClipIndex([Segment(0, 2, 6), Segment(1, 0, 9)], frames=4, block=2, pad=True)
    codec = ActionCodec.fit(data, SEGMENTS, block=2)
    batch = ClipLoader(data, index, codec, batch_size=2, seed=0).clips(np.arange(len(index)))
    assert batch.frame[0].tolist() == [2, 4, 4, 4]  # frame 6 would be the next, and is not in the segment
    assert batch.frame_mask.tolist() == [[True, True, False, False], *[[True] * 4] * (len(index) - 1)]
    assert batch.action_mask[0].tolist() == [True, False, False]
    assert (batch.actions[0, 1:] == 0).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_batches_in_order(data, workers):
    batches = list(loader_for(data, workers=workers).prefetch(2, 9))
    for step, batch in zip(range(2, 9), batches, strict=True):
        assert same(batch, loader_for(data).batch(step))


def test_changes_of_proprio_need_no_recorded_action(data):
    codec = ActionCodec.fit(data, SEGMENTS, block=1, source="proprio_difference", angles=(2,))
    loader = ClipLoader(data, ClipIndex(SEGMENTS, frames=2, block=1), codec, batch_size=4, seed=0)
    batch = loader.batch(0)
    assert batch.action_mask.all()
    change = batch.proprio[:, 1] - batch.proprio[:, 0]
    assert torch.allclose(codec.decode(batch.actions)[:, 0, 0, :2], change[:, :2], atol=1e-5)


def test_video_alone_has_no_actions(tmp_path, data):
    write_video(tmp_path / "v" / "a.mp4", range(40, 100, 5), 10, (32, 48))
    folder = VideoFolder(tmp_path / "v")
    index = ClipIndex([Segment(0, 0, 12)], frames=3, block=2)
    for codec in (None, ActionCodec.fit(data, SEGMENTS, block=2)):
        batch = ClipLoader(folder, index, codec, batch_size=2, seed=0).batch(0)
        assert (batch.actions, batch.action_mask, batch.proprio, batch.rewards, batch.text) == (None,) * 5
    assert ClipLoader(data, index, None, batch_size=2, seed=0).batch(0).actions is None


def test_single_frames_have_no_steps(data):
    batch = loader_for(data, frames=1).batch(0)
    assert batch.actions.shape == (4, 0, 4)
    assert batch.action_mask.shape == (4, 0)
    assert batch.steps == 1


class Labels:
    """Frames of zeros with whatever labels."""

    name, cameras, fps, action_names, proprio_names = "made", ("c",), 1.0, ("a",), None

    def __init__(self, episodes):
        self.episodes, self.reads = episodes, 0

    def __len__(self):
        return len(self.episodes)

    def lengths(self):
        return np.array([e.length for e in self.episodes])

    def image_size(self, camera):
        return 4, 4

    def episode(self, i):
        return self.episodes[i]

    def read_clips(self, episodes, frames):
        self.reads += 1
        return {"c": torch.zeros(*frames.shape, 3, 4, 4, dtype=torch.uint8)}

    def without_labels(self):
        return Labels([Episode(e.index, e.length) for e in self.episodes])

    def fingerprint(self):
        return "made"


def test_labelled_and_unlabelled_episodes_mix_and_provenance_is_kept():
    def one(length):
        return np.ones((length - 1, 1), np.float32)

    made = Labels(
        [
            Episode(0, 5, actions=one(5), text="push"),
            Episode(1, 5, rewards=np.ones(4, np.float32)),
            Episode(2, 5, actions=one(5), provenance=Provenance.PSEUDO, labeller="idm"),
        ]
    )
    codec = ActionCodec.fit(made, [Segment(0, 0, 5)], block=1)
    loader = ClipLoader(
        made, ClipIndex([Segment(i, 0, 5) for i in range(3)], frames=5, block=1), codec, batch_size=3, seed=0
    )
    batch = loader.clips(np.arange(3))
    assert batch.action_mask.all(1).tolist() == [True, False, True]
    assert not batch.action_mask[1].any()
    assert batch.provenance[:, 0].tolist()[::2] == [Provenance.TRUE, Provenance.PSEUDO]
    assert batch.text == ["push", "", ""]
    assert batch.proprio is None
    assert batch.reward_mask.any(1).tolist() == [False, True, False]
    assert batch.rewards[1].tolist() == [1.0] * 4


def test_memory_reads_each_indexed_episode_once():
    made = Labels([Episode(i, 6) for i in range(4)])
    index = ClipIndex([Segment(1, 0, 6), Segment(3, 2, 6)], frames=2, block=1)
    loader = ClipLoader(made, index, None, batch_size=2, seed=0, cache="memory")
    for step in range(8):
        loader.batch(step)
    assert made.reads == 2
    with pytest.raises(DataError, match="made: episode 2 is not held in memory"):
        InMemory(made, [1, 3]).read_clips(np.array([1, 2]), np.zeros((2, 1), int))
    whole = InMemory(made)
    assert whole.image_size("c") == (4, 4)
    assert len(whole) == 4
    assert whole.lengths().tolist() == [6] * 4


def test_errors_of_the_background_thread_are_raised_here():
    made = Labels([Episode(0, 6, actions=np.full((5, 1), np.nan, np.float32), dataset="made")])
    codec = ActionCodec.fit(Labels([Episode(0, 6, actions=np.ones((5, 1), np.float32))]), [Segment(0, 0, 6)], block=1)
    loader = ClipLoader(made, ClipIndex([Segment(0, 0, 6)], frames=2, block=1), codec, batch_size=2, seed=0)
    with pytest.raises(DataError, match=r"made: action of episode 0, row 0, dimension 0 \(a\): found nan"):
        next(loader.prefetch(0, 3))


def test_proprio_with_nan_is_refused():
    made = Labels([Episode(0, 3, proprio=np.array([[0.0], [np.nan], [0.0]], np.float32))])
    made.proprio_names = ("x",)
    loader = ClipLoader(made, ClipIndex([Segment(0, 0, 3)], frames=2, block=1), None, batch_size=1, seed=0)
    with pytest.raises(DataError, match=r"made: proprio of episode 0, row 1, dimension 0 \(x\): found nan"):
        loader.batch(0)


def test_arguments_that_do_not_fit_are_refused(data):
    codec = ActionCodec.fit(data, SEGMENTS, block=2)
    index = ClipIndex(SEGMENTS, frames=3, block=1)
    with pytest.raises(DataError, match="clips of block 1, expected the action codec's block, 2"):
        ClipLoader(data, index, codec, batch_size=2, seed=0)
    with pytest.raises(DataError, match=r"clip index has Segment\(episode=7, .*, expected one inside an episode"):
        ClipLoader(data, ClipIndex([Segment(7, 0, 5)], frames=2, block=1), None, batch_size=2, seed=0)
    with pytest.raises(DataError, match="0 workers, expected at least 1"):
        ClipLoader(data, index, None, batch_size=2, seed=0, workers=0)
    with pytest.raises(DataError, match="cache 'disk'"):
        ClipLoader(data, index, None, batch_size=2, seed=0, cache="disk")
    with pytest.raises(DataError, match=r"clip index has Segment\(episode=0, start=11, stop=13\)"):
        ClipLoader(data, ClipIndex([Segment(0, 11, 13)], frames=2, block=1), None, batch_size=1, seed=0)
