"""Tasks of a planning protocol: where the agent starts, where it should go, and in which layout."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jepa_actions.envs.two_room import TwoRoomConfig, sample_layouts, sample_positions
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.envs.world import Split, World
from jepa_actions.envs.worlds import make_world
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.protocol import PlanningProtocol

DRAW = 64  # candidates per draw, fixed: more tasks of a seed begin with the same ones


@dataclass(frozen=True, eq=False)
class Tasks:
    """N tasks: states and layouts as the world has them, float32.

    `episode` and `step` say which behaviour the start was cut from, `goal_episode` and `goal_step` the goal (-1: none).
    """

    start: Float[Tensor, "n s"]
    goal: Float[Tensor, "n s"]
    layout: Float[Tensor, "n l"]
    episode: Int[Tensor, "n"]
    step: Int[Tensor, "n"]
    goal_episode: Int[Tensor, "n"]
    goal_step: Int[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: Any) -> "Tasks":
        """The tasks at `rows` (a slice, indices or a mask)."""
        return Tasks(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to(self, device: torch.device | None) -> "Tasks":
        """The same tasks on another device."""
        return Tasks(*(getattr(self, f.name).to(device) for f in fields(self)))


def world_of_protocol(protocol: PlanningProtocol) -> World:
    """The world that a protocol is played in, with the behaviour that its tasks are cut from.

    Raises ConfigError for an environment that is not known, or a setting that is another environment's.
    """
    rate, distractors = protocol.behaviour.crossing_rate, protocol.distractors
    if protocol.env != "two_room" and (rate is not None or protocol.sampler == "cross_room"):
        raise ConfigError(
            f"protocol {protocol.name!r}, env: found {protocol.env!r} with sampler {protocol.sampler} and "
            f"behaviour.crossing_rate {rate}; sampler cross_room and a crossing rate are for two_room"
        )
    if protocol.env != "two_room" and distractors is not None:
        raise ConfigError(
            f"protocol {protocol.name!r}, env: found {protocol.env!r} with distractors {distractors.changes()}; they "
            "are for two_room"
        )
    settings: dict[str, Any] = {} if rate is None else {"crossing_rate": rate}
    if distractors is not None:
        settings["config"] = TwoRoomConfig(distractors=distractors)
    try:
        return make_world(protocol.env, **settings)
    except ConfigError as error:
        raise ConfigError(f"protocol {protocol.name!r}, env: {error}") from error


def make_tasks(protocol: PlanningProtocol, episodes: int, seed: int) -> Tasks:
    """The first `episodes` tasks of a task seed; the same for ever, and more of them begin with the same ones.

    `offset`: one random pair per behaviour episode, the goal `protocol.offset` environment steps after the start.
    `stitched`: start and goal are random states of two episodes of one layout.
    `cross_room`: start uniform in a random room, goal uniform in the other.

    Raises: ConfigError for fewer than one task, or when a protocol yields no unsolved task.
    """
    if episodes < 1:
        raise ConfigError(f"protocol {protocol.name!r}, episodes: found {episodes}, expected at least 1")
    world = world_of_protocol(protocol)
    found: list[Tasks] = []
    draw = 0
    while sum(map(len, found)) < episodes:
        crossing = protocol.sampler == "cross_room"
        tasks = _cross_room(protocol, seed, draw) if crossing else _cut(protocol, world, seed, draw)
        if isinstance(world, TwoRoomWorld):
            tasks = _with_scenery(tasks, world, protocol, seed, draw)
        if protocol.exclude_solved:
            tasks = tasks.take(~world.solved(tasks.start, tasks.goal, protocol.tolerance))
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


def _cut(protocol: PlanningProtocol, world: World, seed: int, draw: int) -> Tasks:
    """Pairs of states of behaviour: of one episode, or of two that follow each other in one layout."""
    settings = protocol.behaviour
    behaviour_seed, generator = _seeds(protocol, seed, draw)
    data = world.behaviour(
        DRAW,
        steps=settings.steps,
        seed=behaviour_seed,
        split=cast(Split, protocol.layouts),
        episodes_per_layout=settings.episodes_per_layout,
    )
    rows = torch.arange(DRAW)
    if protocol.sampler == "offset":
        offset = cast(int, protocol.offset)
        step = torch.randint(settings.steps + 1 - offset, (DRAW,), generator=generator)
        other, later = rows, step + offset
    else:
        step = torch.randint(settings.steps + 1, (DRAW,), generator=generator)
        later = torch.randint(settings.steps + 1, (DRAW,), generator=generator)
        other = _neighbour(rows, settings.episodes_per_layout)
    return Tasks(
        start=data.states[rows, step],
        goal=data.states[other, later],
        layout=data.layouts,
        episode=rows + draw * DRAW,
        step=step,
        goal_episode=other + draw * DRAW,
        goal_step=later,
    ).take((data.layouts[rows] == data.layouts[other]).all(-1) & ((other != rows) | (protocol.sampler == "offset")))


def _neighbour(rows: Int[Tensor, "n"], per_layout: int) -> Int[Tensor, "n"]:
    """The next episode of the same layout, around its group."""
    group = rows // per_layout * per_layout
    size = (len(rows) - group).clamp(max=per_layout)
    return group + (rows - group + 1) % size


def _cross_room(protocol: PlanningProtocol, seed: int, draw: int) -> Tasks:
    _, generator = _seeds(protocol, seed, draw)
    config = TwoRoomConfig()
    wall_x, door_y = sample_layouts(DRAW, cast(Split, protocol.layouts), generator, config)
    right = torch.rand(DRAW, generator=generator) < 0.5
    start = sample_positions(wall_x, door_y, generator, config, right=right)
    goal = sample_positions(wall_x, door_y, generator, config, right=~right)
    none = torch.full((DRAW,), -1)
    return Tasks(start, goal, torch.stack([wall_x, door_y], dim=-1), none, none, none, none)


def _with_scenery(tasks: Tasks, world: TwoRoomWorld, protocol: PlanningProtocol, seed: int, draw: int) -> Tasks:
    """What the distractors show at the start, where no behaviour says it, and at the goal. A stream of its own: places
    and layouts are those of the plain room."""
    words = np.random.SeedSequence([protocol.seed_base, seed, draw, 1]).generate_state(1, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]))
    start = world.with_scenery(tasks.start, generator) if protocol.sampler == "cross_room" else tasks.start
    return replace(tasks, start=start, goal=world.as_goals(tasks.goal, start, generator))


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
    decimal = ("start", "goal", "layout")
    return Tasks(
        **{k: torch.tensor(v, dtype=torch.float32 if k in decimal else torch.int64) for k, v in columns.items()}
    )


def goal_in_other_room(tasks: Tasks) -> Bool[Tensor, "n"]:
    """Whether the way from start to goal leads through the door; two_room only."""
    wall_x = tasks.layout[:, 0]
    return (tasks.start[:, 0] < wall_x) != (tasks.goal[:, 0] < wall_x)
