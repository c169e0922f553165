"""Short jobs of one call on every core."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from queue import SimpleQueue
from threading import Lock, Thread


@cache
def cores() -> int:
    """Cores that this process may use, as they were when first asked for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Helpers:
    """Threads that wait for work, one fewer than there are cores, started when first asked for.

    A queue and a count do what an executor does in a fifth of the time, which matters to reads of half a millisecond.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.count = 0

    def start(self) -> None:
        if self.count == cores() - 1:
            return
        with self.lock:
            while self.count < cores() - 1:
                Thread(target=self._serve, name="jepa-actions-data", daemon=True).start()
                self.count += 1

    def _serve(self) -> None:
        while True:
            self.work.get()()


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
    count = len(queue)
    failed: list[BaseException] = []
    done: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        while True:
            try:
                job = queue.popleft()
            except IndexError:
                return
            try:
                if not failed:
                    job()
            except BaseException as error:
                failed.append(error)
            done.put(None)

    helpers = min(threads or cores(), cores(), count) - 1
    if helpers > 0:
        _helpers.start()
        for _ in range(helpers):
            _helpers.work.put(work)
    work()
    for _ in range(count):
        done.get()
    if failed:
        del failed[1:]
        raise failed.pop()
