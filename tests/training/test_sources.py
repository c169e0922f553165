from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lerobot_writer import write_lerobot, write_video

from jepa_actions.errors import DataError
from jepa_actions.training import ActionConfig, DataConfig, EnvConfig, LabelsConfig, SplitConfig, open_data

ENV = EnvConfig(episodes=6, steps=12, heldout_episodes=3, episodes_per_layout=2)


def two_room(**changes) -> DataConfig:
    return DataConfig(**{"path": "env:two_room", "block": 2, "env": ENV, "action": ActionConfig(ball=True), **changes})


def test_two_room_is_behaviour_made_on_the_spot():
    data = open_data(two_room(), (64, 64))
    assert (len(data.dataset), len(data.heldout_dataset)) == (6, 3)
    assert [len(segment) for segment in data.train] == [13] * 6
    assert data.codec is not None
    assert data.codec.action_dim == 4
    assert data.codec.bounds.kind == "ball"
    clips = data.dataset.read_clips(np.array([0]), np.array([[0, 1]]))
    assert clips["image"].shape == (1, 2, 3, 64, 64)


def test_held_out_layouts_are_never_trained_on():
    data = open_data(two_room(env=replace(ENV, episodes=200, heldout_episodes=50, episodes_per_layout=1)), (64, 64))
    train, heldout = (
        {tuple(layout) for layout in d.behaviour.layouts.tolist()} for d in (data.dataset, data.heldout_dataset)
    )
    assert len(train) > 20
    assert not train & heldout


def test_the_seed_decides_the_behaviour():
    first, same, other = (open_data(two_room(env=replace(ENV, seed=seed)), (64, 64)) for seed in (0, 0, 1))
    positions = [data.dataset.behaviour.states for data in (first, same, other)]
    assert positions[0].equal(positions[1])
    assert not positions[0].equal(positions[2])


def test_labels_can_be_left_out():
    assert open_data(two_room(labels=False), (64, 64)).codec is None


def test_an_unknown_environment_names_the_known_one():
    with pytest.raises(DataError, match=r"environment 'env:three_rooms' is not known; there is env:two_room, env:poi"):
        open_data(two_room(path="env:three_rooms"), (64, 64))


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("robot") / "robot", lengths=(12, 9, 20, 10))


@pytest.mark.parametrize(
    ("split", "heldout"),
    [
        (SplitConfig(kind="episode", fraction=0.25), 1),
        (SplitConfig(kind="tail", fraction=0.25), 4),
        (SplitConfig(kind="blocks", fraction=0.3, blocks=1, gap=1), 4),
        (SplitConfig(kind="folds", folds=2, fold=1), 2),
        (SplitConfig(kind="none"), 0),
    ],
)
def test_a_recording_is_split_as_the_recipe_says(robot, split, heldout):
    data = open_data(DataConfig(path=str(robot), split=split), (16, 24))
    assert len(data.heldout) == heldout
    trained = {(s.episode, f) for s in data.train for f in range(s.start, s.stop)}
    kept = {(s.episode, f) for s in data.heldout for f in range(s.start, s.stop)}
    assert trained
    assert not trained & kept
    assert data.dataset is data.heldout_dataset
    assert data.dataset.image_size(data.dataset.cameras[0]) == (16, 24)


def test_the_codec_sees_the_training_frames_alone(robot):
    tail = open_data(DataConfig(path=str(robot), split=SplitConfig(kind="tail", fraction=0.5)), (16, 24))
    everything = open_data(DataConfig(path=str(robot), split=SplitConfig(kind="none")), (16, 24))
    assert tail.codec is not None
    assert everything.codec is not None
    assert not np.allclose(tail.codec.mean, everything.codec.mean)


def test_pose_differences_can_be_the_action(robot):
    action = ActionConfig(source="proprio_difference", columns=(0, 2), angles=(1,))
    codec = open_data(DataConfig(path=str(robot), action=action), (16, 24)).codec
    assert codec is not None
    assert codec.names == ("x", "yaw")


def test_cameras_of_the_model_are_those_read(robot):
    data = open_data(DataConfig(path=str(robot)), (16, 24), cameras=("observation.images.wrist",))
    assert data.dataset.cameras == ("observation.images.wrist",)


def test_video_without_actions_has_no_codec(tmp_path):
    root = write_lerobot(tmp_path / "video", with_actions=False)
    assert open_data(DataConfig(path=str(root), split=SplitConfig(kind="none")), (16, 24)).codec is None


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Another recording of the same robot, and a folder of videos of its size and rate."""
    folder = tmp_path_factory.mktemp("more")
    robot = write_lerobot(folder / "second", lengths=(14, 11), seed=1)
    write_video(folder / "videos" / "a.mp4", range(20, 220, 10), 10, (32, 48))
    return robot, folder / "videos"


def test_several_recordings_are_one_data_set_and_video_alone_is_trained_on_only(robot, more):
    second, videos = more
    config = DataConfig(path=str(robot), also=(str(second),), split=SplitConfig(kind="episode", fraction=0.3))
    data = open_data(config, (16, 24))
    assert data.dataset.lengths().tolist() == [12, 9, 20, 10, 14, 11]
    front = {"cameras": ("observation.images.front",)}
    data = open_data(replace(config, video=(str(videos),)), (16, 24), **front)
    assert data.dataset.lengths().tolist() == [12, 9, 20, 10, 14, 11, 20]
    assert 6 in {segment.episode for segment in data.train}
    assert len(data.heldout_dataset) == 6
    assert data.dataset.episode(6).actions is None
    assert data.codec is not None


def test_labels_of_a_few_training_episodes_are_kept_and_those_held_out_stay(robot):
    config = DataConfig(path=str(robot), label=LabelsConfig(episodes=2), split=SplitConfig(kind="tail", fraction=0.3))
    data = open_data(config, (16, 24))
    shown = data.notes["labelled"]["shown"]
    assert (data.notes["labelled"]["episodes"], data.notes["labelled"]["of"]) == (2, 4)
    for i in range(4):
        assert (data.dataset.episode(i).actions is not None) == (i in shown)
        assert data.heldout_dataset.episode(i).actions is not None
