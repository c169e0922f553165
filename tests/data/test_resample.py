"""Resampling by time: which frames, which actions, and what is refused."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from jepa_actions.data.resample import Resampled, plan_frames
from jepa_actions.data.sources.folder import VideoFolder
from jepa_actions.data.types import Episode, Provenance, VideoDataset
from jepa_actions.data.video.file import VideoFile
from jepa_actions.data.view import DatasetView, Viewable
from jepa_actions.errors import DataError


class Recording(Viewable):
    """Frames whose every pixel is the frame's number; actions count up, rewards are 1."""

    def __init__(self, times, fps=30.0, *, actions=True, **labels):
        self.name, self.cameras, self.fps = "recording", ("front",), fps
        self.action_names = ("dx", "dy") if actions else None
        self.proprio_names = ("x",)
        self.times = [np.asarray(t, dtype=np.float64) if not isinstance(t, int) else t for t in times]
        self.labels = labels

    def image_size(self, camera):
        return (4, 6)

    def __len__(self):
        return len(self.times)

    def lengths(self):
        return np.array([t if isinstance(t, int) else len(t) for t in self.times])

    def episode(self, i):
        n = int(self.lengths()[i])
        steps = np.arange(n - 1, dtype=np.float32)
        return Episode(
            index=i,
            length=n,
            actions=np.stack([steps, -steps], 1) if self.action_names else None,
            proprio=np.arange(n, dtype=np.float32)[:, None],
            rewards=np.ones(n - 1, dtype=np.float32),
            simulator_state=np.arange(n, dtype=np.float64)[:, None] * 10,
            times=None if isinstance(self.times[i], int) else self.times[i],
            seed=7,
            text="go",
            dataset=self.name,
            **self.labels,
        )

    def read_clips(self, episodes, frames):
        numbers = torch.as_tensor(frames, dtype=torch.uint8)[:, :, None, None, None]
        return {"front": numbers.expand(-1, -1, 3, 4, 6)}

    def without_labels(self):
        return Recording(self.times, self.fps, actions=False)

    def fingerprint(self):
        return "recording"


def shown(data, i=0):
    """The raw frame numbers of an episode of a view."""
    n = int(data.lengths()[i])
    return data.read_clips(np.array([i]), np.arange(n)[None])["front"][0, :, 0, 0, 0].tolist()


def test_even_recording_at_a_third_of_its_rate():
    data = Resampled(Recording([31, 33]), 10, actions="sum")
    assert isinstance(data, VideoDataset)
    assert data.fps == 10
    assert data.lengths().tolist() == [11, 11], "a rest shorter than a step is left out"
    assert shown(data) == list(range(0, 31, 3))
    episode = data.episode(0)
    np.testing.assert_allclose(episode.actions[:, 0], [k + k + 1 + k + 2 for k in range(0, 30, 3)])
    np.testing.assert_allclose(episode.rewards, 3.0)
    np.testing.assert_allclose(episode.proprio[:, 0], range(0, 31, 3))
    np.testing.assert_allclose(episode.simulator_state[:, 0], range(0, 310, 30))
    np.testing.assert_allclose(episode.times, np.arange(11) / 10)
    assert (episode.length, episode.text, episode.seed) == (11, "go", 7)


@pytest.mark.parametrize(("how", "first", "second"), [("mean", 1.0, 4.0), ("first", 0.0, 3.0), ("last", 2.0, 5.0)])
def test_reductions_of_actions(how, first, second):
    actions = Resampled(Recording([7]), 10, actions=how).episode(0).actions
    np.testing.assert_allclose(actions, [[first, -first], [second, -second]])
    assert actions.dtype == np.float32


def test_a_mean_is_over_time():
    data = Resampled(Recording([[0.0, 0.3, 0.4, 0.7, 0.8]]), 2.5, actions="mean")
    np.testing.assert_allclose(data.episode(0).actions[:, 0], [0.1 / 0.4, (2 * 0.3 + 3 * 0.1) / 0.4], rtol=1e-6)


@pytest.mark.parametrize("how", ["mean", "sum", "last", "first"])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_the_same_rate_is_the_identity(how, jitter):
    wobble = np.random.default_rng(0).uniform(-jitter, jitter, 90) / 30
    wobble[0] = 0.0
    source = Recording([np.arange(90) / 30 + wobble, 40])
    data = Resampled(source, 30, actions=how)
    assert data.lengths().tolist() == [90, 40]
    for i in (0, 1):
        before, after = source.episode(i), data.episode(i)
        assert shown(data, i) == list(range(before.length))
        for name in ("proprio", "rewards", "simulator_state", "action_mask"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        np.testing.assert_allclose(after.actions, before.actions, rtol=1e-7)


def test_uneven_times_become_even():
    rng = np.random.default_rng(1)
    times = np.concatenate([[0.0], np.cumsum(rng.choice([1 / 60, 1 / 30, 1 / 20], 200))])
    data = Resampled(Recording([times]), 10, actions="sum")
    episode = data.episode(0)
    error = np.abs(episode.times - np.arange(episode.length) / 10)
    assert error.max() <= 1 / 40 + 1e-9, "the nearest frame is at most half the widest gap away"
    by_index = np.abs(times[:: round(len(times) / episode.length)][:20] - np.arange(20) / 10).max()
    assert by_index > 0.05, "and every n-th frame would not have done"
    frames = shown(data)
    raw = np.arange(200.0)
    expected = [raw[a:b].sum() for a, b in pairwise(frames)]
    np.testing.assert_allclose(episode.actions[:, 0], expected)


def test_rates_that_do_not_divide():
    data = Resampled(Recording([101], fps=25.0), 10, actions="sum")
    frames = shown(data)
    assert set(np.diff(frames).tolist()) == {2, 3}
    assert np.abs(np.array(frames) / 25 - np.arange(len(frames)) / 10).max() <= 0.5 / 25 + 1e-9
    assert data.episode(0).actions[:, 0].sum() == pytest.approx(np.arange(frames[-1]).sum()), "no raw action lost"


def test_an_episode_shorter_than_a_step_keeps_one_frame():
    data = Resampled(Recording([2, 1, 61]), 1, actions="sum")
    assert data.lengths().tolist() == [1, 1, 3]
    assert data.episode(0).actions.shape == (0, 2)
    assert data.episode(0).times.tolist() == [0.0]
    assert shown(data, 1) == [0]
    with pytest.raises(DataError, match="frame 1 of episode 0"):
        data.read_clips(np.array([0]), np.array([[0, 1]]))


def test_unknown_raw_actions_make_a_step_unknown():
    mask = np.ones(30, dtype=bool)
    mask[4] = False
    for how in ("sum", "mean", "first", "last"):
        episode = Resampled(Recording([31], action_mask=mask), 10, actions=how).episode(0)
        assert episode.action_mask.tolist() == [True, False] + [True] * 8
        assert (episode.actions[1] == 0).all()


def test_provenance_of_a_step_is_its_least_certain():
    origins = np.zeros(12, dtype=np.int64)
    origins[4:9] = Provenance.PSEUDO
    data = Recording([13], provenance=origins, labeller="m")
    expected = [Provenance.TRUE, Provenance.PSEUDO, Provenance.PSEUDO, Provenance.TRUE]
    episode = Resampled(data, 10, actions="sum").episode(0)
    assert episode.origins().tolist() == expected
    assert episode.labelled().all()
    assert episode.labeller == "m"
    first = Resampled(data, 10, actions="first").episode(0)
    assert first.origins().tolist() == [0, 0, 1, 0], "the first raw action is the step's, and so is where it came from"


def test_latent_actions_are_added_to_no_others():
    origins = np.array([0, 0, 2, 2, 2, 2], dtype=np.int64)
    episode = Resampled(Recording([7], provenance=origins, labeller="m"), 10, actions="sum").episode(0)
    assert episode.labelled().tolist() == [False, True]
    whole = Resampled(Recording([7], provenance=Provenance.LATENT, labeller="m"), 10, actions="sum").episode(0)
    assert whole.provenance is Provenance.LATENT
    assert whole.labelled().all()


def test_actions_need_saying_what_becomes_of_them():
    with pytest.raises(DataError, match=r"'sum'.*'mean'.*'last' or 'first'"):
        Resampled(Recording([31]), 10)
    with pytest.raises(DataError, match="'median'"):
        Resampled(Recording([31]), 10, actions="median")
    bare = Resampled(Recording([31], actions=False), 10)
    assert bare.episode(0).actions is None
    assert bare.episode(0).rewards.shape == (10,)


@pytest.mark.parametrize("fps", [60, 31, 0, -5, float("nan"), float("inf")])
def test_rates_refused(fps):
    with pytest.raises(DataError, match="frames per second"):
        Resampled(Recording([301]), fps, actions="sum")


def test_a_slow_episode_is_refused_by_name():
    with pytest.raises(DataError, match=r"episode 1: recorded at 15 frames per second, 20 asked for"):
        Resampled(Recording([np.arange(60) / 30, np.arange(60) / 15]), 20, actions="sum")


def test_a_gap_is_an_error_with_episode_and_time():
    times = np.arange(90) / 30
    times[45:] += 0.5
    with pytest.raises(DataError, match=r"episode 1: a gap.* 1\.600 s at 10 frames"):
        Resampled(Recording([40, times]), 10, actions="sum")
    dropped = np.delete(np.arange(90) / 30, [20, 50])
    data = Resampled(Recording([dropped]), 10, actions="sum")
    assert np.abs(data.episode(0).times - np.arange(30) / 10).max() <= 1 / 30 + 1e-9, "one lost frame is bridged"
    with pytest.raises(DataError, match="a gap"):
        Resampled(Recording([dropped]), 29, actions="sum")


@pytest.mark.parametrize("bad", [[0.0, 0.1, 0.1, 0.2], [0.0, 0.2, 0.1], [0.0, float("nan"), 0.2]])
def test_times_that_do_not_rise(bad):
    with pytest.raises(DataError, match=r"episode 0: frame \d is shown at"):
        Resampled(Recording([bad]), 5, actions="sum")


def test_without_labels_has_the_same_frames_even_where_times_are_lost():
    class Forgetful(DatasetView):
        """Its bare video knows no times."""

        def without_labels(self):
            return Recording([len(t) for t in self.dataset.times], actions=False)

    times = np.cumsum(np.random.default_rng(2).choice([1 / 60, 1 / 30, 1 / 20], 200))
    data = Resampled(Forgetful(Recording([times])), 10, actions="sum")
    bare = data.without_labels()
    assert bare.action_names is None
    assert bare.episode(0).actions is None
    assert shown(bare) == shown(data)
    np.testing.assert_array_equal(bare.episode(0).times, data.episode(0).times)


def test_fingerprint_and_further_views():
    source = Recording([31, 61])
    prints = {Resampled(source, fps, actions=how).fingerprint() for fps in (10, 15) for how in ("sum", "mean")} | {
        source.fingerprint()
    }
    assert len(prints) == 5
    assert Resampled(source, 10, actions="sum").fingerprint() == Resampled(source, 10.0, actions="sum").fingerprint()
    part = Resampled(source, 10, actions="sum").subset([1])
    assert part.lengths().tolist() == [21]
    again = Resampled(Resampled(source, 15, actions="sum"), 5, actions="sum")
    direct = Resampled(source, 5, actions="sum")
    assert shown(again, 1) == shown(direct, 1)
    np.testing.assert_allclose(again.episode(1).actions, direct.episode(1).actions)


def test_plan_of_one_frame():
    plan = plan_frames(np.zeros(1), 10.0, "here")
    assert plan.frames.tolist() == [0]


@pytest.fixture(scope="module")
def uneven_video(tmp_path_factory):
    """A real file whose frames last 1, 2 or 3 sixtieths of a second; brightness tells the time: 40 grey levels/s."""
    import av

    path = tmp_path_factory.mktemp("video") / "uneven.mp4"
    ticks = np.concatenate([[0], np.cumsum(np.random.default_rng(3).integers(1, 4, 120))])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=60)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 60)
        stream.options = {"crf": "5"}
        for tick in ticks:
            level = round(20 + 40 * tick / 60)
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(tick), Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path, ticks / 60


def test_real_video_of_variable_rate(uneven_video):
    path, times = uneven_video
    file = VideoFile(path)
    np.testing.assert_allclose(file.times - file.times[0], times, atol=1e-3)
    assert file.variable_rate

    data = Resampled(VideoFolder(path.parent), 10)
    n = int(data.lengths()[0])

    def seconds(data, frames):
        levels = data.read_clips(np.array([0]), frames[None])["video"][0].float().mean((1, 2, 3))
        return (levels.numpy() - 20) / 40

    error = np.abs(seconds(data, np.arange(n)) - np.arange(n) / 10)
    assert error.max() < 0.06, "what is seen is as old as the frame's number says"
    by_index = np.arange(0, len(times), 3)  # 30 frames a second on average, so every third is "10 a second"
    assert np.abs(seconds(data.dataset, by_index)[:n] - np.arange(len(by_index))[:n] / 10).max() > 0.06
