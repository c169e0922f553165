"""What training writes down: `metrics.jsonl`, a row per `train.log_every` steps, and `events.jsonl`, named trouble."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Means:
    """Means of logged values over steps; the values stay where they are, untouched, until their mean is asked for."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """One step's values; not every step has all of them."""
        for key, value in values.items():
            self._values.setdefault(key, []).append(value.detach())

    def steps(self) -> int:
        """Steps since the means were last taken."""
        return len(self._values.get("loss", ()))

    def take(self) -> dict[str, float]:
        """The means since they were last taken, and begin anew."""
        found, self._values = self._values, {}
        return {key: float(torch.stack(values).to(torch.float64).mean()) for key, values in found.items()}


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Write one row at the end of a JSONL file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a JSONL file, none where there is no file; a kill may have cut the last one short."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def events_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Keep the events up to a step, as a resumed run will do the later ones again; all of them go for step 0."""
    kept: Sequence[dict[str, Any]] = [row for row in read_rows(path) if row["step"] <= step] if step else []
    if path.is_file():
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept))
    return list(kept)


def write_whole(path: Path, text: str) -> None:
    """Write beside and rename: who reads it finds the old text or the new one."""
    draft = path.with_name(f".writing-{path.name}")
    draft.write_text(text)
    os.replace(draft, path)
