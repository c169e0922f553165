"""Several data sets as one: recordings of one robot in several folders, and video that has no actions of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.types import Episode, VideoDataset, check_clips
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError

RATES_AGREE = 0.01  # relative difference of two frame rates that are one


class Concat(Viewable):
    """The episodes of `labelled`, then those of `video`, whose own labels are left alone.

    Data sets in `labelled` must have the same action names and the same proprio names (or none at all), in the same
    order; all data sets the same cameras, or one camera each (then it takes the name of the first), the same picture
    size and the same frame rate.

    Raises:
        DataError: naming both data sets and what differs.
    """

    def __init__(self, labelled: Sequence[VideoDataset], video: Sequence[VideoDataset] = ()) -> None:
        self.parts = (*labelled, *(part.without_labels() for part in video))
        if not labelled:
            raise DataError("concat: no data set given, expected at least one")
        self._check(len(labelled))
        first = self.parts[0]
        self.name = "+".join(dict.fromkeys(part.name for part in self.parts))
        self.cameras, self.fps = first.cameras, first.fps
        self.action_names = next((part.action_names for part in labelled if part.action_names), None)
        self.proprio_names = next((part.proprio_names for part in labelled if part.proprio_names), None)
        sizes = np.array([len(part) for part in self.parts])
        self._first = np.cumsum(sizes) - sizes
        self._lengths = np.concatenate([part.lengths() for part in self.parts])

    def _check(self, labelled: int) -> None:
        first = self.parts[0]
        for part in self.parts[1:]:
            both = f"{first.name} and {part.name}"
            if part.cameras != first.cameras and (len(part.cameras), len(first.cameras)) != (1, 1):
                raise DataError(
                    f"{both}: cameras {', '.join(first.cameras)} and {', '.join(part.cameras)}, expected the same, or "
                    "one each"
                )
            for ours, theirs in zip(first.cameras, part.cameras, strict=True):
                if first.image_size(ours) != part.image_size(theirs):
                    raise DataError(
                        f"{both}: frames of {first.image_size(ours)} and {part.image_size(theirs)}, expected one size; "
                        "set image_size"
                    )
            if abs(part.fps - first.fps) > RATES_AGREE * first.fps:
                raise DataError(
                    f"{both}: {first.fps:g} and {part.fps:g} frames per second, expected one rate; resample to one "
                    "(data.fps)"
                )
        for kind in ("action_names", "proprio_names"):
            found = [(part, getattr(part, kind)) for part in self.parts[:labelled] if getattr(part, kind) is not None]
            for part, names in found[1:]:
                if names != found[0][1]:
                    what = kind.removesuffix("_names")
                    raise DataError(
                        f"{found[0][0].name} and {part.name}: {what} layouts ({', '.join(found[0][1])}) and "
                        f"({', '.join(names)}), expected one; give one of them as video alone (data.video)"
                    )

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames."""
        return self.parts[0].image_size(camera)

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def part_of(self, i: int) -> tuple[int, int]:
        """Which data set episode `i` is of, and its number there."""
        part = int(np.searchsorted(self._first, i, side="right")) - 1
        return part, i - int(self._first[part])

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        part, number = self.part_of(i)
        return self.parts[part].episode(number)

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera."""
        check_clips(self._lengths, episodes, frames, self.name)
        owner = np.searchsorted(self._first, episodes, side="right") - 1
        out = {
            camera: torch.empty((*frames.shape, 3, *self.image_size(camera)), dtype=torch.uint8)
            for camera in self.cameras
        }
        for number in np.unique(owner):
            rows, part = np.flatnonzero(owner == number), self.parts[number]
            clips = part.read_clips(episodes[rows] - self._first[number], frames[rows])
            for ours, theirs in zip(self.cameras, part.cameras, strict=True):
                out[ours][torch.from_numpy(rows)] = clips[theirs]
        return out

    def without_labels(self) -> VideoDataset:
        """The video of all."""
        return Concat([part.without_labels() for part in self.parts])

    def fingerprint(self) -> str:
        """Of all, in order."""
        return combined(type(self).__name__, [part.fingerprint() for part in self.parts])
