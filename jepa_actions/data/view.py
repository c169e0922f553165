"""Data sets seen through something: fewer episodes, hidden labels, another rate. What every data set offers to be seen
through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.types import Episode, VideoDataset
from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from jepa_actions.data.labels import WithLabels


class Viewable:
    """The methods that make a view of a data set; readers inherit them."""

    def with_labels(self: Any, n: int, seed: int, *, among: Iterable[int] | None = None) -> WithLabels:
        """The same video with the labels of `n` episodes, drawn with `seed`; see `WithLabels`."""
        from jepa_actions.data.labels import WithLabels

        return WithLabels(self, n, seed, among=among)

    def subset(self: Any, episodes: Sequence[int]) -> Subset:
        """These episodes only, in this order, numbered anew."""
        return Subset(self, episodes)


class DatasetView(Viewable):
    """Another data set, but for what a subclass changes. A subclass says `over` and `facts`."""

    def __init__(self, dataset: VideoDataset) -> None:
        self.dataset = dataset

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.dataset.cameras

    @property
    def fps(self) -> float:
        return self.dataset.fps

    @property
    def action_names(self) -> tuple[str, ...] | None:
        return self.dataset.action_names

    @property
    def proprio_names(self) -> tuple[str, ...] | None:
        return self.dataset.proprio_names

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames."""
        return self.dataset.image_size(camera)

    def __len__(self) -> int:
        return len(self.dataset)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self.dataset.lengths()

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`."""
        return self.dataset.episode(i)

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera."""
        return self.dataset.read_clips(episodes, frames)

    def over(self, dataset: VideoDataset) -> VideoDataset:
        """The same view of another data set."""
        raise NotImplementedError

    def facts(self) -> Any:
        """What the view does, as something JSON holds."""
        raise NotImplementedError

    def without_labels(self) -> VideoDataset:
        """The same view of the video alone."""
        return self.over(self.dataset.without_labels())

    def fingerprint(self) -> str:
        """Of the data set behind and of the view."""
        return combined(self.dataset.fingerprint(), type(self).__name__, self.facts())


class Subset(DatasetView):
    """Some episodes of a data set, numbered from 0 in the given order.

    Raises DataError for an episode that does not exist or comes twice, or an empty choice.
    """

    def __init__(self, dataset: VideoDataset, episodes: Sequence[int]) -> None:
        super().__init__(dataset)
        self.chosen = np.asarray(list(episodes), dtype=np.int64)
        bad = self.chosen[(self.chosen < 0) | (self.chosen >= len(dataset))]
        if len(bad):
            raise DataError(f"{dataset.name}: episode {int(bad[0])} asked for, expected 0 to {len(dataset) - 1}")
        if len(self.chosen) == 0 or len(np.unique(self.chosen)) < len(self.chosen):
            raise DataError(f"{dataset.name}: {len(self.chosen)} episodes chosen, expected at least one, each once")

    def __len__(self) -> int:
        return len(self.chosen)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self.dataset.lengths()[self.chosen]

    def episode(self, i: int) -> Episode:
        """The labels of the i-th chosen episode; its `index` is the number in the data set behind."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        return self.dataset.episode(int(self.chosen[i]))

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera."""
        return self.dataset.read_clips(self.chosen[episodes], frames)

    def over(self, dataset: VideoDataset) -> VideoDataset:
        """The same episodes of another data set."""
        return Subset(dataset, self.chosen.tolist())

    def facts(self) -> Any:
        """The chosen episodes."""
        return self.chosen.tolist()


def combined(*parts: Any) -> str:
    """One fingerprint of several facts (fingerprints, numbers, names; anything JSON holds)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
