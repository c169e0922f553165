"""Where the time of a training step goes, part by part."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from jepa_actions.training.flops import synchronise
from jepa_actions.training.memory import MemoryReport

T = TypeVar("T")
PARTS = (
    "data",
    "move",
    "forward",
    "backward",
    "clip",
    "optimiser",
    "ema",
    "log",
    "other",
    "meters",
    "row",
    "checkpoint",
)
RARE = ("meters", "row", "checkpoint")  # of some steps alone


class StepClock:
    """Seconds from lap to lap, summed by part.

    A lap belongs to the part it is called with: `lap("forward")` says that what happened since the last lap was the
    forward pass. On a GPU work goes on after a call has returned: with `exact` each lap waits for it, which makes the
    parts true and the whole a little slower; without, the parts are what the processor was busy with.

    Args:
        device: the one that computes.
        exact: wait for the device at each lap.
        now: seconds, of which differences count; `time.process_time` does not count what other programs take.
    """

    def __init__(
        self, device: torch.device, *, exact: bool = False, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._device, self._exact, self._now = device, exact, now
        self.memory: MemoryReport | None = None  # of a step, where `wants_memory`
        self._seconds: dict[str, float] = {}
        self._last = now()
        self._idle = _DeviceIdle(device) if device.type == "cuda" and not exact else None

    @property
    def wants_memory(self) -> bool:
        """Whether what a step keeps in memory shall be found out at the end, which takes two more passes."""
        return False

    def restart(self) -> None:
        """Forget what was measured, and begin now."""
        self._seconds, self._last = {}, self._now()

    def lap(self, part: str) -> None:
        """Give the time since the last lap to `part`."""
        if self._exact:
            synchronise(self._device)
        now = self._now()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._last
        self._last = now

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each one comes is `data`, what came before it since the last lap `other`."""
        found = iter(batches)
        while True:
            self.lap("other")
            if self._idle is not None:
                self._idle.begin()
            try:
                batch = next(found)
            except StopIteration:
                return
            if self._idle is not None:
                self._idle.end()
            self.lap("data")
            yield batch

    def take(self) -> dict[str, float]:
        """Seconds by part since the last time they were taken.

        `starved` is the part of them in which the device had nothing to do because a batch had not come: on a CPU all
        of `data`; a GPU may still be busy with the step before.
        """
        seconds, self._seconds = self._seconds, {}
        seconds["starved"] = seconds.get("data", 0.0) if self._idle is None else self._idle.take()
        return seconds


class _DeviceIdle:
    """Seconds that a CUDA device waits between the end of one step's work and the coming of the next batch."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._pairs: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._before: torch.cuda.Event | None = None

    def begin(self) -> None:
        """The work of a step has been given to the device."""
        self._before = self._mark()

    def end(self) -> None:
        """A batch has come."""
        if self._before is not None:
            self._pairs.append((self._before, self._mark()))

    def take(self) -> float:
        """Seconds since the last time they were taken; waits for the last batch's coming, which has long been."""
        for _, after in self._pairs[-1:]:
            after.synchronize()
        seconds = sum(before.elapsed_time(after) for before, after in self._pairs) / 1e3
        self._pairs = []
        return float(seconds)

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event
