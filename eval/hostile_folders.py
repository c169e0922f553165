"""What becomes of hostile model folders: `python eval/hostile_folders.py [--json OUT]`.

Each of some two hundred folders (paths out of the folder, giant headers and sizes, links, pipes, devices, JSON and YAML
bombs, pickles, NaN, ...) is made from a small valid one and opened with `WorldModel.from_pretrained`. It must be
refused with an error of this library, in less than 5 s and with less than 500 MB above the memory after import, with
nothing written anywhere and nothing executed. Fifty folders that are valid must open. Exit code 1 where any does not.

Peak memory is the kernel's own (VmHWM, begun anew for each folder), of a process that opens one folder after the other.
"""

import argparse
import json
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz.model_cases import HOSTILE, VALID, Row, memory, run_case
from fuzz.workers import Worker

from jepa_actions.evaluation import commit, hardware


def worker(pipe: Connection, folder: str) -> None:
    """Answer numbers with rows until told `None`."""
    import timm  # noqa: F401  what opening a model with a backbone imports, for seconds

    import jepa_actions.models  # noqa: F401

    baseline = memory("VmRSS")
    while (task := pipe.recv()) is not None:
        number, hostile = task
        pipe.send(run_case(number, hostile, Path(folder), baseline))


def summary(rows: list[Row]) -> dict[str, Any]:
    """Counts, and the worst of each."""
    hostile, valid = [row for row in rows if row.hostile], [row for row in rows if not row.hostile]
    return {
        "hostile": len(hostile),
        "refused": sum(not row.faults for row in hostile),
        "valid": len(valid),
        "opened": sum(not row.faults for row in valid),
        "written_or_executed": sum(any(f.startswith("something") for f in row.faults) for row in rows),
        "worst_seconds": max((row.seconds for row in hostile), default=0.0),
        "worst_megabytes": max((row.megabytes for row in hostile), default=0.0),
    }


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write counts and rows")
    parser.add_argument("--only", help="folders whose kind or name has this in it")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        asked = Worker(worker, folder)
        for hostile, cases in ((True, HOSTILE), (False, VALID)):
            for number, case in enumerate(cases):
                if options.only is None or options.only in f"{case.kind} {case.name}":
                    rows.append(asked.ask((number, hostile), Row(number, case.kind, case.name, hostile)))
        asked.stop()
    counts = summary(rows)
    print(json.dumps(counts, indent=2))
    for row in rows:
        for fault in row.faults:
            print(f"{'hostile' if row.hostile else 'valid'} {row.case} ({row.kind}: {row.name}): {fault}")
    if options.json is not None:
        report = {
            "metrics": counts,
            "seconds_total": round(time.perf_counter() - start, 1),
            "hardware": hardware(),
            "commit": commit(),
        }
        lines = ",\n  ".join(json.dumps(row.as_dict()) for row in rows)
        options.json.write_text(json.dumps(report, indent=1)[:-2] + f',\n "rows": [\n  {lines}\n ]\n}}\n')
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
