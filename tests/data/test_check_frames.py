"""Frames decoded once: what does not decode, never changes, or comes twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lerobot_writer import write_video
from made_dataset import MadeDataset, made_episode

from jepa_actions.data.checks.check import check
from jepa_actions.data.checks.duplicates import Digests, repeated, shared
from jepa_actions.data.checks.frames import FrameCheck, check_frames
from jepa_actions.errors import DataError


def frames_of(dataset: MadeDataset, threads: int = 1, **options: object) -> FrameCheck:
    return check_frames(dataset, threads=threads, **options)  # type: ignore[arg-type]


def digests(dataset: MadeDataset) -> Digests:
    found = Digests(frames=frames_of(dataset).frames(dataset.cameras))
    for i in range(len(dataset)):
        found.add_labels(i, dataset.episode(i))
    return found


def test_good_frames_have_no_problem_and_threads_change_nothing():
    dataset = MadeDataset([made_episode(k, length=40) for k in range(5)], cameras=("front", "wrist"))
    one, two = frames_of(dataset), frames_of(dataset, threads=2)
    assert one.problems == two.problems == []
    assert one.digests == two.digests
    assert len(set(one.digests.values())) == 10


def test_an_episode_that_does_not_decode_is_fatal_and_the_others_are_looked_at():
    class Broken(MadeDataset):
        def read_clips(self, episodes: np.ndarray, frames: np.ndarray) -> dict[str, object]:
            if episodes[0] == 1:
                raise DataError("b.mp4: frame 3 of 16 is damaged")
            return super().read_clips(episodes, frames)

    dataset = Broken([made_episode(k) for k in range(3)])
    found = frames_of(dataset, file_of=lambda i, camera: f"{camera}/{i}.mp4")
    (problem,) = found.problems
    assert (problem.episode, problem.file, problem.field, problem.fatal) == (1, "front/1.mp4", "front", True)
    assert "frame 3 of 16" in problem.message
    assert list(found.frames(["front"])) == [0, 2]
    assert frames_of(dataset, skip=[1]).problems == []


def test_the_camera_that_does_not_decode_is_named():
    class Broken(MadeDataset):
        def read_clips(self, episodes: np.ndarray, frames: np.ndarray) -> dict[str, object]:
            if episodes[0] == 1 and "wrist" in self.cameras:
                raise DataError("wrist.mp4: damaged")
            return super().read_clips(episodes, frames)

    dataset = Broken([made_episode(k) for k in range(3)], cameras=("front", "wrist"))
    assert [p.field for p in frames_of(dataset).problems] == [""]
    single = lambda camera: Broken(dataset.episodes, cameras=(camera,))  # noqa: E731
    found = frames_of(dataset, one_camera=single, file_of=lambda i, camera: f"{camera}/{i}.mp4")
    assert [(p.episode, p.field, p.file) for p in found.problems] == [(1, "wrist", "wrist/1.mp4")]


def test_a_damaged_video_whose_index_is_whole_is_found_by_decoding(tmp_path: Path):
    for k in range(2):
        write_video(tmp_path / f"{k}.mp4", [20 + 5 * j for j in range(20)], 10, (64, 64))
    path = tmp_path / "1.mp4"
    data = path.read_bytes()
    start, stop = data.index(b"mdat") + 4, data.index(b"moov") - 4  # the pictures; the index is behind them
    path.write_bytes(data[: (start + stop) // 2] + b"\xff" * (stop - (start + stop) // 2) + data[stop:])
    assert [(p.episode, p.file) for p in check(tmp_path) if p.fatal] == [(1, "1.mp4")]


def test_a_camera_that_shows_one_picture_and_two_that_show_the_same_are_warnings():
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8), 16, axis=0)
    dataset = MadeDataset([made_episode(k) for k in range(2)], pictures={1: still})
    (problem,) = frames_of(dataset).problems
    assert (problem.episode, problem.fatal, problem.field) == (1, False, "front")

    class Same(MadeDataset):
        def read_clips(self, episodes: np.ndarray, frames: np.ndarray) -> dict[str, object]:
            clips = super().read_clips(episodes, frames)
            return {"front": clips["front"], "wrist": clips["front"]}

    found = frames_of(Same([made_episode(0)], cameras=("front", "wrist")))
    (problem,) = found.problems
    assert (problem.episode, problem.field, problem.fatal, problem.kind) == (0, "wrist", False, "duplicate")


def test_an_episode_that_comes_twice_is_fatal_for_the_later():
    first = MadeDataset([made_episode(k) for k in range(3)])
    again = MadeDataset([*first.episodes, made_episode(1)], pictures={3: first.pictures[1]})
    assert repeated(digests(first), lambda _: "") == []
    (problem,) = repeated(digests(again), lambda i: f"{i}.parquet")
    assert (problem.episode, problem.file, problem.fatal) == (3, "3.parquet", True)
    assert "episode 1 again" in problem.message


@pytest.mark.parametrize("same", ["frames", "labels"])
def test_half_a_copy_is_a_warning(same: str):
    first = MadeDataset([made_episode(k) for k in range(3)])
    extra = made_episode(7) if same == "frames" else made_episode(1)
    copy = MadeDataset([*first.episodes, extra], pictures={3: first.pictures[1]} if same == "frames" else {})
    (problem,) = repeated(digests(copy), lambda _: "")
    assert (problem.episode, problem.fatal) == (3, False)


def test_short_or_constant_labels_do_not_tell_an_episode():
    short = [made_episode(1, length=5) for _ in range(2)]
    still = [made_episode(1, actions=np.zeros((15, 2), np.float32)) for _ in range(2)]
    for episodes in (short, still):
        assert repeated(digests(MadeDataset(episodes)), lambda _: "") == []


def test_a_validation_set_that_repeats_the_training_set_is_fatal():
    train = MadeDataset([made_episode(k) for k in range(3)])
    apart = MadeDataset([made_episode(k) for k in (5, 6)], pictures={k: 255 - train.pictures[k] for k in range(2)})
    assert shared(digests(train), digests(apart), "v", lambda _: "") == []
    same_frames = MadeDataset([made_episode(8)], pictures={0: train.pictures[2]})
    same_labels = MadeDataset(
        [made_episode(5), made_episode(2)], pictures={k: train.pictures[k] // 2 for k in range(2)}
    )
    for other, episode, what in ((same_frames, 2, "frames"), (same_labels, 2, "labels")):
        (problem,) = shared(digests(train), digests(other), "v", lambda _: "")
        assert (problem.episode, problem.fatal, problem.kind) == (episode, True, "split")
        assert what in problem.message
