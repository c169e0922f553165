"""Labels of a LeRobot data set are chosen by name, and every action says where it comes from."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import edit_column, write_lerobot

from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.data.types import Provenance
from jepa_actions.errors import DataError

PSEUDO = {"info": {"provenance": "pseudo", "model": "idm-1"}}
LATENT = {"info": {"provenance": "latent", "model": "lam-2"}}
ROWS = "data/chunk-000/file-000.parquet"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two episodes of 12 and 9 frames: actions known for all steps of the first but two, for none of the second; pseudo
    actions everywhere but in one step; latent actions; a second state; a simulator state. Read only."""
    known = [np.ones(12), np.zeros(9)]
    known[0][3:5] = 0
    guess = np.arange(42, dtype=np.float32).reshape(21, 2) + 100
    guess[4] = np.nan
    extra = {
        "pseudo_action": (guess, PSEUDO),
        "latent_action": (np.ones((21, 5), np.float32), LATENT),
        "latent_action_valid": (np.array([1] * 20 + [0])[:, None][:, 0], {}),
        "observation.force": (np.arange(21, dtype=np.float32)[:, None], {}),
        "simulator.state": (np.full((21, 3), 1 / 3, np.float32), {}),
        "note": (np.array(["word"] * 21), {"dtype": "string"}),
        "pseudo_action.short": (np.zeros((21, 1), np.float32), PSEUDO),
        "pseudo_action.nobody": (np.zeros((21, 2), np.float32), {"info": {"provenance": "pseudo"}}),
        "pseudo_action.wrong": (np.zeros((21, 2), np.float32), {"info": {"provenance": "true"}}),
        "action.guess": (np.zeros((21, 2), np.float32), PSEUDO),
        "guess": (np.zeros((21, 2), np.float32), PSEUDO),
    }
    root = tmp_path_factory.mktemp("columns") / "labelled"
    return write_lerobot(root, action_valid=known, rewards=True, extra=extra, texts=("", None))


def test_true_actions_alone(labelled):
    data = LeRobot(labelled)
    first, second = data.episode(0), data.episode(1)
    assert first.labelled().tolist() == [True] * 3 + [False] * 2 + [True] * 6
    assert not second.labelled().any(), "an episode may have no action at all"
    assert (first.provenance, first.labeller) == (Provenance.TRUE, None)
    assert (first.text, second.text) == (None, None), "empty and missing texts"
    assert np.array_equal(first.simulator_state, np.full((12, 3), np.float32(1 / 3), np.float64))


def test_pseudo_actions_fill_in_and_say_so(labelled):
    data = LeRobot(labelled, pseudo="pseudo_action")
    first, second = data.episode(0), data.episode(1)
    assert data.action_names == ("dx", "dy")
    assert first.labelled().tolist() == [True] * 4 + [False] + [True] * 6, "NaN is no action"
    assert first.origins().tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert first.actions[3].tolist() == [106, 107]
    assert np.array_equal(first.actions[5:], LeRobot(labelled).episode(0).actions[5:])
    assert (second.origins() == Provenance.PSEUDO).all()
    assert second.labelled().all()
    assert second.labeller == first.labeller == "idm-1"
    assert np.isfinite(first.actions).all()


def test_inferred_actions_alone(labelled):
    latent = LeRobot(labelled, action="latent_action")
    assert latent.episode(1).actions.shape == (8, 5)
    assert (latent.episode(0).provenance, latent.episode(0).labeller) == (Provenance.LATENT, "lam-2")
    assert latent.episode(0).labelled().all()
    pseudo = LeRobot(labelled, action=None, pseudo="pseudo_action").episode(0)
    assert pseudo.labelled().sum() == 10
    assert pseudo.provenance == Provenance.PSEUDO
    assert LeRobot(labelled, action="guess").episode(0).labeller == "idm-1"


def test_states_are_joined_in_order_or_left_out(labelled):
    data = LeRobot(labelled, state=["observation.force", "observation.state"])
    assert data.proprio_names == ("observation.force_0", "x", "y", "yaw")
    assert data.episode(1).proprio[:, 0].tolist() == list(range(12, 21))
    twice = LeRobot(labelled, state=["observation.state", "observation.state"]).proprio_names
    assert twice[:2] == ("observation.state.x", "observation.state.y")
    none = LeRobot(labelled, action=None, state=None, reward=None)
    assert none.proprio_names is None
    assert none.action_names is None
    assert (none.episode(0).proprio, none.episode(0).actions, none.episode(0).rewards) == (None, None, None)


@pytest.mark.parametrize(
    "chosen", [{"action": "act"}, {"state": ["observation.state", "x"]}, {"pseudo": "p"}, {"reward": "r"}]
)
def test_a_column_that_does_not_exist_is_refused_with_those_that_do(labelled, chosen):
    with pytest.raises(
        DataError, match=r"info.json: column '.+' asked for, expected one of observation.state, action, "
    ) as e:
        LeRobot(labelled, **chosen)
    assert "timestamp" not in str(e.value)
    assert "images" not in str(e.value)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"action": "action.guess"}, "'action.guess' has provenance 'pseudo', which its name denies"),
        ({"action": "pseudo_action.wrong"}, "'pseudo_action.wrong' has provenance 'true', which its name denies"),
        ({"action": "pseudo_action.nobody"}, "'pseudo_action.nobody' has info.model None, expected who inferred it"),
        ({"pseudo": "latent_action"}, "pseudo 'latent_action' asked for, whose actions are latent"),
        ({"pseudo": "observation.force"}, "pseudo 'observation.force' asked for, whose actions are true"),
        ({"pseudo": "pseudo_action.short"}, "of 1 dimensions cannot fill in 'action' of 2"),
        ({"action": "latent_action", "pseudo": "pseudo_action"}, "cannot fill in 'latent_action'"),
        ({"action": "note"}, f"{ROWS}: column 'note' has type string, expected numbers"),
    ],
)
def test_actions_that_are_not_what_is_asked_for_are_refused(labelled, chosen, says):
    with pytest.raises(DataError, match=says):
        LeRobot(labelled, **chosen)


def test_pseudo_actions_in_the_plain_column_are_refused(robot):
    path = robot / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action"]["info"] = {"provenance": "pseudo", "model": "idm"}
    path.write_text(json.dumps(info))
    with pytest.raises(DataError, match="feature 'action' has provenance 'pseudo', which its name denies"):
        LeRobot(robot)
    info["features"]["action"]["info"] = {"provenance": "guessed"}
    path.write_text(json.dumps(info))
    with pytest.raises(DataError, match="feature 'action' has provenance 'guessed', expected"):
        LeRobot(robot)


def test_a_seed_is_kept(robot):
    table = robot / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows = pq.read_table(table)
    pq.write_table(rows.append_column("seed", pa.array([None, 7])), table)
    data = LeRobot(robot)
    assert (data.episode(0).seed, data.episode(1).seed) == (None, 7)
    assert data.without_labels().episode(1).seed is None


def test_without_labels_reads_no_label_column(labelled, tmp_path):
    bare = LeRobot(labelled, pseudo="pseudo_action").without_labels()
    episode = bare.episode(0)
    assert (bare.action_names, bare.proprio_names) == (None, None)
    for field in ("actions", "proprio", "rewards", "action_mask", "simulator_state", "seed"):
        assert getattr(episode, field) is None
    kept = {name for file in bare._rows._kept._kept.values() for name in file.columns}
    assert kept == {"episode_index", "frame_index", "index", "task_index", "timestamp"}
    assert bare.lengths().tolist() == [12, 9]
    clips = bare.read_clips(np.array([1]), np.array([[3, 4]]))
    for camera, images in LeRobot(labelled).read_clips(np.array([1]), np.array([[3, 4]])).items():
        assert (clips[camera] == images).all()
    assert LeRobot(labelled).with_labels(1, seed=0).episode(1).actions is None


def test_a_fingerprint_follows_what_is_read(robot, tmp_path):
    first = LeRobot(robot)
    print_ = first.fingerprint()
    moved = LeRobot(shutil.copytree(robot, tmp_path / "elsewhere"))
    assert moved.fingerprint() == print_ == first.fingerprint(), "of the content, not of the place"
    others = [
        LeRobot(robot, cameras=["front"]),
        LeRobot(robot, image_size=(16, 16)),
        LeRobot(robot, action=None),
        first.without_labels(),
    ]
    assert len({print_, *(data.fingerprint() for data in others)}) == 5
    frames = first.frames_fingerprint()
    edit_column(robot / ROWS, "action", pa.array([[0.0, 1.0]] * 21))
    assert first.fingerprint() != print_
    assert first.frames_fingerprint() == frames == others[3].frames_fingerprint(), "labels are not in the frames"
    video = robot / "videos" / "observation.images.front" / "chunk-000" / "file-000.mp4"
    video.write_bytes(video.read_bytes() + b"\0")
    assert first.frames_fingerprint() != frames
