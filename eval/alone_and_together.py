"""Does what is planned together change a plan? From pictures to raw actions, alone and in a batch of 100.

`python eval/alone_and_together.py --json eval/results/alone_and_together.json`
"""

import argparse
import time
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.evaluation.control import Control, latent_agent, parse_control, world_codec
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.suite import write_json
from jepa_actions.evaluation.tasks import make_tasks, world_of_protocol
from jepa_actions.models import WorldModel

MODELS = {"checkpoints/two_room": "two_room/offset25", "checkpoints/reacher": "reacher/offset25"}
SEARCHES = ("cem", "icem", "mppi", "mppi_classical", "gradient", "hybrid", "random")
HEADS = ("cem:proposals=5", "mppi:proposals=5,fuse=true", "inverse")
BATCH, DECISIONS, EVALUATIONS = 100, 2, 256


def decided(
    model: WorldModel, control: Control, frames: UInt8[Tensor, "d n c h w"], goals: Tensor, codec: Any, first: int = 0
) -> Float[Tensor, "d n k a"]:
    """Raw actions of two decisions on given pictures, the second from what the first has left."""
    agent = latent_agent(control, model, codec, goals, seed=0, history=model.history, budget=DECISIONS + 8, first=first)
    return torch.stack([agent.act(seen) for seen in frames])


def compare(path: str, name: str, threads: int) -> list[dict[str, Any]]:
    """One row per planner: how far the raw actions of a problem are apart, alone and among 100."""
    torch.set_num_threads(threads)
    model, protocol = WorldModel.from_pretrained(path), load_protocol(name)
    world = world_of_protocol(protocol)
    tasks = make_tasks(protocol, BATCH, 0)
    codec = world_codec(model, world)
    frames = torch.stack([world.render(states, tasks.layout) for states in (tasks.start, tasks.start.roll(1, 0))])
    goals = world.render(tasks.goal, tasks.layout)
    rows = []
    for words in (*SEARCHES, *(HEADS if model.goal_inverse is not None else ())):
        budget = "" if words == "inverse" else f"{',' if ':' in words else ':'}evaluations={EVALUATIONS}"
        control = parse_control(words + budget).resolved(model)
        together = decided(model, control, frames, goals, codec)
        alone = [
            decided(model, control, frames[:, [task]], goals[[task]], codec, first=task)[:, 0] for task in range(BATCH)
        ]
        apart = (torch.stack(alone, dim=1) - together).abs().flatten(2).amax(-1)
        rows.append(
            {
                "model": path,
                "planner": words + budget,
                "threads": threads,
                "largest_difference": float(apart.max()),
                "problems_that_differ": int((apart > 0).any(0).sum()),
                "problems_above_1e-4": int((apart > 1e-4).any(0).sum()),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = [row for threads in options.threads for path, name in MODELS.items() for row in compare(path, name, threads)]
    report = {
        "metrics": {"largest_difference": max(row["largest_difference"] for row in rows)},
        "unit": "raw actions: px in two_room, the torque's share in reacher",
        "problems": BATCH,
        "decisions": DECISIONS,
        "rows": rows,
        "hardware": hardware(None),
        "commit": commit(),
        "seconds_total": time.perf_counter() - began,
    }
    if options.json:
        write_json(report, options.json)


if __name__ == "__main__":
    main()
