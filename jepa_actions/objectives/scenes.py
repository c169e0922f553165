"""Pairs of frames that show one scene, whichever of a batch's clips they are in."""

import torch
from jaxtyping import Int
from torch import Tensor

from jepa_actions.data import Batch
from jepa_actions.errors import DataError


def scene_pairs(batch: Batch, pairs: int, generator: torch.Generator) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
    """Pairs of frames of one scene, drawn with replacement, as rows of the batch's `b * t` frames, on the host.

    The first is any frame of the batch, the second any frame of its scene; padding is left out.

    Raises:
        DataError: for a batch whose clips do not say which scene they show (`data.scene_clips`).
    """
    scene = scene_of(batch)
    frames = torch.ones(batch.frame.shape, dtype=torch.bool) if batch.frame_mask is None else batch.frame_mask.cpu()
    rows = frames.flatten().nonzero()[:, 0]
    label = scene.cpu()[:, None].expand(-1, batch.steps).flatten()[rows]
    order = label.argsort(stable=True)
    rows, label = rows[order], label[order]
    _, count = torch.unique_consecutive(label, return_counts=True)
    begin = count.cumsum(0) - count
    group = torch.repeat_interleave(torch.arange(len(count)), count)
    first = torch.randint(len(rows), (pairs,), generator=generator)
    unit = torch.rand(pairs, generator=generator, dtype=torch.float64)
    second = begin[group[first]] + (unit * count[group[first]]).long()
    return rows[first], rows[second]


def scene_of(batch: Batch) -> Int[Tensor, "b"]:
    """The scene of every clip. Raises DataError where the batch does not say."""
    if batch.scene is None:
        raise DataError("this objective needs clips of one scene side by side in a batch: expected data.scene_clips")
    return batch.scene
