"""Pairs of frames that show one scene, whichever of a batch's clips they are in."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from jepa_actions.errors import DataError
from jepa_actions.nn import Share
from jepa_actions.objectives.global_batch import GlobalBatch


class Pairs(NamedTuple):
    """Pairs of frames drawn for the global batch, and which of them lie in one part of it; all on the host."""

    first: Int[Tensor, "k"]  # rows of the global batch's `B * t` frames
    second: Int[Tensor, "k"]

    def mine(self, share: Share, frames: int) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"], Int[Tensor, "m"]]:
        """Of the pairs in one part of `frames` rows: first and second as rows of the part, and which pairs they are."""
        low, high = share.bounds(frames)
        chosen = ((self.first >= low) & (self.first < high)).nonzero()[:, 0]
        return self.first[chosen] - low, self.second[chosen] - low, chosen


def scene_pairs(whole: GlobalBatch, pairs: int, generator: torch.Generator, share: Share | None = None) -> Pairs:
    """Pairs of frames of one scene, drawn with replacement from the global batch.

    The first is any frame of the batch, the second any frame of its scene; padding is left out.

    Raises:
        DataError: for a batch whose clips do not say which scene they show (`data.scene_clips`), or one whose parts
            share a scene.
    """
    scene, parts = scene_of(whole), 1 if share is None else share.of
    rows = whole.real_on_host.flatten().nonzero()[:, 0]
    label = scene.cpu()[:, None].expand(-1, whole.steps).flatten()[rows]
    order = label.argsort(stable=True)
    rows, label = rows[order], label[order]
    _, count = torch.unique_consecutive(label, return_counts=True)
    begin = count.cumsum(0) - count
    group = torch.repeat_interleave(torch.arange(len(count)), count)
    size = len(scene) * whole.steps // parts
    if parts > 1 and bool((rows[begin] // size != rows[begin + count - 1] // size).any()):
        raise DataError(
            f"clips of one scene lie in several of the {parts} parts of a batch, expected whole scenes in each: "
            "train.batch_size / data.scene_clips a multiple of the number of parts"
        )
    first = torch.randint(len(rows), (pairs,), generator=generator)
    unit = torch.rand(pairs, generator=generator, dtype=torch.float64)
    second = begin[group[first]] + (unit * count[group[first]]).long()
    return Pairs(rows[first], rows[second])


def scene_of(whole: GlobalBatch) -> Int[Tensor, "B"]:
    """The scene of every clip. Raises DataError where the batch does not say."""
    if whole.scene is None:
        raise DataError("this objective needs clips of one scene side by side in a batch: expected data.scene_clips")
    return whole.scene
