"""Lag: which recorded action a step shows."""

import numpy as np
import pytest
from codec_labels import Labels, labelled

from jepa_actions.data import ActionBounds, ActionCodec, ClipIndex, ClipLoader, Provenance, Segment
from jepa_actions.errors import DataError

ACTIONS = [[1.0], [2.0], [3.0], [4.0], [5.0]]


def codec(lag, **more):
    one = np.ones(1, np.float32)
    return ActionCodec(("a",), 1, 0 * one, one, ActionBounds("ball", radius=1.0), lag=lag, **more)


@pytest.mark.parametrize(
    ("lag", "raw", "known"),
    [
        (0, [1, 2, 3, 4, 5], [1, 1, 1, 1, 1]),
        (2, [0, 0, 1, 2, 3], [0, 0, 1, 1, 1]),
        (-1, [2, 3, 4, 5, 0], [1, 1, 1, 1, 0]),
        (7, [0] * 5, [0] * 5),
        (-7, [0] * 5, [0] * 5),
    ],
)
def test_a_step_shows_the_action_recorded_lag_steps_before(lag, raw, known):
    episode = labelled(ACTIONS)
    made = codec(lag)
    assert made.raw_actions(episode)[:, 0].tolist() == raw
    assert made.step_mask(episode).astype(int).tolist() == known


def test_what_is_unknown_and_where_labels_come_from_move_along():
    episode = labelled(
        [[1.0], [np.nan], [3.0], [4.0], [5.0]],
        action_mask=np.array([True, False, True, True, True]),
        provenance=np.array([0, 0, 1, 0, 0], dtype=np.int64),
        labeller="model",
    )
    made = codec(1)
    assert made.step_mask(episode).tolist() == [False, True, False, True, True]
    assert made.raw_actions(episode)[:, 0].tolist() == [0.0, 1.0, 0.0, 3.0, 4.0]
    assert made.step_origins(episode)[made.step_mask(episode)].tolist() == [
        Provenance.TRUE,
        Provenance.PSEUDO,
        Provenance.TRUE,
    ]


def test_statistics_are_of_the_steps_that_show_in_the_segments():
    data = Labels(labelled(ACTIONS), actions=("a",))
    shifted = ActionCodec.fit(data, [Segment(0, 2, 5)], block=1, lag=2)
    assert shifted.mean.tolist() == [1.5], "steps 2 and 3 show actions 1 and 2"
    assert shifted.lag == 2


def test_commands_seen_from_proprio_are_those_that_show():
    proprio = np.arange(6.0)[:, None] * 10
    episode = labelled(ACTIONS, proprio)
    made = codec(2, source="action_minus_proprio")
    assert made.raw_actions(episode)[:, 0].tolist() == [0, 0, 1 - 20, 2 - 30, 3 - 40]
    with pytest.raises(DataError, match="lag 2 with changes of proprio, expected 0"):
        codec(2, source="proprio_difference")


class Video(Labels):
    """With frames, so that it can be loaded."""

    cameras, fps = ("image",), 10.0

    def __len__(self):
        return len(self.episodes)

    def lengths(self):
        return np.array([e.length for e in self.episodes])

    def read_clips(self, episodes, frames):
        import torch

        return {"image": torch.zeros(*frames.shape, 3, 2, 2, dtype=torch.uint8)}


def test_batches_have_the_actions_that_show():
    data = Video(labelled(ACTIONS), actions=("a",))
    index = ClipIndex([Segment(0, 0, 6)], frames=3, block=1)
    loader = ClipLoader(data, index, codec(1), batch_size=1, seed=0)
    batch = loader.clips(np.array([0, 2]))
    assert batch.actions[..., 0].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert batch.action_mask.tolist() == [[False, True], [True, True]]
