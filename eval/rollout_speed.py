"""Cached rollouts of many candidates beside recomputing the whole sequence at each step: seconds, ratio, difference.

    python eval/rollout_speed.py [--kind token adaln ac] [--pairs 5] [--json OUT]

The two run in turns, in one process, on the same weights and inputs; the ratio is the median over pairs. The context's
keys and values are made in every cached run, as they are for every decision.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models import DynamicsConfig, LatentDynamics, make_dynamics
from jepa_actions.training import use_all_cores

KINDS: dict[str, dict[str, Any]] = {
    "token": {"kind": "transformer"},
    "adaln": {"kind": "transformer", "conditioning": "adaln"},
    "ac": {"kind": "ac", "proprio": 7},
}
ACTION, LATENT = 7, 384


def recompute(dynamics: LatentDynamics, z: Tensor, past: list[Tensor], paths: list[Tensor], candidates: int) -> Tensor:
    """Every candidate's whole sequence, context and all, at every step."""
    seen = z.repeat_interleave(candidates, 0)
    before = [x.repeat_interleave(candidates, 0) for x in past]
    for i in range(paths[0].shape[2]):
        given = [torch.cat([x, y.flatten(0, 1)[:, : i + 1]], 1) for x, y in zip(before, paths, strict=True)]
        seen = torch.cat([seen, dynamics(seen, *given)[:, -1:]], dim=1)
    return seen[:, z.shape[1] :].unflatten(0, (-1, candidates))


def cached(dynamics: LatentDynamics, z: Tensor, past: list[Tensor], paths: list[Tensor]) -> Tensor:
    """The context once, then one frame per step and candidate."""
    cache = dynamics.start(z[:, :-1], *past)
    return dynamics.imagine(z[:, -1], paths[0], cache, *paths[1:])


@torch.no_grad()
def measure(name: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One kind of dynamics: paired runs in turns."""
    torch.manual_seed(0)
    side = round(options.tokens**0.5)
    history = options.context + options.horizon
    config = DynamicsConfig(
        width=options.width, depth=options.depth, heads=options.width // 64, history=history, **KINDS[name]
    )
    dynamics = make_dynamics(config, side * side, LATENT, ACTION, grid=(side, side)).to(device).eval()
    for parameter in dynamics.parameters():  # gates that are open, attention that looks somewhere
        parameter.add_(0.02 * torch.randn_like(parameter))
    shape = (1, options.candidates, options.horizon)
    widths = [ACTION, *([config.proprio] if config.proprio else [])]
    z = torch.randn(1, options.context, side * side, LATENT, device=device)
    past = [torch.randn(1, options.context - 1, width, device=device) for width in widths]
    paths = [torch.randn(*shape, width, device=device) for width in widths]
    seconds: dict[str, list[float]] = {"recomputed": [], "cached": []}
    difference = 0.0
    for pair in range(options.pairs + 1):
        found = {}
        for way in ("recomputed", "cached") if pair % 2 else ("cached", "recomputed"):
            _wait(device)
            began = time.perf_counter()
            if way == "cached":
                found[way] = cached(dynamics, z, past, paths)
            else:
                found[way] = recompute(dynamics, z, past, paths, options.candidates)
            _wait(device)
            if pair:  # the first pair warms up
                seconds[way].append(time.perf_counter() - began)
        difference = max(difference, float((found["cached"] - found["recomputed"]).abs().max()))
    ratios = [slow / fast for slow, fast in zip(seconds["recomputed"], seconds["cached"], strict=True)]
    return {
        "speedup": statistics.median(ratios),
        "speedup_lowest": min(ratios),
        "speedup_highest": max(ratios),
        "cached_seconds": statistics.median(seconds["cached"]),
        "recomputed_seconds": statistics.median(seconds["recomputed"]),
        "max_abs_difference": difference,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS))
    for name, default in {
        "candidates": 32,
        "horizon": 5,
        "context": 2,
        "tokens": 256,
        "width": 384,
        "depth": 6,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pairs", type=int, default=5, help="after one that warms up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_all_cores()
    device = torch.device(options.device)
    print(f"{'kind':>6} {'speedup':>8} {'(range)':>13} {'cached s':>9} {'recomputed s':>13} {'difference':>11}")
    metrics = {}
    for name in options.kind:
        row = metrics[name] = measure(name, options, device)
        spread = f"{row['speedup_lowest']:.2f}-{row['speedup_highest']:.2f}"
        print(
            f"{name:>6} {row['speedup']:8.2f} {spread:>13} {row['cached_seconds']:9.2f} "
            f"{row['recomputed_seconds']:13.2f} {row['max_abs_difference']:11.1e}"
        )
    if options.json is not None:
        sizes = {key: value for key, value in vars(options).items() if key not in ("json", "kind")}
        report = {
            "metrics": metrics,
            "sizes": sizes,
            "threads": torch.get_num_threads(),
            "hardware": hardware(device),
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
