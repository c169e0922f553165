"""What becomes of damaged data sets: `python eval/data_fuzz.py [--damaged 500 --valid 57 --seed 0 --json OUT]`.

A small data set of two cameras, with six episodes in several files, is written as ours and as others write it (v3.0 and
v2.1, h264 and AV1), and copies of it are damaged. Half of the copies are sealed with checksums: `data check` must name
every damaged file and no other. All are opened and read, with faults raised and with faults tolerated: an error of this
library or frames and rows in their place, never another exception, a hang, or a frame or row that is another's. Every
frame and row says where it belongs. Valid variants must load and have no fatal problem. Exit code 1 where any does not.

Two swapped files that are alike in camera size and number of frames cannot be told apart by any reader where neither
checksums nor labels in the files tell them; the files of these data sets differ in one of the two.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz.cases import Row, make_case, prepare, run_case
from fuzz.valid import VARIANTS, run_variant
from fuzz.workers import Worker

from jepa_actions.evaluation import commit, hardware

MEMORY = 4 << 30  # bytes that a process may write to


def worker(pipe: Connection, folder: str, seed: int) -> None:
    """Answer case numbers with rows until told `None`."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    bases = {path.name: path for path in Path(folder, "bases").iterdir()}
    while (task := pipe.recv()) is not None:
        kind, number = task
        if kind == "valid":
            pipe.send(run_variant(number, Path(folder)))
            continue
        row, root = make_case(seed, number, bases, Path(folder))
        pipe.send(row)  # known even if what follows never ends
        pipe.send(run_case(row, root))
        shutil.rmtree(root)


def summary(rows: list[Row], valid: list[Row]) -> dict[str, Any]:
    """Counts."""
    sealed, bare = [row for row in rows if row.sealed], [row for row in rows if not row.sealed]
    kinds = ("unnamed", "hang", "crash", "sealed, but")

    def faulty(group: list[Row], *begin: str) -> int:
        return sum(any(fault.startswith(begin) for fault in row.faults) for row in group)

    return {
        "sealed": len(sealed),
        "sealed_named": sum(not any(f.startswith(("unnamed", "check")) for f in row.faults) for row in sealed),
        "sealed_silent": faulty(sealed, "sealed, but"),
        "unsealed": len(bare),
        "shifted": sum(any("shows" in f or "is that of" in f for f in row.faults) for row in rows),
        "hangs": faulty(rows, "hang"),
        "crashes": faulty(rows, "crash"),
        "foreign_exceptions": faulty(rows, "check", "reading"),
        "other_faults": sum(bool(row.faults) for row in rows) - faulty(rows, *kinds, "check", "reading"),
        "frozen_frames": sum(row.frozen for row in rows),
        "valid": len(valid),
        "valid_loaded": sum(not row.faults for row in valid),
        "by_damage": {
            kind: dict(Counter(row.outcome for row in bare if row.damage == kind))
            for kind in sorted({row.damage for row in bare})
        },
    }


def run(damaged: int, valid: int, seed: int, folder: Path, first: int = 0) -> tuple[list[Row], list[Row]]:
    """The rows of damaged and valid data sets; `first` is the first case's number."""
    (folder / "bases").mkdir(parents=True)
    prepare(folder / "bases")
    asked = Worker(worker, str(folder), seed)
    try:
        numbers = range(first, first + damaged)
        rows = [asked.ask(("damaged", n), Row(n, "", False, "damaged", "", []), answers=2) for n in numbers]
        count = min(valid, len(VARIANTS))
        variants = [asked.ask(("valid", k), Row(k, "", False, "valid", "", [])) for k in range(count)]
    finally:
        asked.stop()
    return rows, variants


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--damaged", type=int, default=500)
    parser.add_argument("--valid", type=int, default=len(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write counts and rows")
    options = parser.parse_args()
    if options.valid > len(VARIANTS):
        parser.error(f"--valid {options.valid}, expected at most {len(VARIANTS)}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows, valid = run(options.damaged, options.valid, options.seed, Path(folder))
    counts = summary(rows, valid)
    print(json.dumps(counts, indent=2))
    for row in [*rows, *valid]:
        for fault in row.faults:
            print(f"case {row.case} ({row.base}, {row.damage}: {row.said}): {fault}")
    if options.json is not None:
        report = {
            "metrics": counts,
            "seed": options.seed,
            "seconds_total": round(time.perf_counter() - start, 1),
            "hardware": hardware(),
            "commit": commit(),
        }
        lines = ",\n  ".join(json.dumps(row.as_dict()) for row in [*rows, *valid])
        options.json.write_text(json.dumps(report, indent=1)[:-2] + f',\n "rows": [\n  {lines}\n ]\n}}\n')
    return int(any(row.faults for row in [*rows, *valid]))


if __name__ == "__main__":
    sys.exit(main())
