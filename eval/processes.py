"""What several processes train beside what one does: `python eval/processes.py --json eval/results/processes.json`.

Every objective, alone and all together, is trained for 20 steps on 1, 2 and 4 gloo processes of a CPU with the same
global batch, in float64 and in float32; with `--shard` also in shards (FSDP2) on two, in float32. A row says how far a
run is from one process's:

- `loss`: largest relative difference of the loss at any step; `terms`: of each of its terms; `logged`: of anything;
- `model_weights`, `ema_weights`: norm of the difference relative to the norm of all weights;
- `model_worst`: of the tensor that is worst by its own largest weight. That is a tensor whose gradient is zero but for
  rounding (a bias before a standardisation, or in a distance), which Adam makes as large as any other.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models import (
    DistanceConfig,
    DynamicsConfig,
    EncoderConfig,
    FeaturesConfig,
    InverseConfig,
    MotionConfig,
    PoolerConfig,
    PredictorConfig,
    SubgoalConfig,
    WorldModelConfig,
)
from jepa_actions.objectives import (
    FeaturesLossConfig,
    ForwardConfig,
    GoalInverseLossConfig,
    InverseLossConfig,
    MaskedConfig,
    SigRegConfig,
    SubgoalLossConfig,
    TemporalDistanceConfig,
    TemporalSimilarityConfig,
    VicRegConfig,
)
from jepa_actions.objectives.augment import AugmentConfig
from jepa_actions.training import (
    ActionConfig,
    DataConfig,
    EnvConfig,
    LabelsConfig,
    ObjectivesConfig,
    OptimConfig,
    TrainConfig,
    train,
)

STEPS, BATCH = 20, 16
LR = 1e-5  # Adam steps by a gradient's sign at first: what rounding turns in single precision weighs as much as this
MODEL = WorldModelConfig(
    encoder=EncoderConfig(image_size=(64, 64), patch=16, width=24, depth=1, heads=2),
    pooler=PoolerConfig(dim=16, heads=2),
    predictor=PredictorConfig(width=24, depth=1, heads=2),
    dynamics=DynamicsConfig(width=24, depth=1),
    inverse=InverseConfig(width=24, max_gap=3),
)
PATCHES = replace(
    MODEL,
    pooler=PoolerConfig(kind="patches", dim=24),
    dynamics=DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=2),
    inverse=InverseConfig(kind="motion", motion=MotionConfig(hidden=16)),
)
GOALS = replace(
    MODEL,
    distance=DistanceConfig(width=24, depth=1, directed=8, symmetric=4, fourier=8),
    goal_inverse=InverseConfig(width=24, max_gap=8, history=2),
    subgoal=SubgoalConfig(width=24, depth=1),
    features=FeaturesConfig(width=24, rank=4),
)
NONE = ObjectivesConfig(masked=None)
AUGMENT = AugmentConfig(crop=0.6, mirror=True, reverse=True, colour=0.2)
DISTANCE = TemporalDistanceConfig(pairs=256, horizon=10.0)
FEW = {"label": LabelsConfig(episodes=5)}  # of 24: the labels lie unevenly among processes
SCENES = {"scene_clips": 4}
FEW_SCENES = FEW | SCENES | {"scenes": "episode"}
EVERY = ObjectivesConfig(
    masked=MaskedConfig(spread=0.1, augment=AUGMENT),
    forward=ForwardConfig(target="ema"),
    inverse=InverseLossConfig(),
    sigreg=SigRegConfig(directions=32),
    vicreg=VicRegConfig(weight=0.1),
    temporal_similarity=TemporalSimilarityConfig(weight=0.1),
    distance=DISTANCE,
    goal_inverse=GoalInverseLossConfig(pairs=256, stitched=0.5),
    subgoal=SubgoalLossConfig(pairs=256),
    features=FeaturesLossConfig(frames=24),
)


def cases() -> dict[str, tuple[WorldModelConfig, ObjectivesConfig, dict[str, Any]]]:
    """Model, objectives and data of every row."""
    alone = {
        name: (GOALS, replace(NONE, **{name: getattr(EVERY, name)}), FEW)
        for name in ("forward", "inverse", "sigreg", "vicreg", "temporal_similarity", "features")
    }
    return alone | {
        "masked": (MODEL, ObjectivesConfig(), {}),
        "masked_spread_augmented": (MODEL, ObjectivesConfig(masked=EVERY.masked), {}),
        "masked_packed": (MODEL, ObjectivesConfig(masked=MaskedConfig(packed=True, share=0.3)), {}),
        "masked_unsplit": (MODEL, ObjectivesConfig(masked=MaskedConfig(split=False, kinds=("short", "long"))), {}),
        "patches_motion": (PATCHES, replace(NONE, forward=ForwardConfig(), inverse=InverseLossConfig()), FEW),
        "distance": (GOALS, replace(NONE, distance=DISTANCE), SCENES),
        "distance_encoder": (
            GOALS,
            replace(NONE, distance=replace(DISTANCE, detach=False), sigreg=EVERY.sigreg),
            SCENES,
        ),
        "goal_inverse": (
            GOALS,
            replace(NONE, distance=DISTANCE, goal_inverse=EVERY.goal_inverse),
            SCENES | FEW | {"scenes": "episode"},
        ),
        "hindsight": (GOALS, replace(NONE, goal_inverse=replace(EVERY.goal_inverse, stitched=0.0, detach=False)), FEW),
        "subgoal": (GOALS, replace(NONE, distance=DISTANCE, subgoal=EVERY.subgoal), SCENES),
        "every_term": (GOALS, EVERY, FEW_SCENES),
    }


def recipe(name: str, out: Path, **optim: Any) -> TrainConfig:
    """The recipe of a row, in a folder of its own under `out`."""
    model, objectives, data = cases()[name]
    settings = {"steps": STEPS, "batch_size": BATCH, "lr": LR, "log_every": 1, "checkpoint_every": STEPS} | optim
    env = EnvConfig(episodes=24, steps=24, heldout_episodes=2, episodes_per_layout=4)
    return TrainConfig(
        data=DataConfig(path="env:two_room", env=env, frames=4, block=2, action=ActionConfig(ball=True), **data),
        name=name,
        out=str(out),
        model=model,
        objectives=objectives,
        train=OptimConfig(**settings),
    )


def work(out: Path, names: list[str], dtypes: list[str], optim: dict[str, Any]) -> None:
    """One process's part: train every row, one after the other."""
    for dtype in dtypes:
        for name in names:
            train(recipe(name, out / dtype, dtype=dtype, **optim), quiet=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(processes: int, out: Path, names: list[str], dtypes: list[str], optim: dict[str, Any]) -> float:
    """Run `work` on so many processes; returns the seconds it took."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)} if processes > 1 else {}
    start, running = time.perf_counter(), []
    task = json.dumps({"out": str(out), "names": names, "dtypes": dtypes, "optim": optim})
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        command = [sys.executable, str(Path(__file__).resolve()), "--work", task]
        running.append(subprocess.Popen(command, env={**os.environ, **shared, **own}))
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"{processes} processes ended with {codes}")
    return time.perf_counter() - start


def difference(one: Path, many: Path) -> dict[str, Any]:
    """How far two runs of a recipe are apart."""
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, many)]
    loss, term, logged, worst = 0.0, 0.0, 0.0, ""
    for alone, shared in zip(*rows, strict=True):
        keys = {key for key in alone if key in ("loss", "grad_norm") or "/" in key}
        assert keys == {key for key in shared if key in ("loss", "grad_norm") or "/" in key}
        loss = max(loss, relative(alone["loss"], shared["loss"]))
        term = max(term, *(relative(alone[key], shared[key]) for key in keys if key.endswith("/total")))
        for key in keys:
            if (apart := relative(alone[key], shared[key])) > logged:
                logged, worst = apart, key
    found = {"loss": loss, "terms": term, "logged": logged, "logged_worst": worst}
    for part in ("model", "ema"):
        files = [next((run / "checkpoints").glob("step-*")) / f"{part}.safetensors" for run in (one, many)]
        found |= {f"{part}_{key}": value for key, value in weights_apart(*map(load_file, files)).items()}
    return found


def relative(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), 1e-6)


def weights_apart(one: dict[str, torch.Tensor], many: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Norm of the difference relative to all weights' norm; and the tensor that is worst by its own largest weight."""
    size = torch.stack([tensor.double().square().sum() for tensor in one.values()]).sum().sqrt()
    gaps = {name: (tensor.double() - many[name].double()).abs() for name, tensor in one.items()}
    total = torch.stack([gap.square().sum() for gap in gaps.values()]).sum().sqrt()
    own = {name: float(gap.max() / one[name].abs().max().clamp(min=1e-12)) for name, gap in gaps.items() if gap.numel()}
    worst = max(own, key=lambda name: own[name])
    return {"weights": float(total / size), "worst": own[worst], "worst_tensor": worst}


def measure(names: list[str], counts: list[int], dtypes: list[str], shard: bool) -> dict[str, Any]:
    """Rows of every objective, number of processes and precision."""
    rows: list[dict[str, Any]] = []
    seconds, made = {}, {"commit": commit()}
    runs = [(str(count), count, dtypes, {}) for count in counts]
    runs += [("2 sharded", 2, ["float32"], {"shard": True})] if shard else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        seconds["1"] = launch(1, out / "1", names, sorted({*dtypes, *(["float32"] if shard else [])}), {})
        for title, count, used, optim in runs:
            seconds[title] = launch(count, out / title, names, used, optim)
            for dtype in used:
                for name in names:
                    apart = difference(out / "1" / dtype / name, out / title / dtype / name)
                    rows.append(
                        {"objective": name, "processes": count, "dtype": dtype, "shard": bool(optim), **apart, **made}
                    )
            shutil.rmtree(out / title)
    facts = {"steps": STEPS, "batch_size": BATCH, "lr": recipe(names[0], Path()).train.lr}
    return {**facts, "rows": rows, "seconds": seconds, "hardware": hardware()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=list(cases()), choices=list(cases()))
    parser.add_argument("--processes", nargs="*", type=int, default=[2, 4])
    parser.add_argument("--dtypes", nargs="*", default=["float64", "float32"])
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        task = json.loads(options.work)
        work(Path(task["out"]), task["names"], task["dtypes"], task["optim"])
        return
    report = measure(options.only, options.processes, options.dtypes, options.shard)
    for row in report["rows"]:
        print(
            f"{row['objective']:24} {row['processes']}{' sharded' * row['shard']} {row['dtype']} "
            f"loss {row['loss']:.1e} terms {row['terms']:.1e} weights {row['model_weights']:.1e} "
            f"ema {row['ema_weights']:.1e} worst {row['model_worst']:.1e} {row['model_worst_tensor']} "
            f"logged {row['logged']:.1e} {row['logged_worst']}"
        )
    if options.json:
        if options.json.is_file():  # rows of other objectives stay
            before = json.loads(options.json.read_text())
            report["rows"] = [row for row in before["rows"] if row["objective"] not in options.only] + report["rows"]
            report["seconds"] = before["seconds"] if set(options.only) < set(cases()) else report["seconds"]
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
