"""Our planners and policies as a policy of stable-worldmodel's `World`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.adapters.stable_worldmodel.cost_model import continuous_codec
from jepa_actions.adapters.stable_worldmodel.pictures import PLACE, Pictures
from jepa_actions.data import ActionBounds
from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.evaluation.control import POLICIES, Control, make_cost, make_policy, make_proposals
from jepa_actions.planning import MPC, decision_seed

SLACK = 1e-4  # of a bound: what rounding may add


@dataclass(frozen=True)
class Decided:
    """One decision: for how many episodes, its seconds and of them the encoder's, model evaluations of each episode."""

    episodes: int
    seconds: float
    encoding: float
    evaluations: int


@dataclass
class _Episode:
    """What is remembered of one environment's episode."""

    step: int  # as its last info counts
    goal: UInt8[Tensor, "c h w"]
    frames: list[UInt8[Tensor, "c h w"]] = field(default_factory=list)  # the last ones, a model step apart
    past: list[Float[Tensor, "ba"]] = field(default_factory=list)  # model actions between them
    blocks: list[Float[Tensor, "ba"]] = field(default_factory=list)  # decided, not begun
    raw: list[Float[Tensor, "a"]] = field(default_factory=list)  # of the present block, not executed
    done: int = 0  # environment steps executed
    decisions: int = 0  # of a policy


class ControlPolicy:
    """Decides as a `Control` says, from pictures alone, for `World.set_policy`.

        world = swm.World("swm/TwoRoom-v1", 8, image_shape=(224, 224), pre_wrappers=[GoalPicture])
        world.set_policy(ControlPolicy(model, parse_control("cem:evaluations=768")))
        world.evaluate(episodes=8, seed=0)

    All environments whose block is over decide together, each with its own warm start, frames and seed: also where they
    reset one by one, and where an episode ends in the middle of a block.

    Arguments:
        model: with one camera and continuous actions, in the environment's units.
        control: how to decide; a default `Control` when None.
        seed: environment i draws from (seed, i).
        steps: environment steps of an episode, where known: no plan looks further.
        history: frames given to the model; its own number when None.
        device: where candidates are made; the device of the model's bounds when None.

    Raises: ConfigError for a model that the control or the infos do not fit, or a control with `timeout_ms`.
    """

    def __init__(
        self,
        model: Any,
        control: Control | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        history: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.model, self.codec, self.pictures = model, continuous_codec(model), Pictures(model)
        self.control = (control or Control()).resolved(model)
        if self.control.timeout_ms is not None:
            raise ConfigError("ControlPolicy: found a control with timeout_ms, expected none: a World has no clock")
        self.history = model.history if history is None else history
        self.steps, self.device, self.decided = steps, device, list[Decided]()
        self._seed = seed
        self._policy = make_policy(self.control, model) if self.control.planner in POLICIES else None
        self._mpc: MPC | None = None
        self._episodes: list[_Episode | None] = []
        self._goals: dict[tuple[int, ...], Any] = {}

    # -- what World calls -----------------------------------------------------------------------------------------

    def set_env(self, env: Any) -> None:
        """Take the place of a pool's policy.

        Raises: ConfigError for actions that are not the model's: of another width, or a smaller box than its bounds.
        """
        check_actions(self.codec.bounds, self.codec.names, env.single_action_space)
        count = int(env.num_envs)
        self._episodes, self._goals = [None] * count, {}
        if self._policy is None:
            horizon, execute = self.control.steps
            self._mpc = MPC(
                self.control.make_planner(),
                self.model,
                make_cost(self.control, self.model),
                horizon=horizon,
                execute=execute,
                seeds=[decision_seed(self._seed, row) for row in range(count)],
                warm_start=self.control.warm,
                proposals=make_proposals(self.control, self.model),
                device=self.device,
            )

    @torch.no_grad()
    def get_action(self, info: Mapping[str, Any], **_: Any) -> Float[np.ndarray, "n a"]:
        """The next raw actions; not a number for environments that are over, which nobody steps.

        Raises: ConfigError before `set_env`; ShapeError for an info without what is needed.
        """
        if not self._episodes:
            raise ConfigError("ControlPolicy: found no environments, expected World.set_policy(policy) first")
        steps = _column(info, "step_idx").astype(int)
        ended, cut = (_column(info, key).astype(bool) for key in ("terminated", "truncated"))  # a data set's: floats
        over = ended | cut
        alive = [row for row in range(len(self._episodes)) if not over[row]]
        self._begin([row for row in alive if self._begins(row, int(steps[row]))], info, steps)
        due = [row for row in alive if not self._episode(row).raw]
        self._see(due, info)
        self._decide([row for row in due if not self._episode(row).blocks])
        for row in due:
            episode = self._episode(row)
            block = episode.blocks.pop(0)
            episode.past.append(block)
            episode.raw = list(self.codec.decode(block).cpu())
        out = np.full((len(self._episodes), len(self.codec.names)), np.nan, dtype=np.float32)
        for row in alive:
            episode = self._episode(row)
            out[row] = episode.raw.pop(0).numpy()
            episode.step, episode.done = int(steps[row]), episode.done + 1
        return out

    # -- episodes -------------------------------------------------------------------------------------------------

    def _episode(self, row: int) -> _Episode:
        found = self._episodes[row]
        assert found is not None  # `_begin` came first
        return found

    def _begins(self, row: int, step: int) -> bool:
        """Whether this is an episode's first info. An evaluation from a data set counts from where that was, once."""
        episode = self._episodes[row]
        return episode is None or step == 0 or step not in (1, episode.step + 1)

    def _begin(self, rows: Sequence[int], info: Mapping[str, Any], steps: np.ndarray) -> None:
        if not rows:
            return
        for row, goal in zip(rows, self._pictures(info, "goal", rows), strict=True):
            self._episodes[row] = _Episode(int(steps[row]), goal)
        self._goals = {}
        if self._mpc is not None:
            mask = torch.zeros(len(self._episodes), dtype=torch.bool)
            mask[list(rows)] = True
            self._mpc.reset(mask)

    def _see(self, rows: Sequence[int], info: Mapping[str, Any]) -> None:
        """The present frame of environments whose block is over."""
        if not rows:
            return
        for row, frame in zip(rows, self._pictures(info, "pixels", rows), strict=True):
            episode = self._episode(row)
            episode.frames = [*episode.frames, frame][-self.history :]
            episode.past = episode.past[len(episode.past) + 1 - len(episode.frames) :]

    def _pictures(self, info: Mapping[str, Any], key: str, rows: Sequence[int]) -> UInt8[Tensor, "n c h w"]:
        """The last pictures of some environments."""
        if key in info:
            info = {key: info[key][list(rows)]}
        return self.pictures.read(info, key)[:, -1]

    # -- deciding -------------------------------------------------------------------------------------------------

    def _decide(self, rows: Sequence[int]) -> None:
        """Plans for some environments; those with as many frames and steps left are planned together."""
        groups: dict[tuple[int, int | None], list[int]] = {}
        for row in rows:
            groups.setdefault((len(self._episode(row).frames), self._left(row)), []).append(row)
        for (_, left), some in groups.items():
            began = time.perf_counter()
            context, goal = self._context(some), self._goal(some)
            encoded = time.perf_counter()
            evaluations = 0
            if self._policy is not None:
                plans = self._policy(context, goal, self._seeds(some))[:, None]
            else:
                assert self._mpc is not None
                plan = self._mpc.plan(context, goal, episodes=some, left=left)
                plans, evaluations = plan.actions[:, : self._mpc.execute], plan.evaluations
            plans = plans.cpu()  # waits for the device, so that the clock tells the truth
            for row, blocks in zip(some, plans, strict=True):
                self._episode(row).blocks = list(blocks)
            now = time.perf_counter()
            self.decided.append(Decided(len(some), now - began, encoded - began, evaluations))

    def _seeds(self, rows: Sequence[int]) -> list[int]:
        """Of a policy's next decision in some environments; what it is called for counts as made."""
        seeds = [decision_seed(decision_seed(self._seed, row), self._episode(row).decisions) for row in rows]
        for row in rows:
            self._episode(row).decisions += 1
        return seeds

    def _left(self, row: int) -> int | None:
        """Model steps until the episode ends, as far as a plan would look."""
        if self.steps is None or self._mpc is None:
            return None
        left = -(-(self.steps - self._episode(row).done) // self.codec.block)
        return max(1, min(left, self._mpc.horizon))

    def _context(self, rows: Sequence[int]) -> Any:
        episodes = [self._episode(row) for row in rows]
        frames = torch.stack([torch.stack(episode.frames) for episode in episodes]).to(self._home)
        past = [torch.stack(episode.past) for episode in episodes if episode.past]
        return self.model.encode(frames, past_actions=torch.stack(past).to(self._home) if past else None)

    def _goal(self, rows: Sequence[int]) -> Any:
        key = tuple(rows)
        if key not in self._goals:
            frames = torch.stack([self._episode(row).goal for row in rows])
            self._goals[key] = self.model.goal(frames.to(self._home))
        return self._goals[key]

    @property
    def _home(self) -> torch.device:
        """Where the model is."""
        return next((weight.device for weight in self.model.parameters()), torch.device("cpu"))


def check_actions(bounds: ActionBounds, names: Sequence[str], space: Any) -> None:
    """Raise ConfigError unless an environment's actions are as wide as the model's, and its box holds their bounds.

    An environment cuts what lies outside its box: what was planned would not be what happens.
    """
    shape = None if getattr(space, "low", None) is None else tuple(space.shape)
    if shape != (len(names),):
        raise ConfigError(
            f"ControlPolicy: found the action space {space}, expected a Box of {len(names)} numbers: {', '.join(names)}"
        )
    edge = np.full(len(names), bounds.radius or 0.0)
    lowest, highest = (-edge, edge) if bounds.low is None else (np.array(bounds.low), np.array(bounds.high))
    room = SLACK * np.maximum(space.high - space.low, 0)
    for place, name in enumerate(names):
        if lowest[place] < space.low[place] - room[place] or highest[place] > space.high[place] + room[place]:
            raise ConfigError(
                f"ControlPolicy: the model's bounds of {name} are [{lowest[place]:g}, {highest[place]:g}], expected "
                f"inside the environment's, [{space.low[place]:g}, {space.high[place]:g}]: trained in these units?"
            )


def _column(info: Mapping[str, Any], key: str) -> np.ndarray:
    """One number per environment. Raises ShapeError where there is none."""
    if key not in info:
        raise ShapeError(f"{PLACE}: found no {key!r} among {', '.join(info)}, expected the infos of a World")
    values = np.asarray(info[key])
    first: np.ndarray = values.reshape(len(values), -1)[:, 0]
    return first
