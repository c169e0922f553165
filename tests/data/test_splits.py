"""No frame is on both sides; gaps hold; folds hold out everything once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_actions.data import split_blocks, split_by_episode, split_folds, split_tail
from jepa_actions.errors import DataError


def frames(segments):
    found = [(s.episode, f) for s in segments for f in range(s.start, s.stop)]
    assert len(found) == len(set(found))
    return set(found)


def distance(split):
    """The smallest distance between a training and a held-out frame of one episode."""
    return min(abs(f - g) for e, f in frames(split.train) for other, g in frames(split.heldout) if e == other)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12), st.floats(0.05, 0.95), st.integers(0, 99))
def test_by_episode(lengths, fraction, seed):
    split = split_by_episode(lengths, fraction, seed)
    held = {s.episode for s in split.heldout}
    assert len(held) == min(max(round(fraction * len(lengths)), 1), len(lengths) - 1)
    assert frames(split.train) | frames(split.heldout) == {(e, f) for e, n in enumerate(lengths) for f in range(n)}
    assert held.isdisjoint(s.episode for s in split.train)
    assert split == split_by_episode(lengths, fraction, seed)


def test_by_episode_depends_on_the_seed():
    assert len({split_by_episode([5] * 30, 0.3, seed).heldout for seed in range(5)}) == 5


def test_tail_holds_out_the_last_quarter_after_a_gap():
    split = split_tail(np.array([80, 40]), 0.25, gap=3)
    assert [(s.start, s.stop) for s in split.heldout] == [(60, 80), (30, 40)]
    assert [(s.start, s.stop) for s in split.train] == [(0, 57), (0, 27)]


@given(st.integers(200, 400), st.integers(1, 5), st.floats(0.1, 0.4), st.integers(0, 6))
def test_blocks(length, blocks, fraction, gap):
    split = split_blocks([length, length + 7], blocks, fraction, gap)
    assert len(split.heldout) == 2 * blocks
    assert len(split.train) == 2 * (blocks + 1)
    assert distance(split) == gap + 1
    share = len([1 for e, _ in frames(split.heldout) if e == 0]) / length
    assert abs(share - fraction) <= 0.5 * blocks / length + 1e-9
    left_out = length - len([1 for e, _ in frames(split.train) | frames(split.heldout) if e == 0])
    assert left_out == 2 * gap * blocks


def test_folds_hold_out_every_episode_once():
    lengths = [4, 5, 6, 7]
    held = [{s.episode for s in split_folds(4, 3, fold, lengths).heldout} for fold in range(3)]
    assert held == [{0, 3}, {1}, {2}]
    split = split_folds(4, 4, 2, lengths)
    assert [(s.episode, s.stop) for s in split.heldout] == [(2, 6)]
    assert len(split.train) == 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: split_by_episode([9], 0.5, 0), "found 1 episodes"),
        (lambda: split_by_episode([9, 9], 1.0, 0), "fraction 1.0"),
        (lambda: split_tail([30, 4], 0.25, gap=3), "episode 1 has 4 frames"),
        (lambda: split_tail([30], 0.25, gap=-1), "gap of -1"),
        (lambda: split_blocks([20], 5, 0.5, 2), "episode 0 has 20 frames"),
        (lambda: split_blocks([20], 0, 0.5, 2), "0 blocks"),
        (lambda: split_folds(3, 3, 3, [1, 1, 1]), "fold 3 of 3"),
        (lambda: split_folds(3, 3, 0, [1, 1]), "one per episode, 3"),
    ],
)
def test_splits_refuse(make, says):
    with pytest.raises(DataError, match=says):
        make()
