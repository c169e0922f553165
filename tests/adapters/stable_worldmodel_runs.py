"""Run by a Python that has stable-worldmodel 0.1.1 and this package: what its World and solvers make of the adapter.

stable_worldmodel_runs.py CHECK FOLDER prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import stable_worldmodel as swm
import torch
from stable_worldmodel.solver import CEMSolver, GradientSolver, ICEMSolver, MPPISolver
from torch import nn

from jepa_actions import WorldModel
from jepa_actions.adapters.stable_worldmodel import ControlPolicy, CostModel
from jepa_actions.adapters.stable_worldmodel.random_play import RandomPlay, Wander, crossings
from jepa_actions.adapters.stable_worldmodel.two_room import (
    ENV,
    GoalPicture,
    StraightLine,
    Strict,
    cross_room_tasks,
    free_boxes,
    passes,
    position,
)
from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.data.open import load_dataset
from jepa_actions.data.recorder.record import record
from jepa_actions.evaluation.control import Control
from jepa_actions.models import Context, Goal, InverseConfig, Rollout

SPEED, SIZE, BLOCK = 5.0, 64, 5
HERE = [{"state": (40.0, 60.0), "target_state": (80.0, 150.0)}, {"state": (190.0, 30.0), "target_state": (140.0, 90.0)}]


class RedDot(nn.Module):
    """Reads the agent's place off the small picture, where red is not green, and knows all but the wall."""

    distance, subgoal, history = None, None, 1

    def __init__(self) -> None:
        super().__init__()
        ones = np.ones(2, np.float32)
        self.codec = ActionCodec(("x", "y"), BLOCK, 0 * ones, ones / 2, ActionBounds("ball", radius=1.0))
        image = SimpleNamespace(image_size=(SIZE, SIZE))
        self.config = SimpleNamespace(cameras=("image",), backbone=None, encoder=image)
        self.goal_inverse = SimpleNamespace(config=InverseConfig(max_gap=8))

    action_dim = 2 * BLOCK

    @property
    def action_bounds(self) -> Any:
        return self.codec.model_bounds

    def place(self, frames: torch.Tensor) -> torch.Tensor:
        weight = (frames[..., 0, :, :].float() - frames[..., 1, :, :].float()).clamp_min(0)
        centres = (torch.arange(SIZE) + 0.5) * 224 / SIZE - 0.5
        x, y = weight.sum(-2) @ centres, weight.sum(-1) @ centres
        return torch.stack([x, y], dim=-1) / weight.sum((-2, -1))[..., None]

    def encode(self, frames: torch.Tensor, *, past_actions: Any = None) -> Context:
        return Context(self.place(frames[:, -1])[:, None], None)

    def goal(self, frames: torch.Tensor) -> Goal:
        return Goal(self.place(frames)[:, None])

    def rollout(self, context: Context, actions: torch.Tensor, generator: Any = None) -> Rollout:
        moved = SPEED * self.codec.decode(actions, exact=False).sum(-2).cumsum(2)
        return Rollout((context.z[:, None] + moved).unsqueeze(-2), context.z, actions)

    def goal_actions(self, z: torch.Tensor, z_goal: torch.Tensor, k: Any = None, before: Any = None) -> Any:
        raw = ((z_goal - z)[:, 0] / SPEED / BLOCK)[:, None].expand(-1, BLOCK, -1)
        mean = self.codec.encode(raw)
        return SimpleNamespace(mean=mean, std=torch.full_like(mean, 0.1))


def world(count: int, steps: int, *, strict: bool = True, pixels: bool = True) -> swm.World:
    wrappers = [*([partial(Strict, steps=steps)] if strict else []), *([GoalPicture] if pixels else [])]
    return swm.World(
        ENV,
        count,
        image_shape=(224, 224) if pixels else None,
        max_episode_steps=steps,
        pre_wrappers=wrappers,
        add_pixels=pixels,
        disable_env_checker=True,
    )


def here(policy: Any, steps: int = 40) -> list[bool]:
    """Tasks that need no door, strict."""
    some = world(len(HERE), steps)
    some.set_policy(policy)
    options = [{key: np.array(value, np.float32) for key, value in task.items()} for task in HERE]
    found = some.evaluate(episodes=len(HERE), seed=0, options=options, reset_mode="wait")
    return [bool(one) for one in found["episode_successes"]]


def solvers(folder: Path) -> dict[str, Any]:
    """Success of its own solvers with our model, in raw and in model units."""
    found = {}
    small = {"num_samples": 64, "n_steps": 4, "topk": 8}
    makers = {
        "cem": lambda cost: CEMSolver(cost, **small),
        "cem_batched": lambda cost: CEMSolver(cost, batch_size=2, **small),
        "icem": lambda cost: ICEMSolver(cost, **small),
        "mppi": lambda cost: MPPISolver(cost, **small),
        "gradient": lambda cost: GradientSolver(cost, n_steps=10, optimizer_kwargs={"lr": 0.001}),
    }
    config = swm.PlanConfig(horizon=3, receding_horizon=1, action_block=BLOCK)
    for units in ("raw", "model"):
        for name, maker in makers.items():
            cost = CostModel(RedDot(), units=units)
            policy = swm.policy.WorldModelPolicy(maker(cost), config, process=cost.process)
            found[f"{name}_{units}"] = here(policy)
    return found


def controls(folder: Path) -> dict[str, Any]:
    """Success of our planners and of the inverse policy."""
    chosen = {name: Control(name, evaluations=192, horizon=3) for name in ("cem", "icem", "mppi", "gradient")}
    chosen["inverse"] = Control("inverse")
    return {name: here(ControlPolicy(RedDot(), control, steps=40)) for name, control in chosen.items()}


def episodic(folder: Path) -> dict[str, Any]:
    """Its default evaluation: environments end at the goal, at different times, and begin anew."""
    some = world(2, 60, strict=False)
    policy = ControlPolicy(RedDot(), Control("cem", evaluations=192, horizon=3))
    some.set_policy(policy)
    found = some.evaluate(episodes=5, seed=3, options=HERE_ANY)
    return {"successes": found["episode_successes"].tolist(), "together": sorted({d.episodes for d in policy.decided})}


HERE_ANY = {"state": np.array([40.0, 60.0], np.float32)}


def from_data(folder: Path) -> dict[str, Any]:
    """Its evaluation from a data set: starts, goals and goal pictures are those of recorded episodes."""
    play = world(2, 30, strict=False)
    play.set_policy(swm.policy.RandomPolicy(seed=0))
    path = folder / "play.lance"
    play.collect(path, episodes=2, seed=0, options=HERE_ANY, progress=False)
    data = swm.data.load_dataset(str(path))
    some = world(2, 30, strict=False)
    some.set_policy(ControlPolicy(RedDot(), Control("cem", evaluations=192, horizon=3)))
    places = {"state": {"value": "state"}, "goal_state": {"value": "goal_state"}}
    calls = [{"method": f"_set_{name}", "args": {name: spec}} for name, spec in places.items()]
    found = some.evaluate(
        dataset=data, episodes_idx=[0, 1], start_steps=[4, 5], goal_offset=20, eval_budget=30, callables=calls
    )
    return {"successes": found["episode_successes"].tolist()}


def facts(folder: Path) -> dict[str, Any]:
    """What docs/stable_worldmodel.md says of the environment."""
    env = gymnasium.make(ENV, disable_env_checker=True, max_episode_steps=10**9)
    room: Any = env.unwrapped
    _, info = env.reset(seed=0)
    first = {key: np.array(room.variation_space[a][b].value).ravel().tolist() for key, (a, b) in VARYING.items()}
    env.reset(seed=1)
    second = {key: np.array(room.variation_space[a][b].value).ravel().tolist() for key, (a, b) in VARYING.items()}
    env.reset(options={"state": np.array([50.0, 100.0])})
    env.step(np.array([1.0, -0.5], np.float32))
    moved = (position(room) - [50.0, 100.0]).tolist()
    limits = free_boxes(room)
    inside = [edge_reached(env, limits, side) for side in (0, 1)]
    return {
        "info": sorted(info),
        "same": sorted(key for key in VARYING if first[key] == second[key]),
        "moved": moved,
        "boxes": [[corner.tolist() for corner in box] for box in limits],
        "reached": inside,
        "through_the_wall": walks_through(env),
    }


VARYING = {
    name: tuple(name.split("."))
    for name in (
        "agent.color",
        "agent.position",
        "agent.radius",
        "agent.speed",
        "background.color",
        "door.number",
        "door.position",
        "door.size",
        "target.position",
        "wall.axis",
        "wall.thickness",
    )
}


def edge_reached(env: Any, boxes: Any, side: int) -> list[list[float]]:
    """How far a room's agent comes when it pushes into each corner, below the door."""
    found = []
    for corner in ((-1, -1), (1, 1)):
        middle = (boxes[side][0][0] + boxes[side][1][0]) / 2
        env.reset(options={"state": np.array([middle, 150.0], np.float32)})
        for _ in range(60):
            env.step(np.array([corner[0], 0.0], np.float32))
        for _ in range(60):
            env.step(np.array([0.0, corner[1]], np.float32))
        found.append(position(env.unwrapped).tolist())
    return found


def walks_through(env: Any) -> int:
    """Steps that went through the wall in 20 random rooms of any kind, by fast walks."""
    count = 0
    for seed in range(20):
        env.reset(seed=seed, options={"variation": ["all"]})
        rng, wander = np.random.default_rng(seed), Wander(turn=0.1, slowest=0.9)
        for _ in range(150):
            before = position(env.unwrapped)
            env.step(1.5 * wander(None, rng))
            count += not passes(env.unwrapped, before, position(env.unwrapped))
    return count


def strict(folder: Path) -> dict[str, Any]:
    """The straight floor on tasks across the wall, and where the straight line leads through the door."""
    some = world(12, 60, pixels=False)
    tasks = cross_room_tasks(some.envs.envs[0].unwrapped, 10, seed=0)
    chosen = [task.options for task in tasks]
    chosen += [{"state": np.array([80.0, 49.0]), "target_state": np.array([150.0, 49.0])}] * 2
    some.set_policy(StraightLine())
    found = some.evaluate(episodes=12, seed=0, options=chosen, reset_mode="wait")
    info = {key: some.infos[key][:, 0].tolist() for key in ("ever", "at_end", "route_valid")}
    return {"successes": found["episode_successes"].tolist(), **info}


def recorded(folder: Path) -> dict[str, Any]:
    """Random play in the environment, as our reader gives it."""
    room = gymnasium.make(ENV, render_mode="rgb_array", disable_env_checker=True, max_episode_steps=40)
    root = record(RandomPlay(room), Wander(), folder / "play", episodes=3, camera="image", state_of=None)
    data = load_dataset(root)
    walks = [data.episode(i) for i in range(3)]
    frames = data.read_clips(np.arange(3), np.array([[0, 20, 40]] * 3))["observation.images.image"]
    read = RedDot().place(frames).numpy()
    true = np.stack([walk.proprio[[0, 20, 40]] for walk in walks])
    unlike = np.stack([np.abs(np.diff(walk.proprio, axis=0) - SPEED * walk.actions).max(1) for walk in walks])
    return {
        "lengths": data.lengths().tolist(),
        "off": float(np.abs(read - true).max()),
        "longest": max(float(np.linalg.norm(walk.actions, axis=1).max()) for walk in walks),
        "as_commanded": float((unlike < 1e-3).mean()),  # share of steps; against a wall it slides
        "crossings": [crossings(room.unwrapped, walk.proprio) for walk in walks],
    }


def page(folder: Path) -> dict[str, Any]:
    """The code of docs/stable_worldmodel.md, with a model that is at hand."""
    text = (Path(__file__).parents[2] / "docs" / "stable_worldmodel.md").read_text(encoding="utf-8")
    WorldModel.from_pretrained = staticmethod(lambda name: RedDot())
    space: dict[str, Any] = {"__name__": "stable_worldmodel_page"}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "docs/stable_worldmodel.md", "exec"), space)
    return {"decided": len(space["policy"].decided), "solved_by": type(space["world"].policy.solver).__name__}


def main() -> None:
    """Run one check."""
    assert version("stable-worldmodel") == "0.1.1", version("stable-worldmodel")
    checks = (solvers, controls, episodic, from_data, facts, strict, recorded, page)
    check = {one.__name__: one for one in checks}[sys.argv[1]]
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check(Path(sys.argv[2]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
