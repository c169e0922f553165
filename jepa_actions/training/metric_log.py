"""What training reports: one JSON line per `train.log_every` steps, and what the progress bar shows."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor


class MetricLog:
    """Means of the logged values since the last line of `metrics.jsonl`."""

    def __init__(
        self, path: Path, accelerator: Accelerator, on_log: Callable[[int, dict[str, float]], None] | None
    ) -> None:
        self.path, self.accelerator, self.on_log = path, accelerator, on_log
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.since = time.perf_counter()

    def add(self, values: dict[str, Tensor]) -> None:
        for key, value in values.items():
            value = value.detach().to(torch.float64)
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def flush(self, step: int, lr: float, batch_size: int) -> dict[str, str]:
        """Write one line; returns what the progress bar shows."""
        row = {key: float(total) / self.counts[key] for key, total in self.sums.items()}
        steps, now = self.counts["loss"], time.perf_counter()
        row |= {"lr": lr, "clips_per_second": steps * batch_size / (now - self.since)}
        self.sums, self.counts, self.since = {}, {}, now
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **row}) + "\n")
            self.accelerator.log(row, step=step)
            if self.on_log is not None:
                self.on_log(step, row)
        shown = ["loss", *(key for key in row if key.endswith("/total")), "z/rank"]
        return {key.removesuffix("/total"): f"{row[key]:.3g}" for key in shown if key in row}
