"""Training dynamics and inverse head from stored latents beside encoding every batch: steps per second, ratio, losses.

    python eval/latent_cache_speed.py --data D [--tokens pooled patch] [--steps 30] [--json OUT]

One frozen encoder (random weights), two copies of everything that learns, the same seed, the same batches: a step of
one, then the same step of the other. A step is what training does, reading included: for the encoding side from frames
that were decoded, resized and put into memory before (`data.cache: memory`), for the other from the cache's memory map.
Nothing is prepared in the background. The ratio is that of the median seconds; the seconds of a cached step are split
into reading, forward, backward and the update (clipping, AdamW, EMA).
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from jepa_actions.config import load_config
from jepa_actions.data import ClipIndex, ClipLoader
from jepa_actions.evaluation import commit, hardware
from jepa_actions.resources import recipe_path
from jepa_actions.training import Ema, TrainConfig, TrainingModule, build_model, learning_rate, open_data, use_all_cores
from jepa_actions.training.latents import encode_latents
from jepa_actions.training.optimizer import make_optimizer

PARTS = ("read", "forward", "backward", "update")
Tokens = Literal["pooled", "patch"]


class Side:
    """A copy of what learns, with where its batches come from."""

    def __init__(self, config: TrainConfig, module: TrainingModule, loader: ClipLoader, device: torch.device) -> None:
        self.config, self.module, self.loader, self.device = config, module, loader, device
        self.ema = Ema(module.model, config.train.ema, config.train.ema_final, config.train.steps)
        self.ema.target.to(device)
        self.optimizer = make_optimizer(module.model, config)
        self.learned = [weight for weight in module.parameters() if weight.requires_grad]
        module.train()

    def step(self, step: int) -> tuple[float, dict[str, float]]:
        """One training step: its loss and the seconds of its parts."""
        clock = [self._now()]
        torch.manual_seed(self.config.seed * 1_000_003 + step)
        batch = self.loader.batch(step).to(self.device)
        clock.append(self._now())
        loss, _ = self.module(batch, self.ema.target, step, self.config.seed, False)
        clock.append(self._now())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config.train) * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clock.append(self._now())
        torch.nn.utils.clip_grad_norm_(self.learned, self.config.train.clip)
        self.optimizer.step()
        self.ema.update(step)
        value = float(loss.detach())
        clock.append(self._now())
        return value, {part: after - before for part, (before, after) in zip(PARTS, pairwise(clock), strict=True)}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def recipe(options: argparse.Namespace, tokens: Tokens) -> TrainConfig:
    """The bar's recipe on the given data."""
    argv = ["--config", str(recipe_path("frozen/vit_small")), "--data.path", options.data]
    argv += ["--model.cameras", f"[{options.camera}]", "--model.backbone.tokens", tokens]
    argv += ["--model.backbone.weights", "random", "--train.batch_size", str(options.batch)]
    argv += ["--train.steps", str(options.steps)]  # warm-up and decay within the steps that are compared
    config = load_config(TrainConfig, argv, prog="latent_cache_speed")
    if options.source == "proprio_difference":
        config = replace(config, data=replace(config.data, action=replace(config.data.action, source=options.source)))
    return config


def measure(
    options: argparse.Namespace, tokens: Tokens, steps: int, device: torch.device, folder: Path
) -> dict[str, Any]:
    """Both sides in turns."""
    config = recipe(options, tokens)
    torch.manual_seed(config.seed)
    data = open_data(config.data, config.model.image_size, config.model.cameras)
    model = build_model(config, data).to(device)
    segments = [segment for segment in data.train if segment.episode < options.episodes]
    index = ClipIndex(segments, frames=config.data.frames, block=config.data.block, stride=config.data.stride)
    began = time.perf_counter()
    store = encode_latents(model, data.dataset, folder, episodes=index.episodes().tolist())
    encoding = time.perf_counter() - began
    size = sum(shard.size for shard in store.index.shards)
    loaders = {
        "encoding": ClipLoader(
            data.dataset, index, data.codec, batch_size=options.batch, seed=config.seed, cache="memory"
        ),
        "cached": ClipLoader(
            data.dataset, index, data.codec, batch_size=options.batch, seed=config.seed, latents=store
        ),
    }
    sides = {
        name: Side(config, TrainingModule(copy.deepcopy(model), config), loader, device)
        for name, loader in loaders.items()
    }
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    losses: dict[str, list[float]] = {name: [] for name in sides}
    for step in range(steps):
        for name in sorted(sides, reverse=bool(step % 2)):
            loss, parts = sides[name].step(step)
            losses[name].append(loss)
            seconds[name].append(parts)
    return {
        "frames": int(store.lengths().sum()),
        "latents_mb": size / 1e6,
        "encoding_once_seconds": encoding,
        **compare({name: rows[1:] for name, rows in seconds.items()}, losses),  # the first step warms up
    }


def compare(seconds: dict[str, list[dict[str, float]]], losses: dict[str, list[float]]) -> dict[str, Any]:
    """The ratio, each side's steps per second, the parts of a step in milliseconds, and the losses."""
    whole = {name: [sum(row.values()) for row in rows] for name, rows in seconds.items()}
    median = {name: statistics.median(rows) for name, rows in whole.items()}
    ratios = [slow / fast for slow, fast in zip(whole["encoding"], whole["cached"], strict=True)]
    pairs = list(zip(losses["encoding"], losses["cached"], strict=True))
    return {
        "ratio": median["encoding"] / median["cached"],
        "ratio_lowest_pair": min(ratios),
        "ratio_highest_pair": max(ratios),
        "encoding_steps_per_second": 1 / median["encoding"],
        "cached_steps_per_second": 1 / median["cached"],
        "milliseconds": {
            name: {part: 1e3 * statistics.median(row[part] for row in rows) for part in PARTS}
            for name, rows in seconds.items()
        },
        "loss_difference_relative": max(abs(one - two) / abs(one) for one, two in pairs),
        "loss_difference_absolute": max(abs(one - two) for one, two in pairs),
        "losses": losses,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, help="a LeRobot data set: a folder or a Hub id")
    parser.add_argument("--camera", default="observation.images.exterior")
    parser.add_argument("--source", choices=["action", "proprio_difference"], default="proprio_difference")
    parser.add_argument("--tokens", nargs="+", choices=["pooled", "patch"], default=["pooled", "patch"])
    parser.add_argument("--steps", type=int, default=30, help="with pooled tokens; a third of them with patches")
    parser.add_argument("--batch", type=int, default=8, help="clips of four frames")
    parser.add_argument("--episodes", type=int, default=4, help="the first so many, to encode fewer frames")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_all_cores()
    device = torch.device(options.device)
    metrics = {}
    with tempfile.TemporaryDirectory() as folder:
        for tokens in options.tokens:
            steps = options.steps if tokens == "pooled" else max(2, options.steps // 3)
            row = metrics[tokens] = measure(options, tokens, steps, device, Path(folder))
            print(
                f"{tokens:>6}: {row['ratio']:.1f} times ({row['ratio_lowest_pair']:.1f} to "
                f"{row['ratio_highest_pair']:.1f}), {row['cached_steps_per_second']:.1f} against "
                f"{row['encoding_steps_per_second']:.2f} steps/s; losses within {row['loss_difference_relative']:.1e}; "
                + ", ".join(f"{part} {ms:.1f}" for part, ms in row["milliseconds"]["cached"].items())
                + " ms"
            )
    if options.json is not None:
        sizes = {
            "batch": options.batch,
            "frames_per_clip": 4,
            "steps": options.steps,
            "episodes": options.episodes,
            "camera": options.camera,
        }
        report = {
            "metrics": metrics,
            "sizes": sizes,
            "data": Path(options.data).name,
            "threads": torch.get_num_threads(),
            "hardware": hardware(device),
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
