"""Memory of a process that reads random clips for long: it may not grow.

    python eval/data_memory.py --data D [--clips 10000] [--threads 1] [--json OUT]

Reads random clips of 16 frames of all cameras, one at a time, and notes the resident memory every 500 clips. The bar is
less than 100 MB from clip 500 to the end. With `--threads` several threads read at a time, as loaders do.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jepa_actions.data import VideoDataset, load_dataset
from jepa_actions.evaluation import commit, hardware

EVERY = 500
BAR = 100.0  # MB


def resident() -> float:
    """MB of memory that this process holds, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def read_many(dataset: VideoDataset, clips: int, frames: int, threads: int, seed: int) -> list[dict[str, float]]:
    """Clips read, resident MB and seconds, every 500 clips."""
    lengths = dataset.lengths()
    able = np.flatnonzero(lengths >= frames)
    began, rows = time.perf_counter(), []

    def read(clip: int) -> None:
        rng = np.random.default_rng((seed, clip))
        episode = rng.choice(able)
        start = rng.integers(0, lengths[episode] - frames + 1)
        dataset.read_clips(np.array([episode]), (start + np.arange(frames))[None])

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, clips, EVERY):
            done = min(first + EVERY, clips)
            for _ in pool.map(read, range(first, done)):
                pass
            rows.append({"clips": done, "resident_mb": resident(), "seconds": time.perf_counter() - began})
            print(f"{done:6} clips  {rows[-1]['resident_mb']:8.1f} MB  {rows[-1]['seconds']:7.1f} s", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = read_many(load_dataset(options.data), options.clips, options.frames, options.threads, options.seed)
    grown = rows[-1]["resident_mb"] - rows[0]["resident_mb"]
    seconds = rows[-1]["seconds"]
    print(f"grown by {grown:.1f} MB after the first {EVERY} clips, expected less than {BAR:g}: {grown < BAR}")
    if options.json is not None:
        report = {
            "metrics": {"grown_mb": grown, "clips_per_second": options.clips / seconds},
            "rows": rows,
            "data": options.data.name,
            "clips": options.clips,
            "frames": options.frames,
            "threads": options.threads,
            "hardware": hardware(),
            "seconds_total": seconds,
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if grown < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
