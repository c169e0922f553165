"""Data sets that have labels and no frames: all that a codec needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jepa_actions.data import Episode, Segment


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


def load_labels(folder: Path) -> Labels:
    """State and action of a recording's tables, without a frame; with `segments`, its whole episodes."""
    table = pq.read_table(sorted((folder / "data").rglob("*.parquet")))
    number, state, action = (
        np.array(table[key].to_pylist()) for key in ("episode_index", "observation.state", "action")
    )
    names = tuple(f"s{k}" for k in range(state.shape[1]))
    rows = [number == k for k in range(number.max() + 1)]
    data = Labels(
        *(labelled(action[r][:-1], state[r], index=k) for k, r in enumerate(rows)), actions=names, proprio=names
    )
    data.segments = [Segment(k, 0, int(r.sum())) for k, r in enumerate(rows)]
    return data
