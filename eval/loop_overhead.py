"""What the training loop costs beside the training: all but waiting for data, forward, backward and optimiser.

    python eval/loop_overhead.py [--recipe vjepa/two_room] [--repeats 5] [--steps 40] [--threads N] [--json OUT]

Three measurements take turns, so that a machine that slows down slows all of them down:

- `wall`: `jepa-actions train --profile`, the loop's own clock, in seconds as they pass;
- `cpu`: the same by the processor time of this process, which does not count what other programs take;
- `bare`: a loop of data, forward, backward and optimiser alone, by processor time, to hold the whole step against.

Rows of the log, meters and checkpoints count as often as the recipe has them. The bar is on `cpu`'s median.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from typing import Any

import torch

from jepa_actions.config import load_config
from jepa_actions.evaluation import commit, hardware
from jepa_actions.evaluation.suite import write_json
from jepa_actions.resources import recipe_path
from jepa_actions.training import Ema, TrainConfig, TrainingModule, build_model, open_data, use_all_cores
from jepa_actions.training.loaders import make_loader
from jepa_actions.training.optimizer import make_optimizer
from jepa_actions.training.step_profile import WARM_UP, profile

BAR = 0.03


def bare_step_ms(config: TrainConfig, steps: int) -> float:
    """Milliseconds of processor time of a step that only learns."""
    torch.manual_seed(config.seed)
    data = open_data(config.data, config.model.image_size, config.model.cameras)
    model = build_model(config, data)
    module, optimizer = TrainingModule(model, config).train(), make_optimizer(model, config)
    ema = Ema(model, config.train.ema, config.train.ema_final, config.train.steps)
    done, began = WARM_UP + steps, 0.0
    for step, batch in enumerate(make_loader(config, data, model).prefetch(0, done)):
        if step == WARM_UP:
            began = time.process_time()
        loss, _ = module(batch, ema.target, step, config.seed, False)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return 1e3 * (time.process_time() - began) / steps


def middle(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Measure in turns, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vjepa/two_room")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--json")
    options, words = parser.parse_known_args()
    if options.threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(options.threads)
    config = load_config(TrainConfig, ["--config", str(recipe_path(options.recipe)), *words], prog="loop_overhead")
    rows: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as out:
            there = replace(config, out=out)
            wall = profile(there, options.steps, quiet=True)
            cpu = profile(there, options.steps, quiet=True, now=time.process_time)
        bare = bare_step_ms(config, options.steps)
        rows.append({"repeat": repeat, "wall": wall, "cpu": cpu, "bare_ms": bare})
        print(
            f"repeat {repeat}: loop {wall['loop_overhead']:.2%} of the step by the clock on the wall "
            f"({wall['step_ms']:.0f} ms), {cpu['loop_overhead']:.2%} by processor time ({cpu['step_ms']:.0f} ms); "
            f"bare step {bare:.0f} ms",
            flush=True,
        )
    parts = {
        part: statistics.median(row["cpu"]["milliseconds"][part] for row in rows) for part in rows[0]["cpu"]["share"]
    }
    metrics = {
        "loop_overhead_cpu": middle([row["cpu"]["loop_overhead"] for row in rows]),
        "loop_overhead_wall": middle([row["wall"]["loop_overhead"] for row in rows]),
        "step_over_bare": middle([row["cpu"]["step_ms"] / row["bare_ms"] for row in rows]),
        "milliseconds_cpu": parts,
    }
    passed = metrics["loop_overhead_cpu"]["median"] < BAR
    for part, value in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{part:12} {value:9.3f} ms")
    print(
        f"loop overhead by processor time: {metrics['loop_overhead_cpu']['median']:.2%} "
        f"({metrics['loop_overhead_cpu']['low']:.2%} to {metrics['loop_overhead_cpu']['high']:.2%}), "
        f"bar {BAR:.0%}: {'met' if passed else 'MISSED'}"
    )
    if options.json:
        report = {"metrics": metrics, "bar": BAR, "passed": passed, "rows": rows, "recipe": options.recipe}
        report |= {"changes": words, "steps": options.steps, "hardware": hardware(), "commit": commit()}
        write_json(report, options.json)


if __name__ == "__main__":
    main()
