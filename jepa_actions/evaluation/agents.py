"""Agents that act in many tasks at once: planners in latent space, the inverse head by itself, floors and oracles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.world import World
from jepa_actions.evaluation.oracle import OracleModel
from jepa_actions.planning import MPC, PlanningModel, Policy, decision_seed


class LatentPlanningModel(PlanningModel, Protocol):
    """What a learned model offers: frames become contexts and goals, and its codec knows the raw units."""

    @property
    def codec(self) -> ActionCodec | None: ...

    def encode(
        self, frames: UInt8[Tensor, "p t c h w"], *, past_actions: Float[Tensor, "p t-1 a"] | None = None
    ) -> Any: ...

    def goal(self, frames: UInt8[Tensor, "p c h w"], /) -> Any: ...


class Agent(Protocol):
    """Acts for N tasks at once: `act` gives the raw actions (N, k, A) of the next k environment steps.

    `observes` says what it is shown: frames (uint8, as rendered), the simulator's state (oracles and the straight-line
    floor), or nothing.
    """

    @property
    def observes(self) -> Literal["frames", "state", "nothing"]: ...

    def act(self, observation: Any) -> Float[Tensor, "n k a"]: ...


@dataclass
class Decisions:
    """What deciding has cost, per decision of all `tasks`: seconds in all and of them in the encoder, and model
    evaluations per task. `timed_out` says which plans the clock ended, `unsearched` which of them had no time for one
    iteration. `predicted` is the planner's own estimate of the cost of its last plan, per task; infinite where it was
    not searched.
    """

    tasks: int = 1
    seconds: list[float] = field(default_factory=list)
    encoding: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    timed_out: list[bool] = field(default_factory=list)
    unsearched: list[bool] = field(default_factory=list)
    predicted: Float[Tensor, "n"] | None = None


class _PlanExecutor:
    """Plans every `execute` blocks, never beyond the budget (in blocks), and hands out one block at a time."""

    def __init__(self, mpc: MPC, codec: ActionCodec, budget: int | None, timeout_ms: float | None = None) -> None:
        self.mpc, self.codec, self.left, self.timeout_ms = mpc, codec, budget, timeout_ms
        self.decisions = Decisions(len(mpc.seeds))
        self._queue: list[Float[Tensor, "n a"]] = []

    def next_block(self, context: Callable[[], Any], goal: Any) -> Float[Tensor, "n a"]:
        """The next model action. `context` is a function, called only when it is time to plan."""
        if not self._queue:
            began = time.perf_counter()
            present = context()
            encoded = time.perf_counter()
            plan = self.mpc.plan(present, goal, left=self.left, timeout_ms=self.timeout_ms)
            self._queue = list(torch.unbind(plan.actions[:, : self.mpc.execute], dim=1))
            plan.cost.sum().item()  # waits for the device, so that the clock tells the truth
            self.decisions.predicted = plan.cost.cpu()
            self.decisions.evaluations.append(plan.evaluations)
            self.decisions.timed_out.append(plan.timed_out)
            self.decisions.unsearched.append(plan.unsearched)
            self.decisions.encoding.append(encoded - began)
            self.decisions.seconds.append(time.perf_counter() - began)
        if self.left is not None:
            self.left -= 1
        return self._queue.pop(0)


class _Watcher:
    """Keeps the frames and model actions that `encode` is given."""

    def __init__(self, model: LatentPlanningModel, history: int) -> None:
        self.model, self.history = model, history
        self._frames: list[Tensor] = []
        self._actions: list[Tensor] = []

    def see(self, observation: UInt8[Tensor, "n c h w"]) -> None:
        self._frames = [*self._frames, observation][-self.history :]
        self._actions = self._actions[len(self._actions) + 1 - len(self._frames) :]

    def took(self, action: Float[Tensor, "n a"]) -> None:
        self._actions.append(action)

    def context(self) -> Any:
        past = torch.stack(self._actions, dim=1) if self._actions else None
        return self.model.encode(torch.stack(self._frames, dim=1), past_actions=past)


class LatentAgent:
    """Sees frames only: encodes them, plans in latent space, decodes the plan to raw units.

    Arguments:
        model: encodes, imagines, and carries the codec.
        mpc: plans in the same model.
        goal_frames: (N, 3, H, W) uint8, the goals as pictures.
        history: the last frames (one per model step) that `encode` is given, with the model actions between them.
        budget: model steps until the tasks end; plans never look beyond it.
        timeout_ms: real time for each plan, see `MPC.plan`; the encoder's comes on top.
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
        timeout_ms: float | None = None,
    ) -> None:
        self.model, self.codec = model, codec
        self._executor, self._watcher = _PlanExecutor(mpc, codec, budget, timeout_ms), _Watcher(model, history)
        with torch.no_grad():
            self._goal = model.goal(goal_frames)

    @property
    def decisions(self) -> Decisions:
        """What deciding has cost so far."""
        return self._executor.decisions

    @torch.no_grad()
    def act(self, observation: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n k a"]:
        self._watcher.see(observation)
        action = self._executor.next_block(self._watcher.context, self._goal)
        self._watcher.took(action)
        return self.codec.decode(action)


class PolicyAgent:
    """Sees frames only, and acts by a function of the present context and the goal; nothing is searched.

    Arguments:
        policy: `(context, goal, seeds) -> (N, A)` model actions of the next block.
        seeds: one per task; decision number d of a task draws from (seed, d).
    """

    observes: Literal["frames"] = "frames"

    def __init__(
        self,
        model: LatentPlanningModel,
        codec: ActionCodec,
        policy: Policy,
        goal_frames: UInt8[Tensor, "n c h w"],
        *,
        seeds: Sequence[int],
        history: int = 1,
    ) -> None:
        self.model, self.codec, self.policy, self.decisions = model, codec, policy, Decisions(len(goal_frames))
        self._watcher, self._seeds = _Watcher(model, history), list(seeds)
        with torch.no_grad():
            self._goal = model.goal(goal_frames)

    @torch.no_grad()
    def act(self, observation: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n k a"]:
        began = time.perf_counter()
        self._watcher.see(observation)
        context = self._watcher.context()
        encoded = time.perf_counter()
        decision = len(self.decisions.seconds)
        action = self.policy(context, self._goal, [decision_seed(seed, decision) for seed in self._seeds])
        action.sum().item()
        self.decisions.encoding.append(encoded - began)
        self.decisions.seconds.append(time.perf_counter() - began)
        self.decisions.evaluations.append(0)
        self.decisions.timed_out.append(False)
        self.decisions.unsearched.append(False)
        self._watcher.took(action)
        return self.codec.decode(action)


class OracleAgent:
    """Sees the simulator's state and plans in the simulator: the ceiling for a planner and its budget."""

    observes: Literal["state"] = "state"

    def __init__(
        self,
        model: OracleModel,
        mpc: MPC,
        goal: Float[Tensor, "n s"],
        layouts: Float[Tensor, "n l"],
        *,
        budget: int | None = None,
    ) -> None:
        self.model, self._goal, self._layouts = model, model.goal(goal), layouts
        self._executor = _PlanExecutor(mpc, model.codec, budget)

    @property
    def decisions(self) -> Decisions:
        """What deciding has cost so far."""
        return self._executor.decisions

    @torch.no_grad()
    def act(self, observation: Float[Tensor, "n s"]) -> Float[Tensor, "n k a"]:
        action = self._executor.next_block(lambda: self.model.encode(observation, self._layouts), self._goal)
        return self.model.codec.decode(action)


class StraightAgent:
    """Sees the simulator's state and goes straight at the goal, blind to walls: a floor."""

    observes: Literal["state"] = "state"

    def __init__(self, world: World, goal: Float[Tensor, "n s"]) -> None:
        self.world, self._goal = world, goal

    def act(self, observation: Float[Tensor, "n s"]) -> Float[Tensor, "n k a"]:
        return self.world.towards(observation, self._goal)[:, None]


class RandomAgent:
    """A new action every environment step, uniform over the raw action bounds; one seed per task."""

    observes: Literal["nothing"] = "nothing"

    def __init__(self, bounds: ActionBounds, dim: int, budget: int, seeds: Sequence[int]) -> None:
        numbers = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._actions = torch.stack([uniform_actions(bounds, dim, budget, generator) for generator in numbers])

    def act(self, observation: None) -> Float[Tensor, "n k a"]:
        return self._actions


class ZeroAgent:
    """Never moves."""

    observes: Literal["nothing"] = "nothing"

    def __init__(self, tasks: int, dim: int) -> None:
        self._actions = torch.zeros(tasks, 1, dim)

    def act(self, observation: None) -> Float[Tensor, "n k a"]:
        return self._actions


def uniform_actions(bounds: ActionBounds, dim: int, steps: int, generator: torch.Generator) -> Float[Tensor, "k a"]:
    """`steps` raw actions, uniform over box or ball."""
    unit = torch.rand(steps, dim, generator=generator)
    if bounds.low is not None and bounds.high is not None:
        low, high = torch.tensor(bounds.low), torch.tensor(bounds.high)
        return low + unit * (high - low)
    direction = torch.nn.functional.normalize(torch.randn(steps, dim, generator=generator), dim=-1)
    return float(bounds.radius or 0.0) * unit[:, :1] ** (1 / dim) * direction
