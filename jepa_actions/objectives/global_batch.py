"""What every process knows of all clips of the global batch: labels and masks, but no frame.

Every draw is made for the global batch and every mean divides by its counts, so these are asked before a loss is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor

from jepa_actions.data import Batch
from jepa_actions.nn import gather_rows, process_of


@dataclass(frozen=True)
class GlobalBatch:
    """Labels of all clips in the order of the global batch; `None` where a batch has none, as in `Batch`."""

    real: Bool[Tensor, "B t"]  # false where a frame is padding
    action_mask: Bool[Tensor, "B t-1"] | None = None
    proprio_mask: Bool[Tensor, "B t"] | None = None
    actions: Float[Tensor, "B t-1 a"] | None = None
    scene: Int64[Tensor, "B"] | None = None

    @cached_property
    def real_on_host(self) -> Bool[Tensor, "B t"]:
        """Where draws are made."""
        return self.real.cpu()

    @cached_property
    def whole_clips(self) -> Bool[Tensor, "B"]:
        """The clips without padding, on the host."""
        return self.real_on_host.all(1)

    @property
    def clips(self) -> int:
        return len(self.real)

    @property
    def steps(self) -> int:
        """T, the number of frames of a clip."""
        return int(self.real.shape[1])


def global_batch(batch: Batch) -> GlobalBatch:
    """Gather the labels of every process's part of a batch, in one message."""
    real = torch.ones_like(batch.frame, dtype=torch.bool) if batch.frame_mask is None else batch.frame_mask
    known = {
        "real": real,
        "action_mask": batch.action_mask,
        "proprio_mask": batch.proprio_mask,
        "actions": batch.actions,
        "scene": batch.scene,
    }
    there = {name: tensor for name, tensor in known.items() if tensor is not None}
    if process_of()[1] == 1:
        return GlobalBatch(**there)
    flat = [as_bytes(tensor) for tensor in there.values() if tensor.numel()]
    sizes = [tensor[0].numel() * tensor.element_size() for tensor in there.values()]
    rows = gather_rows(torch.cat(flat, dim=1))
    parts = zip(there.items(), rows.split(sizes, dim=1), strict=True)
    return GlobalBatch(  # a copy begins where any type may
        **{
            name: part.clone(memory_format=torch.contiguous_format)
            .view(tensor.dtype)
            .view(len(rows), *tensor.shape[1:])
            for (name, tensor), part in parts
        }
    )


def as_bytes(rows: Shaped[Tensor, "b *rest"]) -> UInt8[Tensor, "b k"]:
    """Every row as it lies in memory."""
    return rows.reshape(len(rows), -1).contiguous().view(torch.uint8)


def clip_places(whole: GlobalBatch, parts: int, cameras: int) -> tuple[Int64[Tensor, "v"], Int64[Tensor, "v"]]:
    """Where each clip without padding is found: the part that has it, and its number among `Views.clips` of that part.

    In the order of one process's `Views.clips`: cameras folded in, one after the other; on the host.
    """
    wanted = whole.whole_clips
    per_part = wanted.view(parts, -1)
    owner = torch.arange(parts)[:, None].expand_as(per_part).flatten()[wanted]
    number = (per_part.cumsum(1) - 1).flatten()[wanted]
    size = per_part.sum(1)[owner]
    return owner.repeat(cameras), torch.cat([number + camera * size for camera in range(cameras)])
