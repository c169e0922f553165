"""Training runs as their folders tell: how far, in what state, with which trouble and which scores."""

import fcntl
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from jepa_actions.errors import ConfigError
from jepa_actions.training.metric_log import read_rows

State = Literal["finished", "running", "stopped", "damaged"]
HEADLINES = ("success_rate", "r2_mean", "accuracy_mean", "rmse_px_mean", "effective_rank_of_targets")


@dataclass(frozen=True)
class Run:
    """One run's folder, read."""

    folder: Path
    state: State
    step: int = 0  # of the last logged row
    steps: int = 0  # that the recipe asks for
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)  # of metrics.jsonl
    events: list[dict[str, Any]] = field(default_factory=list)  # of events.jsonl, but for the start
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)  # `metrics` of eval/NAME.json, by name

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    def last(self, key: str) -> float | None:
        """The newest value of a metric."""
        return next((row[key] for row in reversed(self.rows) if key in row), None)

    def headline(self) -> dict[str, float]:
        """One score per evaluation that has one."""
        found = {}
        for name, metrics in self.scores.items():
            key = next((key for key in HEADLINES if isinstance(metrics.get(key), (int, float))), None)
            if key is not None:
                found[f"{name} {key}"] = float(metrics[key])
        return found


def read_run(folder: str | Path) -> Run:
    """Read a run. Raises ConfigError for a folder that is none."""
    run = Path(folder)
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run}: found no config.yaml, expected the folder of a training run")
    try:
        config = yaml.safe_load((run / "config.yaml").read_text())
        steps = int(config["train"]["steps"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return Run(run, "damaged")
    rows = read_rows(run / "metrics.jsonl")
    step = int(rows[-1]["step"]) if rows else 0
    state: State = "stopped"
    if is_running(run):
        state = "running"
    elif step >= steps and (run / "model").is_dir():
        state = "finished"
    events = [event for event in read_rows(run / "events.jsonl") if event["event"] != "start"]
    return Run(run, state, step, steps, config, rows, events, _scores(run))


def find_runs(folder: str | Path) -> list[Run]:
    """Every run in a folder, or the one that it is, in order of name. Raises ConfigError where there is no folder."""
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root}: found no such folder, expected one with training runs")
    if (root / "config.yaml").is_file():
        return [read_run(root)]
    found = sorted(path.parent for path in root.rglob("metrics.jsonl") if (path.parent / "config.yaml").is_file())
    return [read_run(run) for run in found if not any(part.startswith(".") for part in run.relative_to(root).parts)]


def is_running(run: Path) -> bool:
    """Whether a process holds the run's folder, see `training.run_folder.locked`; a killed one does not."""
    lock = run / ".lock"
    if not lock.is_file() or not lock.read_text().strip():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def runs_table(runs: list[Run], root: Path) -> str:
    """One line per run."""
    if not runs:
        return f"{root}: no runs"
    names = [str(run.folder.relative_to(root)) if run.folder != root else run.name for run in runs]
    width = max(4, *map(len, names))
    lines = [f"{'run':{width}} {'step':>15} {'state':9} {'loss':>9} {'clips/s':>8}  last event; scores"]
    for run, name in zip(runs, names, strict=True):
        loss, pace = run.last("loss"), run.last("clips_per_second")
        notes = [f"{event['event']} at step {event['step']}" for event in run.events[-1:]]
        notes += [f"{key} {value:.3g}" for key, value in run.headline().items()]
        lines.append(
            f"{name:{width}} {f'{run.step}/{run.steps}':>15} {run.state:9} {_number(loss):>9} {_number(pace):>8}"
            f"  {'; '.join(notes)}".rstrip()
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _scores(run: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((run / "eval").glob("*.json")):
        try:
            report = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # it is being written
        if isinstance(report, dict) and isinstance(report.get("metrics"), dict):
            found[path.stem] = report["metrics"]
    return found
