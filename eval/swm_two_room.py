"""stable-worldmodel's own TwoRoom-v1, its rendering, its `World.evaluate`, strict: at the goal after the last step, by
a route that no wall bars. In an environment that has it (docs/stable_worldmodel.md):

    python eval/swm_two_room.py record --out DATA                  # random play, for recipes/swm and recipes/goals
    python eval/swm_two_room.py evaluate --model M --planner cem:evaluations=768 --json OUT
    python eval/swm_two_room.py evaluate --model M --solver cem    # the same model in stable-worldmodel's own solver

Tasks: start uniform in one room, goal uniform in the other, its default room and speed. Floors: random actions, and
straight at the goal. A row per task.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from jepa_actions import WorldModel
from jepa_actions.adapters.stable_worldmodel import ControlPolicy, CostModel
from jepa_actions.adapters.stable_worldmodel.random_play import RandomPlay, Wander, crossings
from jepa_actions.adapters.stable_worldmodel.two_room import (
    ENV,
    GoalPicture,
    RoomTask,
    StraightLine,
    Strict,
    cross_room_tasks,
)
from jepa_actions.data.open import load_dataset
from jepa_actions.data.recorder.record import record
from jepa_actions.evaluation import Control, parse_control
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import wilson_interval

SIZE = 224  # px: what the environment draws; the adapter makes it the model's size
SCORES = ("ever", "at_end", "route_valid")


def main() -> None:
    """Record or evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("record", help="random play into a LeRobot data set")
    play.add_argument("--out", type=Path, required=True, help="a new folder")
    play.add_argument("--episodes", type=int, default=560)
    play.add_argument("--steps", type=int, default=200)
    play.add_argument("--size", type=int, default=64, help="px; the model's")
    play.add_argument("--seed", type=int, default=0)
    score = commands.add_parser("evaluate", help="World.evaluate, strict")
    score.add_argument("--model", required=True)
    score.add_argument("--planner", default="cem", help="as of eval/planning.py")
    score.add_argument("--solver", choices=("cem", "icem", "mppi"), help="stable-worldmodel's, with its defaults")
    score.add_argument("--tasks", type=int, default=100, help="per seed")
    score.add_argument("--seeds", type=int, default=3)
    score.add_argument("--steps", type=int, default=100, help="of an episode: World's own default")
    score.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.command == "record":
        write_play(options)
        return
    report = evaluate(options)
    shown = {key: report[key] for key in ("metrics", "floors", "ci95", "seconds")}
    print(json.dumps(shown, indent=1))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def write_play(options: argparse.Namespace) -> None:
    """Random play, and how often it crosses."""
    import stable_worldmodel  # noqa: F401  registers the environment

    room = gymnasium.make(ENV, render_mode="rgb_array", disable_env_checker=True, max_episode_steps=options.steps)
    began = time.perf_counter()
    env = RandomPlay(room, options.size)
    record(env, Wander(), options.out, episodes=options.episodes, seed=options.seed, camera="image", state_of=None)
    data = load_dataset(options.out)
    walks = [data.episode(i).proprio for i in range(len(data))]
    crossed = [crossings(room.unwrapped, walk) > 0 for walk in walks if walk is not None]
    print(
        f"{options.out}: {len(data)} episodes of {options.steps} steps in {time.perf_counter() - began:.0f} s; "
        f"{np.mean(crossed):.2f} of them cross the wall"
    )


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """A report for JSON, of a model and of its floors."""
    began = time.perf_counter()
    model = WorldModel.from_pretrained(options.model)
    control = parse_control(options.planner)
    played = [play_seed(options, seed, model, control) for seed in range(options.seeds)]
    seconds = time.perf_counter() - began
    floors = {
        name: [play_seed(options, seed, name) for seed in range(options.seeds)] for name in ("random", "straight")
    }
    rows = [row for rows in played for row in rows]
    strict = sum(row["success"] for row in rows)
    return {
        "metrics": summary(rows),
        "floors": {name: summary([row for rows in found for row in rows]) for name, found in floors.items()},
        "ci95": {"success_rate": wilson_interval(strict, len(rows))},
        "per_seed": [{"seed": seed, **summary(rows)} for seed, rows in enumerate(played)],
        "episodes": len(rows),
        "seeds": options.seeds,
        "steps": options.steps,
        "seconds": seconds,
        "seconds_total": time.perf_counter() - began,
        "model": options.model,
        "decides": f"stable-worldmodel {options.solver}" if options.solver else control.resolved(model).describe(),
        "environment": {"id": ENV, "stable-worldmodel": version("stable-worldmodel"), "tasks": "cross_room"},
        "hardware": hardware(),
        "commit": commit(),
        "rows": rows,
        "floor_rows": {name: [row for rows in found for row in rows] for name, found in floors.items()},
    }


def play_seed(
    options: argparse.Namespace, seed: int, player: WorldModel | str, control: Control | None = None
) -> list[dict[str, Any]]:
    """One row per task of a seed, all played side by side through `World.evaluate`."""
    import stable_worldmodel as swm

    seen = isinstance(player, WorldModel)
    strict = partial(Strict, steps=options.steps)
    world = swm.World(
        ENV,
        options.tasks,
        image_shape=(SIZE, SIZE) if seen else None,
        max_episode_steps=options.steps,
        pre_wrappers=[strict, GoalPicture] if seen else [strict],
        add_pixels=seen,
        disable_env_checker=True,
    )
    tasks = cross_room_tasks(world.envs.envs[0].unwrapped, options.tasks, seed)
    world.set_policy(policy_of(options, seed, player, control))
    found = world.evaluate(
        episodes=options.tasks, seed=seed, options=[task.options for task in tasks], reset_mode="wait"
    )
    rows = [row_of(seed, number, task, world.infos) for number, task in enumerate(tasks)]
    solved = [bool(one) for one in found["episode_successes"]]
    if solved != [row["success"] for row in rows]:
        raise SystemExit(f"World.evaluate counts {sum(solved)} successes, expected those of the rows")
    world.close()
    return rows


def policy_of(options: argparse.Namespace, seed: int, player: WorldModel | str, control: Control | None) -> Any:
    """What `World.set_policy` takes."""
    import stable_worldmodel as swm
    from stable_worldmodel.solver import CEMSolver, ICEMSolver, MPPISolver

    if player == "random":
        return swm.policy.RandomPolicy(seed=seed)
    if isinstance(player, str):
        return StraightLine()
    if options.solver is None:
        return ControlPolicy(player, control, seed=seed, steps=options.steps)
    solver = {"cem": CEMSolver, "icem": ICEMSolver, "mppi": MPPISolver}[options.solver]
    cost = CostModel(player, control)
    config = swm.PlanConfig(horizon=5, receding_horizon=1, action_block=cost.codec.block)
    return swm.policy.WorldModelPolicy(solver(cost, seed=seed), config, process=cost.process)


def row_of(seed: int, number: int, task: RoomTask, info: dict[str, Any]) -> dict[str, Any]:
    """What became of a task."""
    scores = {key: bool(info[key][number, 0]) for key in SCORES}
    return {
        "seed": seed,
        "task": number,
        "start": [round(x, 2) for x in task.start],
        "goal": [round(x, 2) for x in task.goal],
        "success": scores["at_end"] and scores["route_valid"],
        **scores,
        "final_distance": round(float(info["distance_to_target"][number, 0]), 3),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of the rows, and the mean distance left."""
    shares = {"success_rate": "success", "success_rate_ever": "ever", "success_rate_end": "at_end"}
    found = {name: float(np.mean([row[key] for row in rows])) for name, key in shares.items()}
    found["route_valid"] = float(np.mean([row["route_valid"] for row in rows]))
    return found | {"mean_final_distance": float(np.mean([row["final_distance"] for row in rows]))}


if __name__ == "__main__":
    main()
