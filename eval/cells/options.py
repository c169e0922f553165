"""What the commands of grids have in common."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cells.rows import Row

from jepa_actions.errors import ConfigError

RESULTS = Path(__file__).parents[1] / "results"


def parser(description: str, results: str) -> argparse.ArgumentParser:
    """Options that grids share."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--only", nargs="+", metavar="CELL", help="these cells alone")
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--minutes", type=float, default=4.0, help="of training, per run")
    made.add_argument("--steps", type=int, help="so many steps per stage, and no clock: for a trial of the script")
    made.add_argument("--threads", type=int, default=1, help="torch threads")
    made.add_argument("--tasks", type=int, default=100, help="per protocol")
    made.add_argument("--planner", default="cem:evaluations=256", help="as in eval/planning.py")
    made.add_argument("--results", default=str(RESULTS / results), help="where the rows are")
    made.add_argument("--out", default="runs/ablation", help="where the models are")
    made.add_argument("--clock", action="store_true", help="read the cells' clocks, best while nothing else runs")
    made.add_argument("--table", action="store_true", help="print what is there, and run nothing")
    return made


def chosen(names: Iterable[str], only: list[str] | None, option: str) -> list[str]:
    """The names that are asked for, in their order. Raises ConfigError for one that is not known."""
    known = list(names)
    for name in only or []:
        if name not in known:
            raise ConfigError(f"{option}: found {name!r}, expected some of {', '.join(known)}")
    return [name for name in known if not only or name in only]


def lengths(options: argparse.Namespace) -> dict[str, Any]:
    """What the training of a row was: rows of another length are other rows."""
    return {"minutes": options.minutes if options.steps is None else None, "fixed": options.steps}


def best_trial(rows: list[Row]) -> int:
    """The number of the best of a cell's trials: by mean success, then by the probe."""
    return int(max(rows, key=lambda row: (row["cross_room"] + row["offset100"], -row["probe_px"]))["trial"])
