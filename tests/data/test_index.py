"""Clips stay in their segments; batches are a function of the step; ranks share them without repeats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_actions.data import ClipIndex, ClipSampler, Segment
from jepa_actions.errors import DataError

segments = st.lists(
    st.builds(
        lambda e, start, n: Segment(e, start, start + n), st.integers(0, 4), st.integers(0, 9), st.integers(1, 30)
    ),
    min_size=1,
    max_size=5,
)


@given(segments, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_clips_are_exactly_those_that_fit(parts, frames, block, stride):
    span = (frames - 1) * block + 1
    expected = [
        (s.episode, list(range(start, start + span, block)))
        for s in parts
        for start in range(s.start, s.stop - span + 1, stride)
    ]
    if not expected:
        with pytest.raises(DataError, match=f"expected one of at least {span} frames"):
            ClipIndex(parts, frames=frames, block=block, stride=stride)
        return
    index = ClipIndex(parts, frames=frames, block=block, stride=stride)
    episodes, shown = index.clip(np.arange(len(index)))
    assert list(zip(episodes.tolist(), shown.tolist(), strict=True)) == expected
    assert index.episodes().tolist() == sorted({e for e, _ in expected})


def test_index_refuses_ids_outside_and_bad_arguments():
    index = ClipIndex([Segment(0, 0, 5)], frames=2, block=1)
    with pytest.raises(DataError, match="expected 0 to 3"):
        index.clip(np.array([4]))
    with pytest.raises(DataError, match="block 0"):
        ClipIndex([Segment(0, 0, 5)], frames=2, block=0)
    with pytest.raises(DataError, match="1 segments of 5 to 5 frames, expected one of at least 7"):
        ClipIndex([Segment(0, 0, 5)], frames=3, block=3)
    with pytest.raises(DataError, match="no segment"):
        ClipIndex([], frames=1, block=1)
    with pytest.raises(DataError, match="start < stop"):
        Segment(0, 3, 3)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**31), st.integers(0, 3))
def test_every_clip_once_per_epoch_and_a_new_order_each(batch, batches, seed, epoch):
    sampler = ClipSampler(batch * batches, batch, seed)
    assert sampler.steps_per_epoch == batches
    steps = range(epoch * batches, (epoch + 1) * batches)
    seen = np.concatenate([sampler.ids(step) for step in steps])
    assert sorted(seen.tolist()) == list(range(batch * batches))
    following = np.concatenate([sampler.ids(step + batches) for step in steps])
    if batch * batches > 12:
        assert seen.tolist() != following.tolist()


def test_resuming_at_any_step_gives_the_same_batches():
    whole = [ClipSampler(37, 5, seed=3).ids(step).tolist() for step in range(30)]
    assert len({tuple(ids) for ids in whole}) == 30
    for start in (29, 11, 0, 7):
        resumed = ClipSampler(37, 5, seed=3)
        assert [resumed.ids(step).tolist() for step in range(start, 30)] == whole[start:]
    assert ClipSampler(37, 5, seed=4).ids(0).tolist() != whole[0]


def test_left_over_clips_are_dropped_and_never_repeated():
    sampler = ClipSampler(11, 4, seed=0)
    seen = np.concatenate([sampler.ids(0), sampler.ids(1)])
    assert sampler.steps_per_epoch == 2
    assert len(set(seen.tolist())) == 8


def test_ranks_together_make_the_batch_of_one_process():
    one = ClipSampler(50, 12, seed=1)
    ranks = [ClipSampler(50, 12, seed=1, rank=r, world_size=3) for r in range(3)]
    for step in range(9):
        shares = [sampler.ids(step) for sampler in ranks]
        assert [len(share) for share in shares] == [4, 4, 4]
        assert np.concatenate(shares).tolist() == one.ids(step).tolist()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"index_len": 3, "batch_size": 4}, "batch_size 4 given, expected 1 to the number of clips, 3"),
        ({"batch_size": 5, "world_size": 2}, "multiple of world_size 2"),
        ({"rank": 2, "world_size": 2}, "rank 2 of world_size 2"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_sampler_refuses(arguments, says):
    with pytest.raises(DataError, match=says):
        ClipSampler(**{"index_len": 20, "batch_size": 4, "seed": 0, **arguments})
    with pytest.raises(DataError, match="step -1"):
        ClipSampler(20, 4, 0).ids(-1)
