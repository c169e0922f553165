"""The folder of a run: its recipe, no row of a step that will be done again, and one process at a time."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from jepa_actions.errors import ConfigError
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.metric_log import read_rows, write_whole


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run's folder for this process; the system lets go of it however the process ends.

    Raises: ConfigError where another process trains in it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"{run}: another process (number {file.read().strip() or 'unknown'}) trains in this folder; expected "
                "another --name, or its end"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def refuse_to_overwrite(run: Path) -> None:
    """Raise ConfigError where a run was already trained: beginning again would lose it."""
    steps = sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdigit())
    if steps or (run / "model").exists():
        found = f"checkpoints up to step {steps[-1]}" if steps else "a finished model"
        raise ConfigError(
            f"{run}: found {found}, expected a new folder: --resume {run} goes on, --restart takes it away and begins "
            "again, --name NAME trains beside it"
        )


def prepare_folder(run: Path, config: TrainConfig, start: int) -> None:
    """Write the recipe, and take away what belongs to no step before `start`: rows of steps that will be done again,
    and, for a run that starts anew, the checkpoints and the model of an older one, which a later resume would take for
    its own."""
    run.mkdir(parents=True, exist_ok=True)
    if not start:
        for name in ("checkpoints", "model"):
            shutil.rmtree(run / name, ignore_errors=True)
    rows = [row for row in read_rows(run / "metrics.jsonl") if row["step"] <= start] if start else []
    write_whole(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_whole(run / "config.yaml", yaml.safe_dump(plain(asdict(config)), sort_keys=False))


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML and trackers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value
