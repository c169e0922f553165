"""Play the tasks of a protocol: agents, and the loop that lets them act in the simulator and keeps the score."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.two_room import TwoRoom, TwoRoomConfig, TwoRoomState
from jepa_actions.evaluation.oracle import OracleModel
from jepa_actions.evaluation.tasks import Tasks
from jepa_actions.planning import MPC, PlanningModel


class LatentPlanningModel(PlanningModel, Protocol):
    """What a learned model offers: frames become contexts and goals, and its codec knows the raw units."""

    @property
    def codec(self) -> ActionCodec | None: ...

    def encode(
        self, frames: UInt8[Tensor, "p t c h w"], *, past_actions: Float[Tensor, "p t-1 a"] | None = None
    ) -> Any: ...

    def goal(self, frames: UInt8[Tensor, "p c h w"], /) -> Any: ...


class Agent(Protocol):
    """Acts for N tasks at once: `act` gives the raw actions (N, k, 2) of the next k environment steps.

    `observes` says what it is shown: frames (uint8, as rendered), the simulator's state (oracles only), or nothing.
    """

    @property
    def observes(self) -> Literal["frames", "state", "nothing"]: ...

    def act(self, observation: Any) -> Float[Tensor, "n k 2"]: ...


@dataclass
class Decisions:
    """What deciding has cost: per decision of the whole batch, seconds and model evaluations per task."""

    seconds: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)


class _PlanExecutor:
    """Plans every `execute` blocks, never beyond the budget (in blocks), and hands out one block at a time."""

    def __init__(self, mpc: MPC, codec: ActionCodec, budget: int | None) -> None:
        self.mpc, self.codec, self.left, self.decisions = mpc, codec, budget, Decisions()
        self._queue: list[Float[Tensor, "n a"]] = []

    def next_block(self, context: Any, goal: Any, began: float) -> Float[Tensor, "n a"]:
        """The next model action. `context` is a function, called only when it is time to plan."""
        if not self._queue:
            plan = self.mpc.plan(context(), goal, left=self.left)
            self._queue = list(torch.unbind(plan.actions[:, : self.mpc.execute], dim=1))
            self.decisions.evaluations.append(plan.evaluations)
            plan.cost.sum().item()  # waits for the device, so that the clock tells the truth
            self.decisions.seconds.append(time.perf_counter() - began)
        if self.left is not None:
            self.left -= 1
        return self._queue.pop(0)


class LatentAgent:
    """Sees frames only: encodes them, plans in latent space, decodes the plan to raw units.

    Arguments:
        model: encodes, imagines, and carries the codec.
        mpc: plans in the same model.
        goal_frames: (N, 3, H, W) uint8, the goals as pictures.
        history: the last frames (one per model step) that `encode` is given, with the model actions between them.
        budget: model steps until the tasks end; plans never look beyond it.
    """

    observes: Literal["frames"] = "frames"

    def __init__(
        self,
        model: LatentPlanningModel,
        codec: ActionCodec,
        mpc: MPC,
        goal_frames: UInt8[Tensor, "n c h w"],
        *,
        history: int = 1,
        budget: int | None = None,
    ) -> None:
        self.model, self.codec, self.history = model, codec, history
        self._executor = _PlanExecutor(mpc, codec, budget)
        self._frames: list[Tensor] = []
        self._actions: list[Tensor] = []
        began = time.perf_counter()
        with torch.no_grad():
            self._goal = model.goal(goal_frames)
        self.goal_seconds = time.perf_counter() - began

    @property
    def decisions(self) -> Decisions:
        """What deciding has cost so far."""
        return self._executor.decisions

    @torch.no_grad()
    def act(self, observation: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n k 2"]:
        began = time.perf_counter()
        self._frames = [*self._frames, observation][-self.history :]
        self._actions = self._actions[len(self._actions) + 1 - len(self._frames) :]
        action = self._executor.next_block(self._context, self._goal, began)
        self._actions.append(action)
        return self.codec.decode(action)

    def _context(self) -> Any:
        past = torch.stack(self._actions, dim=1) if self._actions else None
        return self.model.encode(torch.stack(self._frames, dim=1), past_actions=past)


class OracleAgent:
    """Sees the simulator's state and plans in the simulator: the ceiling for a planner and its budget."""

    observes: Literal["state"] = "state"

    def __init__(self, model: OracleModel, mpc: MPC, goal: Float[Tensor, "n 2"], *, budget: int | None = None) -> None:
        self.model, self._goal = model, model.goal(goal)
        self._executor = _PlanExecutor(mpc, model.codec, budget)

    @property
    def decisions(self) -> Decisions:
        """What deciding has cost so far."""
        return self._executor.decisions

    @torch.no_grad()
    def act(self, observation: TwoRoomState) -> Float[Tensor, "n k 2"]:
        action = self._executor.next_block(lambda: self.model.encode(observation), self._goal, time.perf_counter())
        return self.model.codec.decode(action)


class RandomAgent:
    """A new action every environment step, uniform over the raw action bounds; one seed per task."""

    observes: Literal["nothing"] = "nothing"

    def __init__(self, bounds: ActionBounds, dim: int, budget: int, seeds: Sequence[int]) -> None:
        numbers = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._actions = torch.stack([_uniform(bounds, dim, budget, generator) for generator in numbers])

    def act(self, observation: None) -> Float[Tensor, "n k 2"]:
        return self._actions


class ZeroAgent:
    """Never moves."""

    observes: Literal["nothing"] = "nothing"

    def __init__(self, tasks: int, dim: int) -> None:
        self._actions = torch.zeros(tasks, 1, dim)

    def act(self, observation: None) -> Float[Tensor, "n k 2"]:
        return self._actions


def _uniform(bounds: ActionBounds, dim: int, steps: int, generator: torch.Generator) -> Float[Tensor, "k a"]:
    unit = torch.rand(steps, dim, generator=generator)
    if bounds.low is not None and bounds.high is not None:
        low, high = torch.tensor(bounds.low), torch.tensor(bounds.high)
        return low + unit * (high - low)
    direction = torch.nn.functional.normalize(torch.randn(steps, dim, generator=generator), dim=-1)
    return float(bounds.radius or 0.0) * unit[:, :1] ** (1 / dim) * direction


@dataclass
class Score:
    """What became of N tasks."""

    ever: Bool[Tensor, "n"]  # solved after any step
    end: Bool[Tensor, "n"]  # solved after the last step
    distance: Float[Tensor, "n"]  # to the goal after the last step, px
    path: Float[Tensor, "n"]  # travelled until solved, or in all, px
    seconds: float  # acting, stepping and rendering


def play(tasks: Tasks, agent: Agent, config: TwoRoomConfig, budget: int) -> Score:
    """Let `agent` act in all tasks, side by side, for exactly `budget` environment steps; nobody stops early."""
    env = TwoRoom(len(tasks), config, tasks.start.device)
    env.set_state(TwoRoomState(tasks.start, tasks.wall_x, tasks.door_y))
    position = tasks.start
    ever = env.success(tasks.goal)
    path = torch.zeros_like(tasks.wall_x)
    observe: dict[str, Callable[[], Any]] = {"frames": env.render, "state": env.get_state, "nothing": lambda: None}
    began, step = time.perf_counter(), 0
    while step < budget:
        observation = observe[agent.observes]()
        for action in torch.unbind(agent.act(observation)[:, : budget - step], dim=1):
            last, position = position, env.step(action).position
            path = path + torch.where(ever, 0.0, (position - last).norm(dim=-1))
            ever = ever | env.success(tasks.goal)
            step += 1
    end = env.success(tasks.goal).cpu()  # waits for the device
    seconds = time.perf_counter() - began
    return Score(ever.cpu(), end, (position - tasks.goal).norm(dim=-1).cpu(), path.cpu(), seconds)
