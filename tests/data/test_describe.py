"""The description of a data set: numbers that can be checked by hand, hints only where they are due; the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_dataset import MadeDataset, made_episode

from jepa_actions.data import Episode, Provenance
from jepa_actions.data.checks.describe import describe_dataset, describe_table
from jepa_actions.errors import DataError
from jepa_actions.evaluation.contact_sheet import contact_sheet, runs, spread


def test_counts_rates_and_statistics():
    actions = np.array([[0, 1], [0, 1], [2, 3], [4, 9]], np.float32)
    mask = np.array([True, True, True, False])
    episodes = [
        Episode(0, 5, actions=actions, action_mask=mask, text="go", times=np.arange(5) / 5.0),
        Episode(1, 3, text="go"),
    ]
    facts = describe_dataset(MadeDataset(episodes, cameras=("front", "wrist")))
    json.dumps(facts, allow_nan=False)
    assert (facts["episodes"], facts["frames"]) == (2, 8)
    assert facts["fps"]["nominal"] == 10.0
    assert facts["fps"]["measured"] == pytest.approx(5.0)
    assert facts["cameras"] == {"front": [16, 24], "wrist": [16, 24]}
    dx = facts["actions"][0]
    assert (dx["name"], dx["min"], dx["max"], dx["distinct"]) == ("dx", 0.0, 2.0, 2)  # the unknown step is not counted
    assert dx["mean"] == pytest.approx(2 / 3)
    assert dx["repeated"] == pytest.approx(0.5)
    assert facts["labels"]["known"] == 3
    assert facts["labels"]["steps"] == 6
    assert facts["text"] == {"episodes": 2, "distinct": 1, "common": {"go": 2}}
    assert facts["proprio"] == facts["rewards"] == []


def test_labels_are_counted_by_origin_and_labeller():
    origins = np.array([0, 0, 1, 1, 2], dtype=np.int64)
    actions = np.zeros((5, 2), np.float32)
    mixed = Episode(0, 6, actions=actions, provenance=origins, labeller="head-3")
    pseudo = Episode(1, 6, actions=actions, provenance=Provenance.PSEUDO, labeller="head-4")
    labels = describe_dataset(MadeDataset([mixed, pseudo]))["labels"]
    assert (labels["true"], labels["pseudo"], labels["latent"]) == (2, 7, 1)
    assert labels["labellers"] == {"head-3": 3, "head-4": 5}


def test_hints_are_given_where_they_are_due():
    rng = np.random.default_rng(0)
    plain = [made_episode(k) for k in range(3)]
    assert describe_dataset(MadeDataset(plain))["hints"] == []
    path = (np.linspace(0, 3, 16)[:, None] + 0.01 * rng.normal(size=(16, 1))).astype(np.float32)
    kinds = rng.integers(0, 4, size=(15, 1)).astype(np.float32)
    ramp = (np.linspace(0, 8, 15)[:, None] % (2 * np.pi) - np.pi).astype(np.float32)
    episode = made_episode(0, actions=np.hstack([path[1:] + 0.001, kinds, ramp]), proprio=path)
    names = ("x", "button", "yaw")
    hints = "\n".join(describe_dataset(MadeDataset([episode], action_names=names, proprio_names=["x"]))["hints"])
    assert "action button: could be discrete" in hints
    assert "yaw wraps" in hints
    assert "action x follows the state" in hints


def test_a_data_set_without_labels_is_described():
    bare = MadeDataset([Episode(0, 4), Episode(1, 6)], action_names=None)
    facts = describe_dataset(bare)
    assert (facts["labels"]["known"], facts["actions"], facts["fps"]["measured"]) == (0, [], None)
    assert "2 episodes, 10 frames" in describe_table(facts)


def test_the_table_has_a_row_per_dimension():
    table = describe_table(describe_dataset(MadeDataset([made_episode(0)])))
    assert [line.split()[0] for line in table.splitlines() if line.startswith("  d")] == ["dx", "dy"]


def test_the_sheet_is_a_picture_that_shows_frames_and_actions(tmp_path: Path):
    from PIL import Image

    pictures = {0: np.zeros((16, 16, 24, 3), np.uint8)}
    pictures[0][..., 0] = 255  # red
    mask = np.arange(15) < 10
    origins = np.where(np.arange(15) < 5, 0, 1)
    episode = made_episode(0, action_mask=mask, provenance=origins, labeller="m", text="cost is $5 and $6")
    dataset = MadeDataset([episode, Episode(1, 1)], pictures=pictures)
    path = contact_sheet(dataset, tmp_path / "sub" / "sheet.png", frames=6)
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    for colour, least in (((255, 0, 0), 5000), ((35, 100, 170), 100), ((209, 96, 61), 100)):  # frames, true, pseudo
        assert (np.abs(pixels - colour).max(axis=1) < 40).sum() > least, colour


def test_the_sheet_says_what_it_cannot_do(tmp_path: Path):
    dataset = MadeDataset([made_episode(0)])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        contact_sheet(dataset, tmp_path / "file" / "sheet.png")
    with pytest.raises(DataError, match="episode 7"):
        contact_sheet(dataset, tmp_path / "sheet.png", episodes=[7])


def test_episodes_are_spread_and_runs_found():
    assert spread(11, 5) == [0, 2, 5, 8, 10]
    assert spread(3, 5) == [0, 1, 2]
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, dtype=bool)) == []
