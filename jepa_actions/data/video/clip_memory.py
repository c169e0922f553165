"""Tensors that clips are read to: channels last in memory, and on memory that was used before."""

from __future__ import annotations

import math
import os
import weakref
from collections import deque
from threading import Lock

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from jepa_actions.errors import ShapeError

IDLE_BYTES = 512 << 20  # kept for the next clips, at most
IDLE_BLOCKS = 64

Pictures = UInt8[np.ndarray, "n h w3"]  # a row per line of a frame


def new_clips(clips: tuple[int, ...], size: tuple[int, int]) -> UInt8[Tensor, "b t 3 h w"]:
    """An empty tensor for `clips` = (b, t) clips of frames of `size`, channels last in memory as a decoder writes
    them."""
    return new_pictures(clips, size)[0]


def new_pictures(clips: tuple[int, ...], size: tuple[int, int]) -> tuple[UInt8[Tensor, "b t 3 h w"], Pictures]:
    """`new_clips`, and its memory."""
    memory = _idle.lend((*clips, *size, 3))
    pictures = memory.reshape(clips[0] * clips[1], size[0], 3 * size[1])
    return torch.from_numpy(memory).permute(0, 1, 4, 2, 3), pictures


def pictures_of(clips: UInt8[Tensor, "b t 3 h w"], shape: tuple[int, ...], size: tuple[int, int]) -> Pictures:
    """The memory of a tensor that `new_clips(shape, size)` made. Raises ShapeError for another shape or layout."""
    expected = (*shape, 3, *size)
    fits = tuple(clips.shape) == expected and clips.dtype == torch.uint8
    pictures = clips.permute(0, 1, 3, 4, 2) if fits else clips
    if not fits or not pictures.is_contiguous():
        layout = "" if not fits else ", channels not last in memory"
        raise ShapeError(
            f"out is {clips.dtype} {tuple(clips.shape)}{layout}, expected torch.uint8 {expected}, channels last"
        )
    return pictures.numpy().reshape(shape[0] * shape[1], size[0], 3 * size[1])


class _Idle:
    """Blocks of memory that no tensor uses. Fresh memory costs more than the copy into it: the kernel clears every
    page."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.blocks: list[UInt8[np.ndarray, "n"]] = []
        self.leases: dict[int, _Lease] = {}
        self.returned: deque[UInt8[np.ndarray, "n"]] = deque(maxlen=IDLE_BLOCKS)  # whenever, so without the lock

    def take(self, size: int) -> UInt8[np.ndarray, "n"]:
        """A block that was used before, or a new one."""
        with self.lock:
            if self.returned:
                while self.returned:
                    self.blocks.append(self.returned.popleft())
                while len(self.blocks) > IDLE_BLOCKS or sum(map(len, self.blocks)) > IDLE_BYTES:
                    self.blocks.pop(0)
            for i in range(len(self.blocks) - 1, -1, -1):
                if len(self.blocks[i]) == size:
                    return self.blocks.pop(i)
        return np.empty(size, dtype=np.uint8)

    def lend(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
        """An array on a block that comes back when nothing holds this array, or a tensor made of it."""
        block = self.take(math.prod(shape))
        array = block.reshape(shape)
        lease = _Lease(array, self._give_back)
        lease.block = block
        self.leases[id(lease)] = lease
        return array

    def _give_back(self, lease: _Lease) -> None:
        del self.leases[id(lease)]
        self.returned.append(lease.block)


class _Lease(weakref.ref[np.ndarray]):
    """Tells when an array is gone, and what it lay on. (`weakref.finalize` does the same in four times the time.)"""

    __slots__ = ("block",)
    block: UInt8[np.ndarray, "n"]


_idle = _Idle()


def _after_fork() -> None:
    global _idle
    _idle = _Idle()  # a lock may be held by a thread that the child lacks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
