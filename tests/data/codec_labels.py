"""Data sets that have labels and no frames: all that a codec needs."""

from __future__ import annotations

import numpy as np

from jepa_actions.data import Episode


class Labels:
    """Episodes with the names of their dimensions, `None` where there are none."""

    def __init__(self, *episodes, actions=None, proprio=None):
        self.name, self.episodes = "robot", episodes
        self.action_names, self.proprio_names = actions, proprio

    def episode(self, i):
        return self.episodes[i]


def labelled(actions=None, proprio=None, *, index=0, **more) -> Episode:
    """An episode of these labels."""
    length = len(proprio) if actions is None else len(actions) + 1
    as32 = [None if x is None else np.asarray(x, np.float32) for x in (actions, proprio)]
    return Episode(index, length, actions=as32[0], proprio=as32[1], dataset="robot", **more)
