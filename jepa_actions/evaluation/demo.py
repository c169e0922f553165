"""The demo: train the laptop recipe on TwoRoom, evaluate it, and write a report and a page."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jepa_actions.config import load_config
from jepa_actions.evaluation.page import write_page
from jepa_actions.evaluation.suite import data_of, evaluate_all, table, write_json
from jepa_actions.resources import recipe_path
from jepa_actions.training import TrainConfig, train, use_all_cores

PRESETS = ("laptop", "gpu")
REFERENCE_STEPS_PER_SECOND = {"laptop": 5.0}  # on two cores that multiply float32 matrices at REFERENCE_GFLOPS
REFERENCE_GFLOPS = 80.0
EVALUATION_SECONDS = 90.0


def run_demo(
    out: Path,
    *,
    preset: str = "laptop",
    steps: int | None = None,
    episodes: int = 100,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Train, evaluate and show; writes `out/report.json` and `out/report.html`.

    Args:
        out: the run's folder.
        preset: `laptop` for a CPU, `gpu` for the recipe's larger section.
        steps: training steps; the recipe's where None.
        episodes: planning tasks.
        options: more options of the recipe, such as `["--data.env.episodes", "40"]`.

    Returns:
        the report: one entry per evaluation, and `seconds`.
    """
    began = time.perf_counter()
    threads = use_all_cores()
    argv = ["--config", str(recipe_path("vjepa/two_room")), "--name", out.name, "--out", str(out.parent)]
    if preset != "laptop":
        argv += ["--preset", preset]
    config = load_config(TrainConfig, [*argv, *options], prog="jepa-actions demo")
    if steps is not None:
        config = replace(config, train=replace(config.train, steps=steps))
    print(f"jepa-actions demo: {config.train.steps} training steps on {threads} threads, then the evaluations.")
    print(f"This takes about {estimate_minutes(config.train.steps, preset):.0f} minutes on this machine.", flush=True)

    train(config, restart=True)
    trained = time.perf_counter() - began
    from jepa_actions.models import WorldModel

    model = WorldModel.from_pretrained(out / "model")
    data_config, data = data_of(model)
    print("evaluating: planning, inverse, probe, rollout, masked", flush=True)
    names = ("inverse", "probe", "rollout", "masked", "planning")
    report = evaluate_all(model, data_config, data, names, episodes=episodes)
    report["training"] = {"seconds": trained, "steps": config.train.steps, "preset": preset}
    report["seconds"] = time.perf_counter() - began
    write_json(report, out / "report.json")
    write_page(out, model, data, report)
    print(table({name: report[name] for name in names}))
    print(f"done in {report['seconds'] / 60:.1f} minutes: {out / 'report.json'}, {out / 'report.html'}")
    return report


def estimate_minutes(steps: int, preset: str) -> float:
    """Minutes for training and evaluation, from a matrix product timed now."""
    reference = REFERENCE_STEPS_PER_SECOND["laptop"]
    if preset == "gpu" and torch.cuda.is_available():
        return steps / (10 * reference) / 60 + 1.0
    speed = measured_gflops() / REFERENCE_GFLOPS
    return (steps / reference + EVALUATION_SECONDS) / speed / 60


def measured_gflops(size: int = 768, repeats: int = 8) -> float:
    """Billions of float32 operations per second of a square matrix product, the best of several."""
    a = torch.rand(size, size)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9
