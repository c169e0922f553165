"""The learning-rate range test: a rate that rises step by step until the loss explodes (arXiv 1506.01186, section 3.3).

The rate rises by the same factor at every step, from far too low to far too high. Where the loss falls fastest, the
rate does most; where it begins to rise, the rate is too much.
"""

import json
import math
import shutil
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jepa_actions.errors import ConfigError
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.loop import train
from jepa_actions.training.module import NonFiniteLossError
from jepa_actions.training.threads import is_main_process

SMOOTHING = 0.9  # share of the mean so far that stays at each step
BEGIN = 10  # steps at rates far too low to learn: what the loss is before, and how noisy
CLEAR = 4.0  # standard errors of a smoothed loss by which it must have fallen: the lowest of many is low by chance


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
        if exploded(losses):
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
    blown = exploded(losses)
    found: dict[str, Any] = {"suggested": None, "fastest": None, "lowest": None}
    found |= {"exploded": rates[-1] if blown else None, "rates": rates, "losses": losses, "smoothed": smoothed}
    if len(losses) <= BEGIN + 2:
        return found | {"how": f"the loss exploded within {len(losses)} steps: begin at a lower rate"}
    before = statistics.mean(losses[:BEGIN])
    noise = statistics.stdev(losses[:BEGIN]) * math.sqrt((1.0 - SMOOTHING) / (1.0 + SMOOTHING))
    low = min(range(BEGIN, len(smoothed)), key=smoothed.__getitem__)
    if before - smoothed[low] < CLEAR * noise or low < BEGIN + 2:
        how = "the loss did not fall by more than its noise: try more steps, more clips in a batch, or another range"
        return found | {"how": how}
    slopes = [  # up to the lowest: what falls after a rise says nothing
        (smoothed[i + 1] - smoothed[i - 1]) / math.log(rates[i + 1] / rates[i - 1]) for i in range(BEGIN, low)
    ]
    steepest = BEGIN + min(range(len(slopes)), key=slopes.__getitem__)
    found |= {"lowest": rates[low], "fastest": rates[steepest], "suggested": min(rates[steepest], rates[low] / 3)}
    reached = f"exploded at {rates[-1]:.2g}" if blown else f"did not explode up to {rates[-1]:.2g}"
    found["how"] = (
        f"the smoothed loss fell fastest at {rates[steepest]:.2g}, was lowest at {rates[low]:.2g} and {reached}; "
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


def exploded(losses: list[float]) -> bool:
    """Whether the smoothed loss has risen above its lowest by more than it ever fell, and by more than its size."""
    if len(losses) <= BEGIN:
        return False
    smoothed, before = smooth(losses), statistics.mean(losses[:BEGIN])
    lowest = min(smoothed[BEGIN:])
    return smoothed[-1] > lowest + max(before - lowest, abs(before))


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
    if report["losses"]:  # one that explodes would leave nothing to see of how it fell
        low, top = min(report["losses"]), max(report["losses"][:BEGIN])
        axes.set_ylim(low - 0.1 * (top - low), top + 0.6 * (top - low) + 1e-9)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(picture, format="png")
    return table, picture
