"""Where a training step goes, part by part, on this machine and with this recipe."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from jepa_actions.errors import ConfigError
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.loop import make_accelerator, train
from jepa_actions.training.memory import MemoryReport
from jepa_actions.training.step_clock import PARTS, RARE, StepClock
from jepa_actions.training.threads import is_main_process

WARM_UP = 5  # steps that are not counted: caches, compilation, the counting of FLOPs
ROWS = 4  # at least so many logged rows, and a checkpoint, are timed
NAMES = {
    "data": "waiting for data",
    "move": "moving to the device",
    "forward": "forward",
    "backward": "backward",
    "clip": "clipping",
    "optimiser": "optimiser",
    "ema": "EMA",
    "log": "sums for the log",
    "other": "everything else",
    "meters": "collapse meters",
    "row": "writing a row",
    "checkpoint": "checkpoint",
}
COMPUTE = ("data", "forward", "backward", "optimiser")  # the rest is the loop's


def profile(
    config: TrainConfig, steps: int = 30, *, quiet: bool = False, now: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Train some steps with a clock that waits for the device after each part, and say where the time went.

    Rows and checkpoints are rare: some are timed, and their time is shared among the steps from one to the next. With
    several processes the gradients' exchange happens during the backward pass and is part of it. The run is done in a
    folder that is taken away again.

    Args:
        config: the recipe.
        steps: counted ones, after some to warm up.
        quiet: no progress line.
        now: the clock, see `StepClock`.

    Returns:
        `milliseconds` by part, of one step, and `share` of each; `step_ms`; `loop_overhead`, the share of all but
        waiting for data, forward, backward and optimiser; `once_ms`, of one of each rare part, and `every`, in how many
        steps it comes; `steps`; `memory`, bytes by what they are for (`MemoryReport`), on the first process.

    Raises: ConfigError for fewer steps than are needed; as `train`.
    """
    if steps < ROWS:
        raise ConfigError(f"--profile: found {steps} steps, expected at least {ROWS}")
    run, optim = Path(config.out) / config.name, config.train
    done = WARM_UP + steps
    trained = replace(
        optim, log_every=steps // ROWS, checkpoint_every=done, steps=max(optim.steps, done + 1)
    )  # one step more than is done: the run never ends, so no model is saved
    trial = replace(config, out=str(run), name=".profile", tracker=None, evaluate=(), train=trained)
    clock = ProfileClock(make_accelerator(trial).device, now)
    try:
        train(trial, restart=True, stop_after=done, quiet=quiet, clock=clock)
    finally:
        if is_main_process():
            shutil.rmtree(run / ".profile", ignore_errors=True)
    return clock.report(optim.log_every, optim.checkpoint_every)


class ProfileClock(StepClock):
    """A clock that keeps all laps after the first steps."""

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(device, exact=True, now=now)
        self._begun, self._sums, self._counts = 0, dict[str, float](), dict[str, int]()

    @property
    def wants_memory(self) -> bool:
        return True

    def lap(self, part: str) -> None:
        """Give the time since the last lap to `part`."""
        before = self._last
        super().lap(part)
        self._begun += part == "data"
        if self._begun > WARM_UP:
            self._sums[part] = self._sums.get(part, 0.0) + self._last - before
            self._counts[part] = self._counts.get(part, 0) + 1

    def report(self, log_every: int, checkpoint_every: int) -> dict[str, Any]:
        """Milliseconds of one step by part, where rows and checkpoints come as often as a recipe has them."""
        steps = self._begun - WARM_UP
        every = {"meters": log_every, "row": log_every, "checkpoint": checkpoint_every}
        once = {part: 1e3 * self._sums.get(part, 0.0) / self._counts.get(part, 1) for part in RARE}
        each = {part: 1e3 * self._sums.get(part, 0.0) / steps for part in PARTS}
        each |= {part: once[part] / every[part] if every[part] else 0.0 for part in RARE}
        whole = sum(each.values())
        return {
            "milliseconds": each,
            "share": {part: value / whole for part, value in each.items()},
            "step_ms": whole,
            "loop_overhead": 1.0 - sum(each[part] for part in COMPUTE) / whole,
            "once_ms": once,
            "every": every,
            "steps": steps,
            "memory": None if self.memory is None else asdict(self.memory) | {"total": self.memory.total},
        }


def profile_table(found: dict[str, Any]) -> str:
    """The report as text, the longest part first."""
    lines = [f"{'part of a step':22} {'ms':>9} {'share':>7}"]
    for part, value in sorted(found["milliseconds"].items(), key=lambda item: -item[1]):
        rare = part in RARE and found["every"][part]
        note = f"  {found['once_ms'][part]:.3g} ms, once in {found['every'][part]} steps" if rare else ""
        lines.append(f"{NAMES[part]:22} {value:9.3f} {found['share'][part]:7.2%}{note}")
    lines.append(f"{'a step':22} {found['step_ms']:9.3f}")
    lines.append(f"all but waiting for data, forward, backward and optimiser: {found['loop_overhead']:.2%}")
    if found["memory"] is not None:
        held = {key: value for key, value in found["memory"].items() if key != "total"}
        lines.append(MemoryReport(**held).line())
    return "\n".join(lines)


def write_profile(found: dict[str, Any], run: Path) -> Path:
    """Write `profile.json` into a run's folder."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / "profile.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    return path
