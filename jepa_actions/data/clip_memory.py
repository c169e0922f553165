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
    memory = _memory((*clips, *size, 3))
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
        self.returned: deque[UInt8[np.ndarray, "n"]] = deque(maxlen=IDLE_BLOCKS)  # by finalizers, without the lock

    def take(self, size: int) -> UInt8[np.ndarray, "n"]:
        with self.lock:
            while self.returned:
                self.blocks.append(self.returned.popleft())
            fitting = [i for i, block in enumerate(self.blocks) if len(block) == size]
            found = self.blocks.pop(fitting[-1]) if fitting else None
            while len(self.blocks) > IDLE_BLOCKS or sum(map(len, self.blocks)) > IDLE_BYTES:
                self.blocks.pop(0)
        return np.empty(size, dtype=np.uint8) if found is None else found


_idle = _Idle()


def _after_fork() -> None:
    global _idle
    _idle = _Idle()  # a lock may be held by a thread that the child lacks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _give_back(block: UInt8[np.ndarray, "n"]) -> None:
    _idle.returned.append(block)


def _memory(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """An array of used memory, which is used again when nothing holds this array, or a tensor made of it."""
    block = _idle.take(math.prod(shape))
    array = block.reshape(shape)
    weakref.finalize(array, _give_back, block).atexit = False
    return array
