"""Several data sets as one: every episode is its own data set's, and layouts are never mixed in silence."""

import numpy as np
import pytest
from lerobot_writer import write_lerobot, write_video

from jepa_actions.data import Concat, DatasetView, LeRobot, VideoDataset, VideoFolder
from jepa_actions.errors import DataError

FRONT = "observation.images.front"


@pytest.fixture
def robots(tmp_path):
    return [
        LeRobot(write_lerobot(tmp_path / name, lengths=lengths, cameras=[FRONT], seed=k))
        for k, (name, lengths) in enumerate((("a", (12, 9)), ("b", (7,))))
    ]


def folder(tmp_path, *, fps=10, size=(32, 48)):
    write_video(tmp_path / "v" / "x.mp4", range(40, 140, 10), fps, size)
    return VideoFolder(tmp_path / "v")


def test_every_episode_is_its_own_data_sets(robots, tmp_path):
    video = folder(tmp_path)
    both = Concat(robots, video=[video])
    assert isinstance(both, VideoDataset)
    assert both.lengths().tolist() == [12, 9, 7, 10]
    assert (both.name, both.cameras, both.action_names) == ("a+b+v", (FRONT,), ("dx", "dy"))
    for i, (part, number) in enumerate([(robots[0], 0), (robots[0], 1), (robots[1], 0)]):
        assert np.array_equal(both.episode(i).actions, part.episode(number).actions)
    assert both.episode(3).actions is None
    clips = both.read_clips(np.array([3, 0, 2, 1]), np.array([[0, 9], [3, 4], [6, 1], [8, 0]]))[FRONT]
    assert (clips[0] == video.read_clips(np.array([0]), np.array([[0, 9]]))["video"][0]).all()
    assert (clips[1] == robots[0].read_clips(np.array([0]), np.array([[3, 4]]))[FRONT][0]).all()
    assert (clips[2] == robots[1].read_clips(np.array([0]), np.array([[6, 1]]))[FRONT][0]).all()
    assert (clips[3] == robots[0].read_clips(np.array([1]), np.array([[8, 0]]))[FRONT][0]).all()
    assert both.without_labels().episode(0).actions is None


def test_what_is_given_as_video_loses_its_labels(robots):
    both = Concat(robots[:1], video=robots[1:])
    assert both.episode(2).actions is None
    assert both.episode(0).actions is not None


def test_layouts_that_differ_are_refused_unless_one_is_video(robots, tmp_path):
    class Renamed(DatasetView):
        action_names = ("dx", "dz")

        def over(self, dataset):
            return dataset

    other = Renamed(LeRobot(write_lerobot(tmp_path / "c", cameras=[FRONT]), state=None))
    with pytest.raises(DataError, match=r"a and c: action layouts \(dx, dy\) and \(dx, dz\).*data.video"):
        Concat([robots[0], other])
    assert Concat([robots[0]], video=[other]).action_names == ("dx", "dy")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fps": 20}, "a and v: 10 and 20 frames per second"),
        ({"size": (16, 24)}, r"a and v: frames of \(32, 48\) and \(16, 24\)"),
    ],
)
def test_rates_and_sizes_that_differ_are_refused(robots, tmp_path, change, says):
    with pytest.raises(DataError, match=says):
        Concat(robots[:1], video=[folder(tmp_path, **change)])


def test_cameras_that_differ_are_refused(robots, tmp_path):
    two = LeRobot(write_lerobot(tmp_path / "two"))
    with pytest.raises(DataError, match="a and two: cameras"):
        Concat([robots[0], two])
