"""Random clips of a LeRobot data set: clips/s of this package and of its decoded cache beside lerobot's, in turns.

    python eval/baselines/lerobot_speed.py --lerobot-python PY --data D [--pairs 5] [--json OUT]

PY is the interpreter of an environment with lerobot 0.4.4. Each side is a process of its own that stays open; they are
timed one at a time on the same random clips of all cameras, the order turning from pair to pair, and a ratio is the
median over pairs. lerobot reads with `video_backend="pyav"` and a clip is one item with `delta_timestamps`; ours is one
`read_clips` of one clip. The cache is written to a temporary folder first and is read to new tensors, and once more to
tensors that are given (`out`). Frames of all sides are compared byte for byte (lerobot's floats times 255, rounded).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FRAMES = 16
REPEATS = {"lerobot": 1, "ours": 1, "cache": 40, "cache_out": 40}  # times a round's clips are read
BARS = {"ours": 4.0, "cache": 100.0}
MARK = "@@ "
Clip = tuple[int, int]  # episode and first frame


class LeRobotSide:
    """lerobot's own reader. Nothing of this package may be imported here."""

    def __init__(self, data: Path, _: Path | None) -> None:
        import av
        import lerobot
        import torch
        from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

        meta = LeRobotDatasetMetadata(data.name, root=data)
        self.cameras = list(meta.video_keys)
        deltas = {camera: [i / meta.fps for i in range(FRAMES)] for camera in self.cameras}
        self.dataset = LeRobotDataset(data.name, root=data, delta_timestamps=deltas, video_backend="pyav")
        self.first = [int(row["dataset_from_index"]) for row in self.dataset.meta.episodes]
        self.lengths = [int(row["length"]) for row in self.dataset.meta.episodes]
        self.versions = {"lerobot": lerobot.__version__, "av": av.__version__, "torch": torch.__version__}

    def read(self, clip: Clip) -> dict[str, Any]:
        """One item: float frames (T, 3, H, W) per camera."""
        item = self.dataset[self.first[clip[0]] + clip[1]]
        return {camera: item[camera] for camera in self.cameras}

    def pixels(self, clip: Clip) -> dict[str, np.ndarray]:
        """Its frames as uint8."""
        return {camera: (images * 255).round().byte().numpy() for camera, images in self.read(clip).items()}


class OurSide:
    """`load_dataset`, or the decoded cache in the folder `cache`, to new tensors or to the same each time."""

    def __init__(self, data: Path, cache: Path | None, reuse: bool = False) -> None:
        import av
        import torch

        from jepa_actions.data import load_dataset
        from jepa_actions.data.decoded.cache import DecodedCache
        from jepa_actions.data.video.clip_memory import new_clips

        self.dataset = load_dataset(data) if cache is None else DecodedCache(cache)
        self.cameras = list(self.dataset.cameras)
        self.lengths = self.dataset.lengths().tolist()
        self.versions = {"av": av.__version__, "torch": torch.__version__}
        sizes = {camera: self.dataset.image_size(camera) for camera in self.cameras}
        out = {camera: new_clips((1, FRAMES), size) for camera, size in sizes.items()}
        self.options = {"out": out} if reuse else {}

    def read(self, clip: Clip) -> dict[str, Any]:
        """One clip: uint8 frames (1, T, 3, H, W) per camera."""
        frames = np.arange(clip[1], clip[1] + FRAMES)[None]
        return self.dataset.read_clips(np.array([clip[0]]), frames, **self.options)

    def pixels(self, clip: Clip) -> dict[str, np.ndarray]:
        """Its frames."""
        return {camera: images[0].numpy() for camera, images in self.read(clip).items()}


def serve(name: str, data: Path, cache: Path | None) -> None:
    """What a side's process does: answer one JSON line with one."""
    warnings.filterwarnings("ignore")
    side: Any = LeRobotSide(data, None) if name == "lerobot" else OurSide(data, cache, reuse=name == "cache_out")

    def say(answer: dict[str, Any]) -> None:
        print(MARK + json.dumps(answer), flush=True)

    say({"lengths": side.lengths, "cameras": side.cameras, "versions": side.versions})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["want"] == "hashes":
            say({"hashes": [_hashes(side.pixels(clip)) for clip in asked["clips"]]})
        else:
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(asked["repeats"]):
                for clip in asked["clips"]:
                    side.read(clip)
            say({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu})


def _hashes(clip: dict[str, np.ndarray]) -> dict[str, str]:
    return {
        camera: f"{images.shape} {hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()}"
        for camera, images in clip.items()
    }


class Process:
    """A side in its own interpreter."""

    def __init__(self, python: str, name: str, data: Path, cache: Path | None) -> None:
        command = [python, __file__, "--worker", name, "--data", str(data)]
        command += ["--cache", str(cache)] if cache is not None else []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.name = name
        self.process = subprocess.Popen(command, text=True, **pipes)
        self.about = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                return dict(json.loads(line.removeprefix(MARK)))
        raise SystemExit(f"the {self.name} side ended with exit code {self.process.wait()}, expected an answer")

    def ask(self, **asked: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self._answer()


@contextmanager
def running(python: str, name: str, data: Path, cache: Path | None) -> Iterator[Process]:
    """A side, ended at the end."""
    side = Process(python, name, data, cache)
    try:
        yield side
    finally:
        assert side.process.stdin is not None
        side.process.stdin.close()
        side.process.wait(30)


def compare(options: argparse.Namespace, cache: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and rows."""
    pythons = {"lerobot": options.lerobot_python, "ours": sys.executable}
    with ExitStack() as stack:
        sides = []
        for name in REPEATS:
            folder = cache if name.startswith("cache") else None
            python = pythons.get(name, sys.executable)
            sides.append(stack.enter_context(running(python, name, options.data, folder)))
        for side in sides[1:]:
            for key in ("lengths", "cameras"):
                if side.about[key] != sides[0].about[key]:
                    raise SystemExit(f"{key} of {side.name} are {side.about[key]}, of lerobot {sides[0].about[key]}")
        starts = [(e, s) for e, n in enumerate(sides[0].about["lengths"]) for s in range(n - FRAMES + 1)]
        rng = np.random.default_rng(options.seed)

        def draw(count: int) -> list[Clip]:
            return [starts[i] for i in rng.integers(0, len(starts), count)]

        clips = draw(options.compare)
        hashes = {side.name: side.ask(want="hashes", clips=clips)["hashes"] for side in sides}
        rows: list[dict[str, float]] = []
        cpu: list[dict[str, float]] = []
        for pair in range(options.pairs + 1):  # the first warms up
            clips = draw(options.clips)
            rows.append({})
            cpu.append({})
            for side in sides if pair % 2 else sides[::-1]:
                read = len(clips) * REPEATS[side.name]
                found = side.ask(want="seconds", clips=clips, repeats=REPEATS[side.name])
                rows[-1][side.name] = read / found["seconds"]
                cpu[-1][side.name] = 1000 * found["cpu_seconds"] / read
        versions = {side.name: side.about["versions"] for side in sides[:2]}
    metrics: dict[str, Any] = {}
    for name in REPEATS:
        metrics[f"clips_per_second_{name}"] = statistics.median(row[name] for row in rows[1:])
    for name in list(REPEATS)[1:]:
        metrics[f"ratio_{name}"] = statistics.median(row[name] / row["lerobot"] for row in rows[1:])
        same = sum(a == b for a, b in zip(hashes[name], hashes["lerobot"], strict=True))
        metrics[f"identical_{name}"] = same / len(hashes[name])
    for name in REPEATS:
        metrics[f"cpu_ms_per_clip_{name}"] = statistics.median(row[name] for row in cpu[1:])
    return metrics, {"clips_per_second": rows, "cpu_ms_per_clip": cpu, "versions": versions}


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="a LeRobot v3.0 data set that both can read")
    parser.add_argument("--lerobot-python", help="the interpreter of an environment with lerobot 0.4.4")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clips", type=int, default=30, help="clips of a timed round")
    parser.add_argument("--compare", type=int, default=30, help="clips whose frames are compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=tuple(REPEATS), help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.data, options.cache)
        return 0
    if options.lerobot_python is None:
        parser.error("--lerobot-python is required")
    from jepa_actions.data import load_dataset
    from jepa_actions.data.decoded.writer import write_decoded_cache
    from jepa_actions.evaluation import commit, hardware

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cache = write_decoded_cache(load_dataset(options.data), Path(folder) / "cache")
        metrics, rows = compare(options, cache)
    for pair, row in enumerate(rows["clips_per_second"]):
        print(f"pair {pair}  " + "  ".join(f"{name} {value:8.1f}" for name, value in row.items()))
    for name, value in metrics.items():
        print(f"{name:30} {value:10.4g}")
    passed = all(metrics[f"ratio_{name}"] >= bar and metrics[f"identical_{name}"] == 1 for name, bar in BARS.items())
    print("bars: 4 times lerobot's clips/s, 100 times from the cache, the same frames:", passed)
    if options.json is not None:
        report = {
            "metrics": metrics,
            "rows": rows,
            "data": options.data.name,
            "frames": FRAMES,
            "seed": options.seed,
            "hardware": hardware(),
            "seconds_total": time.perf_counter() - began,
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
