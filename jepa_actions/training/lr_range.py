"""The learning-rate range test: a rate that rises step by step until the loss explodes (arXiv 1506.01186, section 3.3).

The rate rises by the same factor at every step, from far too low to far too high. Where the loss falls fastest, the
rate does most; where it begins to rise, the rate is too much.
"""

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jepa_actions.errors import ConfigError
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.loop import train
from jepa_actions.training.module import NonFiniteLossError
from jepa_actions.training.threads import is_main_process

EXPLODED = 1.0  # above the lowest loss, in units of what it has fallen by (or of its size, where that is more)
SMOOTHING = 0.9  # share of the mean so far that stays at each step
LOSS_SHARE = 0.9  # of the fall to the lowest loss that must be seen before a rate is suggested


@dataclass(frozen=True)
class LrRange:
    """From which rate to which, in how many steps."""

    low: float = 1e-6
    high: float = 1.0
    steps: int = 100

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.high or self.steps < 10:
            raise ConfigError(
                f"lr_range: found from {self.low:g} to {self.high:g} in {self.steps} steps, expected 0 < from < to and "
                "at least 10 steps"
            )

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return float(self.low * (self.high / self.low) ** (step / (self.steps - 1)))


class _Exploded(Exception):
    """The loss has exploded: more steps would tell nothing."""


def lr_range(config: TrainConfig, options: LrRange | None = None, *, quiet: bool = False) -> dict[str, Any]:
    """Run the test and suggest a learning rate.

    The recipe is trained from its start, in a folder that is taken away again: no checkpoint, no model, and an older
    run of this name stays as it is.

    Args:
        config: the recipe; its own rate and schedule are not used.
        options: the range.
        quiet: no progress line.

    Returns:
        `rates`, `losses` and `smoothed` per step; `suggested` (None where the loss never fell), `fastest`, `lowest` and
        `exploded`, all rates; `how`, in words.

    Raises: as `train`.
    """
    options = options or LrRange()
    run = Path(config.out) / config.name
    optim = replace(
        config.train, log_every=1, checkpoint_every=0, steps=max(config.train.steps, options.steps + 1)
    )  # one step more than is done: the run never ends, so no model is saved
    trial = replace(config, out=str(run), name=".lr_range", tracker=None, evaluate=(), train=optim)
    losses: list[float] = []

    def look(step: int, row: dict[str, float]) -> None:
        losses.append(row["loss"])
        if exploded(smooth(losses)):
            raise _Exploded

    try:
        train(trial, restart=True, stop_after=options.steps, on_log=look, quiet=quiet, rate=options.rate)
    except (_Exploded, NonFiniteLossError):
        pass  # that is where the range ends
    finally:
        if is_main_process():
            shutil.rmtree(run / ".lr_range", ignore_errors=True)
    return suggest([options.rate(step) for step in range(len(losses))], losses)


def suggest(rates: list[float], losses: list[float]) -> dict[str, Any]:
    """The rate where the smoothed loss falls fastest, per factor of rate, on its way to its lowest value."""
    smoothed = smooth(losses)
    low = min(range(len(smoothed)), key=smoothed.__getitem__) if smoothed else 0
    found: dict[str, Any] = {"suggested": None, "fastest": None, "lowest": rates[low] if rates else None}
    blown = exploded(smoothed)
    found |= {"exploded": rates[-1] if blown else None, "rates": rates, "losses": losses, "smoothed": smoothed}
    if low < 3:
        found["how"] = "the loss never fell below its start: the range begins too high, or the recipe does not learn"
        return found
    slopes = [
        (smoothed[i + 1] - smoothed[i - 1]) / math.log(rates[i + 1] / rates[i - 1]) for i in range(1, low)
    ]  # up to the lowest: what falls after a rise says nothing
    steepest = 1 + min(range(len(slopes)), key=slopes.__getitem__)
    found["fastest"] = rates[steepest]
    found["suggested"] = min(rates[steepest], rates[low] / 3)
    reached = f"it exploded at {rates[-1]:.2g}" if blown else f"it did not explode up to {rates[-1]:.2g}"
    found["how"] = (
        f"the smoothed loss fell fastest at {rates[steepest]:.2g} and was lowest at {rates[low]:.2g}; {reached}; "
        "suggested is the first, or a third of the second where that is less"
    )
    return found


def smooth(losses: list[float]) -> list[float]:
    """Exponential means, without the pull of a first value (as Adam corrects its moments)."""
    found, mean = [], 0.0
    for i, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss
        found.append(mean / (1.0 - SMOOTHING**i))
    return found


def exploded(smoothed: list[float]) -> bool:
    """Whether the loss has risen above its lowest by more than it ever fell, and by more than its size."""
    if len(smoothed) < 10:
        return False
    lowest = min(smoothed)
    return smoothed[-1] > lowest + EXPLODED * max(smoothed[0] - lowest, abs(smoothed[0]))


def write_lr_range(report: dict[str, Any], run: Path) -> tuple[Path, Path]:
    """Write `lr_range.json` and `lr_range.png` into a run's folder."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run.mkdir(parents=True, exist_ok=True)
    table, picture = run / "lr_range.json", run / "lr_range.png"
    table.write_text(json.dumps(report, indent=2) + "\n")
    figure = Figure(figsize=(6.5, 3.6), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(report["rates"], report["losses"], color="#cfd6e1", linewidth=1, label="loss")
    axes.plot(report["rates"], report["smoothed"], color="#2364aa", linewidth=2, label="smoothed")
    for name, colour in (("suggested", "#d1603d"), ("lowest", "#8d99ae")):
        if report[name] is not None:
            axes.axvline(report[name], color=colour, linestyle="--", linewidth=1.2, label=f"{name} {report[name]:.2g}")
    axes.set_xscale("log")
    # A loss that explodes would leave nothing to see of how it fell.
    low, top = min(report["smoothed"], default=0.0), max(report["smoothed"][:10], default=1.0)
    axes.set_ylim(low - 0.1 * (top - low), top + 0.6 * (top - low) + 1e-9)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(picture, format="png")
    return table, picture
