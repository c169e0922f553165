"""Short jobs of one call on every core, and the tensors that they fill."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from jepa_actions.errors import ShapeError


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Helpers:
    """Threads that wait for jobs, started when first asked for."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.pool: ThreadPoolExecutor | None = None

    def get(self) -> ThreadPoolExecutor:
        with self.lock:
            if self.pool is None:
                self.pool = ThreadPoolExecutor(max(cores() - 1, 1), thread_name_prefix="jepa-actions-data")
            return self.pool


_helpers = _Helpers()


def _after_fork() -> None:
    global _helpers
    _helpers = _Helpers()  # a child has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def side_by_side(jobs: Iterable[Callable[[], None]], threads: int | None = None) -> None:
    """Run all jobs in at most `threads` threads (default: one per core), the caller's among them. Jobs may come from
    several callers at a time; they must not call this themselves. An exception of a job is raised here, after the jobs
    that had begun have ended; those that had not are left out."""
    queue = deque(jobs)

    def work() -> None:
        while True:
            try:
                job = queue.popleft()
            except IndexError:
                return
            job()

    helpers = min(threads or cores(), len(queue)) - 1
    others = [_helpers.get().submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        queue.clear()
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()


def new_clips(clips: tuple[int, ...], size: tuple[int, int]) -> UInt8[Tensor, "b t 3 h w"]:
    """An empty tensor for `clips` = (b, t) clips of frames of `size`, channels last in memory as a decoder writes
    them."""
    return torch.empty((*clips, *size, 3), dtype=torch.uint8).movedim(-1, -3)


def as_pictures(clips: UInt8[Tensor, "b t 3 h w"], shape: Sequence[int]) -> UInt8[np.ndarray, "n h w3"]:
    """The memory of a tensor of `new_clips`, a row per line of a frame. Raises ShapeError for another shape or
    layout."""
    pictures = clips.movedim(-3, -1)
    if tuple(clips.shape) != tuple(shape) or clips.dtype != torch.uint8 or not pictures.is_contiguous():
        layout = "channels last" if pictures.is_contiguous() else "channels not last in memory"
        raise ShapeError(
            f"out is {clips.dtype} {tuple(clips.shape)} ({layout}), expected torch.uint8 {tuple(shape)} (channels last)"
        )
    b, t, height, width, _ = pictures.shape
    return pictures.view(b * t, height, 3 * width).numpy()
