"""Batch and Episode refuse what has the wrong shape or dtype, naming the field."""

import numpy as np
import pytest
import torch

from jepa_actions.data import Batch, Episode
from jepa_actions.data.types import check_clips
from jepa_actions.errors import DataError, ShapeError


def parts(b=2, t=3):
    return {
        "frames": {"front": torch.zeros(b, t, 3, 8, 8, dtype=torch.uint8)},
        "episode": torch.zeros(b, dtype=torch.int64),
        "frame": torch.zeros(b, t, dtype=torch.int64),
        "actions": torch.zeros(b, t - 1, 4),
        "action_mask": torch.ones(b, t - 1, dtype=torch.bool),
        "provenance": torch.zeros(b, t - 1, dtype=torch.int64),
        "proprio": torch.zeros(b, t, 5),
        "rewards": torch.zeros(b, t - 1),
        "reward_mask": torch.ones(b, t - 1, dtype=torch.bool),
        "text": ["a", "b"],
    }


def test_a_batch_knows_its_sizes_and_moves():
    batch = Batch(**parts())
    assert (batch.batch_size, batch.steps) == (2, 3)
    moved = batch.to("meta")
    assert moved.frames["front"].is_meta
    assert moved.frame.is_meta
    assert moved.rewards.is_meta
    assert moved.text == ["a", "b"]
    bare = Batch(**{name: parts()[name] for name in ("frames", "episode", "frame")}).to("meta")
    assert bare.actions is None
    assert bare.episode.is_meta


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("frames", {}, "frames is empty"),
        ("frames", {"front": torch.zeros(2, 3, 3, 8, 8)}, "frames\\['front'\\] is torch.float32"),
        (
            "frames",
            {"front": torch.zeros(2, 3, 8, 8, 3, dtype=torch.uint8)},
            "frames\\['front'\\].*expected uint8 \\(2, 3, 3, ",
        ),
        ("frames", {"front": torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8)}, "frames\\['front'\\]"),
        ("episode", torch.zeros(3, dtype=torch.int64), "episode is"),
        ("frame", torch.zeros(2, 3), "frame is torch.float32"),
        ("actions", torch.zeros(2, 3, 4), "actions is .*expected float \\(2, 2, \\*\\)"),
        ("actions", torch.zeros(2, 2, 4, dtype=torch.int64), "actions is torch.int64"),
        ("actions", None, "actions is None although action_mask is given"),
        ("action_mask", torch.ones(2, 2), "action_mask is torch.float32"),
        ("action_mask", None, "action_mask is None although actions"),
        ("provenance", torch.zeros(2, 2, dtype=torch.int32), "provenance is torch.int32"),
        ("proprio", torch.zeros(2, 2, 5), "proprio is"),
        ("rewards", torch.zeros(2, 3), "rewards is"),
        ("reward_mask", None, "reward_mask is None"),
        ("text", ["a"], "text has 1 entries, expected 2"),
    ],
)
def test_batch_refuses(field, value, says):
    with pytest.raises(ShapeError, match=f"Batch.{says}"):
        Batch(**{**parts(), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actions", np.zeros((4, 2), np.float32)),
        ("actions", np.zeros((3, 2))),
        ("proprio", np.zeros((3, 2), np.float32)),
        ("rewards", np.zeros((3, 1), np.float32)),
        ("action_mask", np.zeros(3, np.float32)),
    ],
)
def test_episode_refuses(field, value):
    with pytest.raises(ShapeError, match=f"robot: episode 7: {field} is .* for 4 frames"):
        Episode(index=7, length=4, dataset="robot", **{field: value})
    with pytest.raises(ShapeError, match="length is 0"):
        Episode(index=0, length=0)


def test_requests_that_leave_an_episode_are_refused():
    lengths = np.array([5, 3])
    with pytest.raises(DataError, match="frame 3 of episode 1 asked for, expected 0 to 2"):
        check_clips(lengths, np.array([0, 1]), np.array([[0, 4], [2, 3]]), "robot")
    with pytest.raises(DataError, match="episode 2 asked for"):
        check_clips(lengths, np.array([2]), np.array([[0]]), "robot")
    with pytest.raises(ShapeError, match=r"expected \(b,\) and \(b, t\)"):
        check_clips(lengths, np.array([1]), np.array([0]), "robot")
