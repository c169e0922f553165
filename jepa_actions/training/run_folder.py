"""The folder of a run: its recipe, and nothing that belongs to a step which will be done again."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from jepa_actions.training.config import TrainConfig


def prepare_folder(run: Path, config: TrainConfig, start: int) -> None:
    """Write the recipe, and take away what belongs to no step before `start`: rows of steps that will be done again,
    and, for a run that starts anew, the checkpoints of an older one, which a later resume would take for its own."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump(plain(asdict(config)), sort_keys=False))
    metrics, kept = run / "metrics.jsonl", []
    for line in metrics.read_text().splitlines() if start and metrics.is_file() else []:
        try:
            step = json.loads(line)["step"]
        except json.JSONDecodeError:  # a kill while writing
            break
        if step > start:
            break
        kept.append(line + "\n")
    metrics.write_text("".join(kept))
    if not start:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML and trackers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value
