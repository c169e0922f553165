"""Play the tasks of a protocol: the loop that lets agents act in the simulator and keeps the score."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.envs.world import World
from jepa_actions.evaluation.agents import Agent
from jepa_actions.evaluation.protocol import PlanningProtocol
from jepa_actions.evaluation.tasks import Tasks

WALKED_THROUGH = 1.5  # a step whose shortest way is so many times the straight line went through a wall
SLACK = 1e-3  # in the world's unit: what the length of a shortest way may be off for steps of next to nothing


@dataclass
class Score:
    """What became of N tasks."""

    solved: Bool[Tensor, "n"]  # by the protocol's rule
    ever: Bool[Tensor, "n"]  # solved after any step
    end: Bool[Tensor, "n"]  # solved after the last step
    valid: Bool[Tensor, "n"]  # no step went through a wall
    distance: Float[Tensor, "n"]  # to the goal after the last step, in the world's unit
    path: Float[Tensor, "n"]  # travelled until first solved, or in all
    state: Float[Tensor, "n s"]  # after the last step
    seconds: float  # acting, stepping and rendering
    frames: list[UInt8[Tensor, "k c h w"]]  # of the first `watched` tasks, at every decision and at the end
    solved_by_decision: Bool[Tensor, "m k"]  # whether these tasks were at the goal, or had been, at those moments

    @classmethod
    def joined(cls, parts: Sequence["Score"]) -> "Score":
        """Of all tasks of some parts, one after the other; nobody watched them."""
        rows = ("solved", "ever", "end", "valid", "distance", "path", "state")
        return cls(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in rows},
            seconds=sum(part.seconds for part in parts),
            frames=[],
            solved_by_decision=torch.zeros(0, 0, dtype=torch.bool),
        )


def play(tasks: Tasks, agent: Agent, world: World, protocol: PlanningProtocol, *, watched: int = 0) -> Score:
    """Let `agent` act in all tasks, side by side, for exactly the budget; nobody stops early.

    Args:
        watched: keep pictures of the first so many tasks.
    """
    simulation = world.start(tasks.start, tasks.layout)
    state, record = tasks.start, _Record(tasks, world, protocol)
    observe: dict[str, Callable[[], Any]] = {
        "frames": lambda: world.render(simulation.states, tasks.layout),
        "state": lambda: simulation.states,
        "nothing": lambda: None,
    }
    frames: list[Tensor] = []
    reached: list[Tensor] = []
    began, step = time.perf_counter(), 0
    while step < protocol.budget:
        observation = observe[agent.observes]()
        if watched:
            frames.append(world.render(simulation.states[:watched], tasks.layout[:watched]).cpu())
            reached.append(record.ever[:watched].cpu())
        for action in torch.unbind(agent.act(observation)[:, : protocol.budget - step], dim=1):
            last, state = state, simulation.step(action.to(state))
            record.step(last, state)
            step += 1
    end = world.solved(state, tasks.goal, protocol.tolerance).cpu()  # waits for the device
    seconds = time.perf_counter() - began
    if watched:
        frames.append(world.render(state[:watched], tasks.layout[:watched]).cpu())
        reached.append(record.ever[:watched].cpu())
    rule = {"ever": record.ever, "end": end, "held": record.held}[protocol.rule].cpu()
    valid = record.valid.cpu()
    return Score(
        solved=rule & valid if protocol.route_valid else rule,
        ever=record.ever.cpu(),
        end=end,
        valid=valid,
        distance=world.distance(state, tasks.goal).cpu(),
        path=record.path.cpu(),
        state=state,
        seconds=seconds,
        frames=frames,
        solved_by_decision=torch.stack(reached) if reached else torch.zeros(0, 0, dtype=torch.bool),
    )


class _Record:
    """What is noted after every environment step."""

    def __init__(self, tasks: Tasks, world: World, protocol: PlanningProtocol) -> None:
        self.tasks, self.world, self.protocol = tasks, world, protocol
        self.ever = world.solved(tasks.start, tasks.goal, protocol.tolerance)
        self.held = self.ever & (protocol.hold <= 1)
        self.valid = torch.ones_like(self.ever)
        self.path = torch.zeros(len(tasks), device=tasks.start.device)
        self._streak = self.ever.long()

    def step(self, last: Float[Tensor, "n s"], state: Float[Tensor, "n s"]) -> None:
        moved = self.world.distance(last, state)
        self.path = self.path + torch.where(self.ever, 0.0, moved)
        now = self.world.solved(state, self.tasks.goal, self.protocol.tolerance)
        self.ever = self.ever | now
        self._streak = torch.where(now, self._streak + 1, 0)
        self.held = self.held | (self._streak >= self.protocol.hold)
        if self.protocol.route_valid:
            way = self.world.shortest_path(last, state, self.tasks.layout)
            self.valid = self.valid & (way <= WALKED_THROUGH * moved + SLACK)
