"""Watching a run: what each step reports, where its time goes, how much of the device it uses, and trouble by name."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from accelerate import Accelerator
from torch import Tensor

from jepa_actions.training.config import TrainConfig
from jepa_actions.training.flops import Precision, StepFlops, matrix_product_rate
from jepa_actions.training.health import ADVICE, Health, Trouble
from jepa_actions.training.metric_log import Means, append_row, events_until, read_rows
from jepa_actions.training.module import NonFiniteLossError
from jepa_actions.training.progress import Progress
from jepa_actions.training.step_clock import StepClock

T = TypeVar("T")
REFERENCE = ("loss", "z/rank", "z/std_mean", "z/clips", "target/rank", "target/std_mean", "target/clips")
RATE_SIZE = {"float32": 512, "bf16": 256}  # of the product that a CPU is timed with, see `matrix_product_rate`
RATE_SECONDS = 0.2


class Watch:
    """Everything that a run reports, from its first step to its last.

    A context: entered when training begins, left when it ends, however it ends. All processes have one; the first one
    writes and prints.

    Args:
        run: the run's folder.
        config: the recipe.
        accelerator: device, processes and trackers.
        start, end: the first step, and the one after the last.
        on_log: called with the step and each row.
        quiet: print nothing.
        clock: one that somebody else reads, too.
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        accelerator: Accelerator,
        *,
        start: int,
        end: int,
        on_log: Callable[[int, dict[str, float]], None] | None = None,
        quiet: bool = False,
        clock: StepClock | None = None,
    ) -> None:
        self._run, self._config, self._accelerator, self._on_log = run, config, accelerator, on_log
        self._main, self._step = accelerator.is_main_process, start
        self.clock = clock or StepClock(accelerator.device)
        self.means, self.flops = (
            Means(),
            StepFlops(always_measured=config.train.log_every == 1, compiled=config.train.compile),
        )
        self._progress = Progress(config.name, start, end, silent=quiet or not self._main)
        self._health, self._start, self._last_terms = Health(), start, frozenset[str]()
        self._rate: float | None = None
        if self._main:
            precision: Precision = "bf16" if config.train.mixed_precision == "bf16" else "float32"
            size = None if accelerator.device.type == "cuda" else RATE_SIZE[precision]
            self._rate = matrix_product_rate(accelerator.device, precision, size, seconds=RATE_SECONDS)
            self._remember(start)

    def __enter__(self) -> Self:
        self.clock.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main and isinstance(error, NonFiniteLossError):
            self._name(Trouble(self._step, "divergence", str(error), ADVICE["divergence"]))
        self._progress.close()

    def measures(self, step: int) -> bool:
        """Whether a step takes the meters though it is not logged: the very first, with which others are compared."""
        return step == 0

    def batches(self, found: Iterable[T]) -> Iterator[T]:
        """The same batches, with the time that each was waited for."""
        return self.clock.waiting(found)

    def counting(self, measured: bool) -> AbstractContextManager[None]:
        """Around what a step computes; `measured` says whether it takes the collapse meters."""
        return self.flops.counting(measured) if self._main else nullcontext()

    def add(self, values: dict[str, Tensor], *, logged: bool) -> None:
        """What one step measured."""
        if self._step == 0 and self._main:
            first = {key: float(value) for key, value in values.items() if key in REFERENCE or key.endswith("/total")}
            self._health.begin(first)
            append_row(self._run / "events.jsonl", {"step": 1, "event": "start", **first})
        if not logged:  # the first step's meters are its own, not a part of a row's
            values = {key: value for key, value in values.items() if not key.startswith(("z/", "target/"))}
        self.means.add(values)
        self.flops.step_done(frozenset(key for key in values if key.endswith("/total")))
        self._step += 1
        self._progress.stepped()

    def log(self, lr: float) -> None:
        """Write a row of everything since the last one, and name what has begun to go wrong."""
        steps, row, seconds = self.means.steps(), self.means.take(), self.clock.take()
        if not self._main or not steps:
            return
        wall = sum(value for part, value in seconds.items() if part != "starved")
        row |= {
            "lr": lr,
            "clips_per_second": steps * self._config.train.batch_size / wall,
            "step_seconds": wall / steps,
            "data_seconds": seconds.get("data", 0.0) / steps,
            "starved": seconds["starved"] / wall,
        }
        if self.flops.flops is not None and self._rate is not None:
            row["mfu"] = self.flops.flops / (wall / steps) / self._rate
        append_row(self._run / "metrics.jsonl", {"step": self._step, **row})
        self._accelerator.log(row, step=self._step)
        self._progress.show(row)
        for trouble in self._health.look(self._step, row):
            self._name(trouble)
        if self._on_log is not None:
            self._on_log(self._step, row)

    def say(self, text: str) -> None:
        """Print a line, on the first process."""
        self._progress.say(text)

    def _name(self, trouble: Trouble) -> None:
        append_row(self._run / "events.jsonl", trouble.row())
        self._progress.say(f"warning: {trouble}")

    def _remember(self, start: int) -> None:
        """Take up the rows and events of a run that is resumed."""
        for event in events_until(self._run / "events.jsonl", start):
            if event["event"] == "start":
                self._health.begin({key: value for key, value in event.items() if isinstance(value, float)})
        for row in read_rows(self._run / "metrics.jsonl") if start else []:
            if row["step"] <= start:
                self._health.look(row["step"], row)
        self._health.new_process()
