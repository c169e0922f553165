"""Tasks of a planning protocol: where the agent starts, where it should go, and in which layout."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jepa_actions.envs.behaviour import generate_episodes
from jepa_actions.envs.two_room import LayoutSplit, TwoRoomConfig, is_success, sample_layouts, sample_positions
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.protocol import PlanningProtocol

DRAW = 64  # candidates per draw, fixed: more tasks of a seed begin with the same ones


@dataclass(frozen=True, eq=False)
class Tasks:
    """N tasks; positions in px, float32. `episode` and `step` say which behaviour they were cut from (-1: none)."""

    start: Float[Tensor, "n 2"]
    goal: Float[Tensor, "n 2"]
    wall_x: Float[Tensor, "n"]
    door_y: Float[Tensor, "n"]
    episode: Int[Tensor, "n"]
    step: Int[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: Any) -> "Tasks":
        """The tasks at `rows` (a slice, indices or a mask)."""
        return Tasks(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to(self, device: torch.device | None) -> "Tasks":
        """The same tasks on another device."""
        return Tasks(*(getattr(self, f.name).to(device) for f in fields(self)))


def env_config(protocol: PlanningProtocol) -> TwoRoomConfig:
    """The geometry that a protocol is played in. Raises ConfigError for an environment that is not known."""
    if protocol.env != "two_room":
        raise ConfigError(f"protocol {protocol.name!r}, env: found {protocol.env!r}, expected two_room")
    return TwoRoomConfig(success_radius=protocol.success_radius)


def make_tasks(protocol: PlanningProtocol, episodes: int, seed: int) -> Tasks:
    """The first `episodes` tasks of a task seed; the same for ever, and more of them begin with the same ones.

    `offset`: one random pair per behaviour episode, the goal `protocol.offset` environment steps after the start.
    `cross_room`: start uniform in a random room, goal uniform in the other.

    Raises: ConfigError for fewer than one task, or when a protocol yields no unsolved task.
    """
    if episodes < 1:
        raise ConfigError(f"protocol {protocol.name!r}, episodes: found {episodes}, expected at least 1")
    config = env_config(protocol)
    sample = _offset_pairs if protocol.sampler == "offset" else _cross_room_pairs
    found: list[Tasks] = []
    draw = 0
    while sum(map(len, found)) < episodes:
        tasks = sample(protocol, config, seed, draw)
        if protocol.exclude_solved:
            tasks = tasks.take(~is_success(tasks.start, tasks.goal, config))
        found.append(tasks)
        draw += 1
        if draw == 8 and sum(map(len, found)) == 0:
            raise ConfigError(
                f"protocol {protocol.name!r}: every task is solved at the start, expected some that are not"
            )
    return Tasks(*(torch.cat([getattr(t, f.name) for t in found])[:episodes] for f in fields(Tasks)))


def _seeds(protocol: PlanningProtocol, seed: int, draw: int) -> tuple[int, torch.Generator]:
    """A seed for behaviour and a generator for choices, mixed from the protocol's base, the task seed and the draw."""
    words = np.random.SeedSequence([protocol.seed_base, seed, draw]).generate_state(2, np.uint32)
    return int(words[0]), torch.Generator().manual_seed(int(words[1]))


def _offset_pairs(protocol: PlanningProtocol, config: TwoRoomConfig, seed: int, draw: int) -> Tasks:
    behaviour, offset = protocol.behaviour, cast(int, protocol.offset)
    behaviour_seed, generator = _seeds(protocol, seed, draw)
    data = generate_episodes(
        DRAW,
        steps=behaviour.steps,
        seed=behaviour_seed,
        crossing_rate=behaviour.crossing_rate,
        layouts=cast(LayoutSplit, protocol.layouts),
        episodes_per_layout=behaviour.episodes_per_layout,
        config=config,
    )
    rows = torch.arange(DRAW)
    step = torch.randint(behaviour.steps + 1 - offset, (DRAW,), generator=generator)
    positions = data.positions
    return Tasks(
        start=positions[rows, step],
        goal=positions[rows, step + offset],
        wall_x=data.wall_x,
        door_y=data.door_y,
        episode=rows + draw * DRAW,
        step=step,
    )


def _cross_room_pairs(protocol: PlanningProtocol, config: TwoRoomConfig, seed: int, draw: int) -> Tasks:
    _, generator = _seeds(protocol, seed, draw)
    wall_x, door_y = sample_layouts(DRAW, cast(LayoutSplit, protocol.layouts), generator, config)
    right = torch.rand(DRAW, generator=generator) < 0.5
    start = sample_positions(wall_x, door_y, generator, config, right=right)
    goal = sample_positions(wall_x, door_y, generator, config, right=~right)
    none = torch.full((DRAW,), -1)
    return Tasks(start, goal, wall_x, door_y, none, none.clone())


def save_tasks(path: str | Path, tasks: Tasks, protocol: PlanningProtocol, seed: int) -> None:
    """Write a manifest: JSON with the protocol's name and hash, the task seed and one row per task."""
    rows = [
        {f.name: getattr(tasks, f.name)[i].tolist() for f in fields(Tasks)} | {"task": i} for i in range(len(tasks))
    ]
    head = {"protocol": protocol.name, "protocol_hash": protocol.hash, "seed": seed}
    Path(path).write_text(json.dumps(head | {"tasks": rows}, indent=1) + "\n", encoding="utf-8")


def load_tasks(path: str | Path, protocol: PlanningProtocol) -> Tasks:
    """Read a manifest back, exactly.

    Raises: DataError for a file that is not a manifest, or whose protocol hash is not that of `protocol`.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
        found, rows = manifest["protocol_hash"], manifest["tasks"]
        columns = {f.name: [row[f.name] for row in rows] for f in fields(Tasks)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"task manifest {path}: not readable ({type(error).__name__}: {error})") from error
    if found != protocol.hash:
        raise DataError(
            f"task manifest {path}: found protocol_hash {found}, expected {protocol.hash} ({protocol.name})"
        )
    whole = ("episode", "step")
    return Tasks(**{k: torch.tensor(v, dtype=torch.int64 if k in whole else torch.float32) for k, v in columns.items()})


def goal_in_other_room(tasks: Tasks) -> Bool[Tensor, "n"]:
    """Whether the way from start to goal leads through the door."""
    return (tasks.start[:, 0] < tasks.wall_x) != (tasks.goal[:, 0] < tasks.wall_x)


def shortest_path(tasks: Tasks, config: TwoRoomConfig) -> Float[Tensor, "n"]:
    """Length in px of the shortest way from start to goal: straight, or through the door.

    Through the door the way crosses both faces of the wall somewhere in the opening; the crossings are searched on a
    grid of 0.25 px, so the length is at most 0.02 px too long.
    """
    straight = (tasks.goal - tasks.start).norm(dim=-1)
    left_start = tasks.start[:, 0] < tasks.wall_x
    half = config.wall_width / 2
    opening = torch.linspace(-config.door_half_width, config.door_half_width, 8 * config.door_half_width + 1)
    y = tasks.door_y[:, None] + opening.to(tasks.start)
    side = torch.where(left_start, -half, half)
    near, far = (torch.stack([(tasks.wall_x + sign * side)[:, None].expand_as(y), y], dim=-1) for sign in (1.0, -1.0))
    first = (near - tasks.start[:, None]).norm(dim=-1)
    middle = (far[:, None] - near[:, :, None]).norm(dim=-1)
    last = (tasks.goal[:, None] - far).norm(dim=-1)
    through = (first[:, :, None] + middle + last[:, None]).amin(dim=(1, 2))
    return torch.where(goal_in_other_room(tasks), through, straight)
