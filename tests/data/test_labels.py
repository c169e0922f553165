"""Hidden labels are gone: nothing that can be reached from the data set holds them."""

import gc
import types
from itertools import pairwise

import numpy as np
import pytest
from lerobot_writer import write_lerobot

from jepa_actions.data import ActionCodec, FramesOnly, LeRobot, Segment, VideoDataset, WithLabels, load_dataset
from jepa_actions.errors import DataError
from jepa_actions.training import EnvConfig, world_dataset

LENGTHS = (12, 9, 10, 8, 11)
BASE = 7e5  # no time stamp and no size is near


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    rng = np.random.default_rng(1)
    rows = [(BASE + 1000 * e + rng.normal(size=(n, 2))).astype(np.float32) for e, n in enumerate(LENGTHS)]
    return write_lerobot(tmp_path_factory.mktemp("labels") / "robot", lengths=LENGTHS, actions=rows, rewards=True)


def reachable(thing):
    """Every object that can be reached from one, but for modules, classes and the code of functions."""
    seen, todo, found = set(), [thing], []
    skipped = (types.ModuleType, type, types.CodeType, types.FrameType)
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, skipped):
            continue
        if isinstance(item, types.FunctionType):
            todo += [*(item.__closure__ or ()), *(item.__defaults__ or ())]
            continue
        seen.add(id(item))
        found.append(item)
        todo += gc.get_referents(item)
    return found


def values_in(thing):
    """Every number in every array or tensor that can be reached."""
    arrays = [np.asarray(x) for x in reachable(thing) if isinstance(x, np.ndarray) or hasattr(x, "untyped_storage")]
    return np.concatenate([a.astype(np.float64).ravel() for a in arrays if a.dtype.kind in "fiu"])


def thousands(data):
    """Episodes whose actions (a thousand more for every episode, and a little) can be reached."""
    values = values_in(data) - BASE
    near = values[(values > -100) & (values < 4100)]
    return set(np.round(near / 1000).astype(int).tolist())


def test_only_the_labels_of_n_episodes_can_be_reached(root):
    whole = load_dataset(root)
    for i in range(len(whole)):
        whole.episode(i)
    whole.read_clips(np.array([0]), np.array([[0, 1]]))
    assert thousands([whole, *(whole.episode(i) for i in range(5))]) == {
        0,
        1,
        2,
        3,
        4,
    }  # the search finds what is there
    few = whole.with_labels(2, seed=0)
    few.read_clips(np.array([4, 0]), np.array([[0, 1], [2, 3]]))
    shown = {int(i) for i in few.shown}
    assert len(shown) == 2
    assert thousands([few, *(few.episode(i) for i in range(5))]) == shown
    assert not any(item is whole for item in reachable(few))


def test_what_is_shown_and_what_is_not(root):
    whole = LeRobot(root)
    few = whole.with_labels(2, seed=0)
    assert isinstance(few, VideoDataset)
    assert (few.action_names, few.proprio_names, few.lengths().tolist()) == (
        whole.action_names,
        whole.proprio_names,
        list(LENGTHS),
    )
    for i in range(5):
        episode = few.episode(i)
        assert episode.text == whole.episode(i).text
        if i in few.shown:
            assert np.array_equal(episode.actions, whole.episode(i).actions)
            assert np.array_equal(episode.proprio, whole.episode(i).proprio)
        else:
            assert (episode.actions, episode.proprio, episode.rewards) == (None, None, None)
    steps = sum(LENGTHS[i] - 1 for i in few.shown)
    assert few.count() == {"episodes": 2, "transitions": steps, "seconds": steps / 10.0}
    clip = np.array([3]), np.array([[1, 5]])
    for camera, frames in whole.read_clips(*clip).items():
        assert (few.read_clips(*clip)[camera] == frames).all()


def test_statistics_come_from_what_is_shown(root):
    few = LeRobot(root).with_labels(1, seed=3)
    codec = ActionCodec.fit(few, [Segment(i, 0, n) for i, n in enumerate(LENGTHS)], block=1)
    assert abs(codec.mean[0] - BASE - 1000 * few.shown[0]) < 5


def test_draws_are_nested_and_the_seed_decides(root):
    whole = LeRobot(root)
    draws = [set(whole.with_labels(n, seed=1).shown) for n in range(6)]
    assert all(a < b for a, b in pairwise(draws))
    assert len({whole.with_labels(2, seed=s).shown for s in range(8)}) > 2
    assert set(whole.with_labels(2, seed=0, among=[3, 4]).shown) == {3, 4}
    prints = {data.fingerprint() for data in (whole, whole.with_labels(2, 0), whole.with_labels(3, 0))}
    assert len(prints) == 3


@pytest.mark.parametrize(("n", "seed", "among"), [(6, 0, None), (-1, 0, None), (3, 0, [1, 2]), (1, -1, None)])
def test_more_than_there_is_cannot_be_shown(root, n, seed, among):
    with pytest.raises(DataError, match=rf"labels of {n} episodes asked for \(seed {seed}\), found "):
        WithLabels(LeRobot(root), n, seed, among=among)


def test_a_simulator_gives_pictures_without_the_state_they_are_drawn_from():
    whole = world_dataset("two_room", EnvConfig(episodes=4, steps=10, heldout_episodes=2))
    few = whole.with_labels(1, seed=0)
    assert isinstance(few.without_labels(), FramesOnly)
    clip = np.array([0, 3]), np.array([[0, 4, 9], [10, 2, 2]])
    assert (few.read_clips(*clip)["image"] == whole.read_clips(*clip)["image"]).all()
    hidden = [i for i in range(4) if i not in few.shown]
    kept = values_in([few, *(few.episode(i) for i in range(4))])
    for i in hidden:
        assert not np.isin(whole.behaviour.states[i].double().numpy(), kept).any()
        assert not np.isin(whole.behaviour.actions[i].double().numpy(), kept).any()
    assert np.isin(whole.behaviour.actions[few.shown[0]].double().numpy(), kept).all()
