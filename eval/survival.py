"""What a training run survives: `python eval/survival.py [--kills 30 --steps 300 --positions 500 --json OUT]`.

Three parts, each with rows:

- `kills`: a run is killed (SIGKILL) at random moments until it has been `--kills` times, and resumed each time with the
  same command; it saves after every step, so that many kills come while it saves. After each the newest checkpoint
  must be whole, and at the end the weights, the EMA and the optimiser must be those of the run that nothing disturbed.
- `damage`: one byte of a checkpoint is changed, at every position of every safetensors header and JSON file and at
  `--positions` random ones, and files are cut short; each must be refused with the file's name, and the checkpoint
  before it offered.
- `full`: the run saves to a disk (a tmpfs, which needs root) that becomes full; the checkpoint before must be whole,
  and the run, moved elsewhere, must end with the same weights.

Exit code 1 where any of it fails.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from jepa_actions.errors import CheckpointError
from jepa_actions.evaluation import commit, hardware
from jepa_actions.training.checkpoint import TENSORS, checkpoint_folders
from jepa_actions.training.resume import faults_of, find_checkpoint

OPTIONS = [  # a small model, so that the bytes of its headers can all be tried
    *("--config", "vjepa/two_room", "--name", "run", "--evaluate", "[]", "--data.env.episodes", "40"),
    *("--data.env.heldout_episodes", "5", "--train.batch_size", "8", "--train.log_every", "1"),
    *("--train.checkpoint_every", "1", "--model.encoder.patch", "16", "--model.encoder.depth", "1"),
    *("--model.encoder.width", "24", "--model.pooler.dim", "16", "--model.predictor.depth", "1"),
    *("--model.predictor.width", "24", "--model.dynamics.width", "16", "--model.inverse.width", "16"),
]
LAST_S = 1.5  # a kill comes up to so many seconds after the first checkpoint of its process


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "jepa_actions.cli", "train", *words]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def newest(run: Path) -> Path | None:
    return checkpoint_folders(run)[-1] if checkpoint_folders(run) else None


def same_checkpoints(one: Path, two: Path) -> dict[str, bool]:
    """Whether the last checkpoints of two runs hold the same bits, by file."""
    found = {}
    for name in TENSORS:
        a, b = (load_file(newest(run) / f"{name}.safetensors") for run in (one, two))
        found[name] = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    return found


def kills(folder: Path, count: int, steps: int, draw: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Kill a run again and again; see the top."""
    first = [*OPTIONS, "--train.steps", str(steps)]
    straight = start([*first, "--out", str(folder / "straight")])
    if straight.wait():
        raise SystemExit(straight.stderr.read().decode() if straight.stderr else "")
    run, words, rows = folder / "killed" / "run", [*first, "--out", str(folder / "killed")], []
    while len(rows) < count:
        before = newest(run)
        process = start(words)
        while newest(run) == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, LAST_S))
        if process.poll() is not None:  # it came to its end before it could be killed
            raise SystemExit(f"the run ended after {len(rows)} kills; expected more --steps")
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = newest(run)
        writing = [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
        rows.append(
            {"kill": len(rows), "step": int(found.name[5:]), "while_saving": bool(writing), "faults": faults_of(found)}
        )
        print(rows[-1], flush=True)
        words = ["--resume", str(run)]
    last = start(words)
    if last.wait():
        raise SystemExit(last.stderr.read().decode() if last.stderr else "")
    same = same_checkpoints(run, folder / "straight" / "run")
    lost = sum(bool(row["faults"]) for row in rows) + sum(b["step"] < a["step"] for a, b in pairwise(rows))
    metrics = {
        "kills": len(rows),
        "kills_while_saving": sum(row["while_saving"] for row in rows),
        "checkpoints_lost": lost,
        **{f"{name}_identical": float(value) for name, value in same.items()},
    }
    return metrics, rows


def changes(whole: bytes, path: Path, positions: list[int]) -> Iterator[tuple[str, bytes]]:
    """A file with one byte changed, or cut short."""
    header = 8 + int.from_bytes(whole[:8], "little") if path.suffix == ".safetensors" else len(whole)
    for position in sorted({*range(header), *positions}):
        yield f"byte {position}", whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :]
    for size in (0, 7, header // 2, len(whole) - 2):
        yield f"cut to {size}", whole[:size]


def damage(run: Path, positions: int, draw: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Damage the newest checkpoint; see the top."""
    before, folder = checkpoint_folders(run)[-2:]
    files = sorted(folder.iterdir())
    sizes = [path.stat().st_size for path in files]
    drawn = [draw.choices(range(len(files)), weights=sizes)[0] for _ in range(positions)]
    rows = []
    for number, path in enumerate(files):
        whole, tried, named = path.read_bytes(), 0, 0
        own = [draw.randrange(len(whole)) for chosen in drawn if chosen == number]
        for what, data in changes(whole, path, own):
            path.write_bytes(data)
            tried += 1
            try:
                find_checkpoint(run)
            except CheckpointError as error:
                named += path.name in str(error) and f"--resume_step {int(before.name[5:])}" in str(error)
            else:
                print(f"{path.name}, {what}: not seen", flush=True)
        path.write_bytes(whole)
        rows.append({"file": path.name, "bytes": len(whole), "random": len(own), "tried": tried, "named": named})
        print(rows[-1], flush=True)
    assert find_checkpoint(run) == folder
    return {"damaged": sum(row["tried"] for row in rows), "named": sum(row["named"] for row in rows)}, rows


def full(folder: Path, steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fill the disk; see the top."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        return {"full_disk_measured": 0.0}, []
    try:
        words = [*OPTIONS, "--train.steps", str(steps), "--train.keep_checkpoints", "1000", "--out", str(disk)]
        process = start(words)
        said = process.communicate()[1].decode().strip().splitlines()[-1]
        run = disk / "run"
        found = newest(run)
        row = {"exit": process.returncode, "said": said.replace(str(folder), ""), "faults": faults_of(found)}
        row |= {"step": int(found.name[5:]), "checkpoints": len(checkpoint_folders(run))}
        print(row, flush=True)
        shutil.copytree(run, folder / "elsewhere" / "run")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    last = start(["--resume", str(folder / "elsewhere" / "run")])
    if last.wait():
        raise SystemExit(last.stderr.read().decode() if last.stderr else "")
    same = same_checkpoints(folder / "elsewhere" / "run", folder / "straight" / "run")
    whole = not row["faults"] and "the disk is full; the last whole one is" in said and row["exit"] == 2
    return {
        "full_disk_measured": 1.0,
        "full_disk_kept": float(whole),
        "full_disk_identical": float(all(same.values())),
    }, [row]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--positions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    began, draw = time.perf_counter(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found, kill_rows = kills(folder, options.kills, options.steps, draw)
        damaged, damage_rows = damage(folder / "killed" / "run", options.positions, draw)
        filled, full_rows = full(folder, options.steps)
    metrics = found | damaged | filled
    report = {
        "metrics": metrics,
        "seed": options.seed,
        "steps": options.steps,
        "hardware": hardware(),
        "commit": commit(),
        "seconds_total": time.perf_counter() - began,
        "rows": {"kills": kill_rows, "damage": damage_rows, "full": full_rows},
    }
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))
    good = not metrics["checkpoints_lost"] and metrics["damaged"] == metrics["named"]
    good &= all(metrics[f"{name}_identical"] for name in TENSORS)
    good &= not metrics["full_disk_measured"] or (metrics["full_disk_kept"] and metrics["full_disk_identical"]) > 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
