"""Few labels: the same video with the labels of n episodes, for studies of how many are needed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from jepa_actions.data.types import Episode, VideoDataset
from jepa_actions.data.view import DatasetView, combined
from jepa_actions.errors import DataError


class WithLabels(DatasetView):
    """`dataset` with the labels of `n` episodes, drawn with `seed` from those that have any; text stays everywhere.

    What is hidden (actions, proprio, rewards, simulator state) is not in this object: frames come from
    `dataset.without_labels()`, labels from copies of the shown episodes, and `dataset` itself is not kept. Draws are
    nested: the episodes shown for n are among those shown for n + 1.

    Args:
        dataset: video with labels.
        n: episodes to keep the labels of.
        seed: of the draw.
        among: episodes to draw from (training ones); by default all.

    Raises:
        DataError: where fewer than `n` episodes have a labelled step.
    """

    def __init__(self, dataset: VideoDataset, n: int, seed: int, *, among: Iterable[int] | None = None) -> None:
        candidates = range(len(dataset)) if among is None else sorted(set(among))
        able = [i for i in candidates if _has_labels(dataset, dataset.episode(i))]
        if n < 0 or n > len(able) or seed < 0:
            raise DataError(
                f"{dataset.name}: labels of {n} episodes asked for (seed {seed}), found {len(able)} episodes with "
                "labels among those to draw from"
            )
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(able))
        self.shown = tuple(sorted(int(able[k]) for k in order[:n]))
        self._kept = {i: copy.deepcopy(dataset.episode(i)) for i in self.shown}  # a slice would keep the whole table
        self._text = [dataset.episode(i).text for i in range(len(dataset))]
        self._names = (dataset.action_names, dataset.proprio_names)
        self.source = dataset.fingerprint()  # of all that was given
        super().__init__(dataset.without_labels())

    @property
    def action_names(self) -> tuple[str, ...] | None:
        return self._names[0]

    @property
    def proprio_names(self) -> tuple[str, ...] | None:
        return self._names[1]

    def episode(self, i: int) -> Episode:
        """Episode `i`, with its labels where they are shown."""
        if i in self._kept:
            return self._kept[i]
        bare = self.dataset.episode(i)
        bare.text = self._text[i]
        return bare

    def count(self) -> dict[str, float]:
        """How much is labelled: episodes, transitions (steps with a known action, or a proprio change), seconds."""
        steps = sum(int(e.labelled().sum()) if e.actions is not None else e.length - 1 for e in self._kept.values())
        return {"episodes": len(self.shown), "transitions": steps, "seconds": steps / self.fps}

    def without_labels(self) -> VideoDataset:
        """The video alone."""
        return self.dataset

    def fingerprint(self) -> str:
        """Of the data set and of what is shown."""
        return combined(self.source, type(self).__name__, self.facts())

    def facts(self) -> Any:
        """The episodes whose labels are shown."""
        return list(self.shown)


def _has_labels(dataset: VideoDataset, episode: Episode) -> bool:
    """A known action; in a data set without actions, proprio."""
    return episode.proprio is not None if dataset.action_names is None else bool(episode.labelled().any())
