"""All hostile and valid model folders by number, and what came of opening one."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fuzz.model_base import Case
from fuzz.model_config import fields, sizes, texts
from fuzz.model_links import cards, links
from fuzz.model_valid import valid
from fuzz.model_weights import files, headers, shards, tensors

from jepa_actions.errors import JepaActionsError

SECONDS, MEGABYTES = 5.0, 500.0  # what refusing a folder may take
HOSTILE: list[Case] = [
    *texts(), *fields(), *sizes(), *headers(), *tensors(), *files(), *shards(), *links(), *cards(),
]  # fmt: skip
VALID: list[Case] = valid()


@dataclass
class Row:
    """What came of one folder. `faults` is empty where everything is as it must be."""

    case: int
    kind: str
    name: str
    hostile: bool
    said: str = ""  # the error, without the place
    seconds: float = 0.0
    megabytes: float = 0.0  # at most, above the memory after import
    faults: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def memory(field: str) -> float:
    """A line of /proc/self/status in MB: VmRSS, what is held, or VmHWM, the most since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def forget_peak() -> None:
    """Begin VmHWM anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below: size and time of change; links are not followed."""
    found = {}
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            facts = os.lstat(os.path.join(folder, name))
            found[os.path.relpath(os.path.join(folder, name), root)] = (facts.st_size, facts.st_mtime_ns)
    return found


def run_case(number: int, hostile: bool, folder: Path, baseline: float) -> Row:
    """Make a folder in a workspace of its own, open it, and note every fault.

    Args:
        number: of `HOSTILE` or `VALID`.
        hostile: which.
        folder: where workspaces go.
        baseline: MB held after import.
    """
    from jepa_actions.models import WorldModel

    case = (HOSTILE if hostile else VALID)[number]
    row = Row(number, case.kind, case.name, hostile)
    workspace = folder / f"{'hostile' if hostile else 'valid'}{number}"
    workspace.mkdir()
    try:
        opened = case.make(workspace)
        before = _tree(folder)
        forget_peak()
        start = time.perf_counter()
        try:
            model = WorldModel.from_pretrained(opened)
            if hostile:
                row.faults.append("opened")
            elif model.training or (model.codec is None) != (case.name == "none"):
                row.faults.append("opened as something else")
        except JepaActionsError as error:
            row.said = _without_places(str(error), folder)
            if "\n" in row.said or len(row.said) > 1000:
                row.faults.append(f"an error of {len(row.said)} characters")
            if not hostile:
                row.faults.append(f"refused: {row.said:.200}")
        except Exception:
            row.faults.append(f"another error: {traceback.format_exc().strip().splitlines()[-1]:.200}")
        row.seconds = round(time.perf_counter() - start, 3)
        row.megabytes = round(memory("VmHWM") - baseline, 1)
        if _tree(folder) != before:
            row.faults.append("something was written")
        if (workspace / "outside" / "executed").exists():
            row.faults.append("something was executed")
        if hostile and row.seconds > SECONDS:
            row.faults.append(f"took {row.seconds} s")
        if hostile and row.megabytes > MEGABYTES:
            row.faults.append(f"took {row.megabytes} MB")
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return row


def _without_places(text: str, folder: Path) -> str:
    for place in (str(folder), os.path.realpath(folder)):
        text = text.replace(place + "/", "").replace(place, "")
    return text
