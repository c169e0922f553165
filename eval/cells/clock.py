"""A time budget as a number of training steps.

The clock is processor seconds of the training thread with one torch thread: waiting for a busy machine is not counted,
and rendering (another thread) and evaluation are apart. It is read once per cell and kind of machine, before its first
run, and the steps that fit the budget are then the same for every seed, so that a row can be repeated bit for bit.
Where cores share their arithmetic, a neighbour's work still makes a processor second worth less: read the clocks of all
cells one after another on an idle machine (`--clock`), where a processor second is a second.
"""

import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

from cells.rows import Rows

from jepa_actions.evaluation import hardware
from jepa_actions.training import TrainConfig, train

CHUNK, CHUNKS = 25, 3  # steps; the first chunk warms up


class Clock:
    """How long a step of each cell takes, kept in a file."""

    def __init__(self, rows: Rows, threads: int, chunk: int = CHUNK) -> None:
        self.rows, self.threads, self.chunk = rows, threads, chunk

    def steps(self, name: str, config: TrainConfig, seconds: float) -> tuple[int, float]:
        """Steps of this recipe that take so long, at least 1, and the seconds of one; measured where not yet known."""
        per_step = self._per_step(name, config)
        return max(1, round(seconds / per_step)), per_step

    def _per_step(self, name: str, config: TrainConfig) -> float:
        machine = hardware()
        key: dict[str, Any] = {"cell": name, "threads": self.threads, "cpu": machine["cpu"], "torch": machine["torch"]}
        known = self.rows.read(**key)
        if known:
            return float(known[0]["seconds_per_step"])
        chunks = self._chunks(config)
        per_step = min(chunks) / self.chunk  # what disturbs only ever adds
        self.rows.append({**key, "seconds_per_step": per_step, "chunks": chunks, "steps_per_chunk": self.chunk})
        return per_step

    def _chunks(self, config: TrainConfig) -> list[float]:
        """Processor seconds of this thread for each chunk of steps after the first."""
        marks: list[float] = []
        optim = replace(config.train, log_every=self.chunk, checkpoint_every=0)
        with tempfile.TemporaryDirectory() as folder:
            probe = replace(config, out=folder, name="clock", evaluate=(), train=optim)
            stop = CHUNKS * self.chunk
            train(probe, stop_after=stop, on_log=lambda step, row: marks.append(time.thread_time()), quiet=True)
        return [after - before for before, after in pairwise(marks)]
