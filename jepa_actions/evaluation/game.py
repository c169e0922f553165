"""The tasks of an evaluation, who may play them, and what became of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.data import ActionCodec
from jepa_actions.envs.world import World
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import (
    Agent,
    Decisions,
    LatentAgent,
    LatentPlanningModel,
    PolicyAgent,
    RandomAgent,
    StraightAgent,
    ZeroAgent,
)
from jepa_actions.evaluation.control import Control, latent_agent, oracle_agent, world_codec
from jepa_actions.evaluation.play import Score, play
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.tasks import Tasks, make_tasks, world_of_protocol
from jepa_actions.planning import decision_seed

MakeAgent = Callable[[Tasks, int, int], Agent]  # for tasks of a task seed, from this number on


@dataclass
class Round:
    """The tasks of one task seed, played."""

    tasks: Tasks
    score: Score
    decisions: list[Decisions] = field(default_factory=list)  # of learned models, one per batch of tasks


@dataclass(frozen=True)
class Game:
    """The tasks of a protocol and what plays them.

    Arguments:
        control: resolved for the model.
        tasks: one per task seed.
        history: frames that a model is given.
        batch: tasks that a learned model plays together; 0 is all.
        device: of the environment and the candidates.
    """

    protocol: PlanningProtocol
    world: World
    control: Control
    codec: ActionCodec
    tasks: list[Tasks]
    history: int = 1
    batch: int = 0
    device: torch.device | None = None

    @classmethod
    def of(
        cls,
        model: LatentPlanningModel,
        protocol: PlanningProtocol | str,
        control: Control | None,
        *,
        episodes: int | None,
        seeds: int,
        history: int,
        batch: int | None = None,
        device: torch.device | None = None,
    ) -> "Game":
        """Draw the tasks; arguments and errors as `evaluate_planning`."""
        protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
        if seeds < 1 or history < 1 or (batch is not None and batch < 1):
            raise ConfigError(
                f"evaluate_planning: found seeds {seeds}, history {history} and batch {batch}, expected at least 1 of "
                "each"
            )
        resolved = (control or Control()).resolved(model)
        if resolved.timeout_ms is not None and batch not in (None, 1):
            raise ConfigError(
                f"evaluate_planning: found timeout_ms {resolved.timeout_ms:g} and batch {batch}, expected a batch of "
                "1: the clock is one task's"
            )
        together = 1 if resolved.timeout_ms is not None else batch or 0
        count = protocol.episodes if episodes is None else episodes
        world = world_of_protocol(protocol)
        codec = world_codec(model, world)
        tasks = [make_tasks(protocol, count, seed).to(device) for seed in range(seeds)]
        return cls(protocol, world, resolved, codec, tasks, history, together, device)

    @property
    def blocks(self) -> int:
        """Model steps of the budget."""
        return -(-self.protocol.budget // self.codec.block)

    @property
    def episodes(self) -> int:
        """Tasks of all task seeds."""
        return sum(map(len, self.tasks))

    @cached_property
    def ways(self) -> list[Float[Tensor, "n"]]:
        """Length of the shortest way of every task, per task seed, in the world's unit."""
        return [self.world.shortest_path(some.start, some.goal, some.layout).cpu() for some in self.tasks]

    def learned(self, model: LatentPlanningModel) -> list[Round]:
        """Every task played by a model with the control, as resolved for it."""
        control = self.control.resolved(model)

        def agent(some: Tasks, seed: int, first: int) -> Agent:
            return latent_agent(
                control,
                model,
                world_codec(model, self.world),
                self.world.render(some.goal, some.layout),
                seed=seed,
                history=self.history,
                budget=self.blocks,
                device=self.device,
                first=first,
            )

        return self._rounds(agent, self.batch)

    def simulated(self) -> list[Round]:
        """Every task played by the oracle, whose time is not limited."""
        return self._rounds(
            lambda some, seed, _: oracle_agent(
                self.control, self.world, self.codec, some, seed=seed, budget=self.blocks, device=self.device
            )
        )

    def floor(self, name: str) -> list[Round]:
        """Every task played by a floor of the protocol: random, zero or straight."""
        return self._rounds(self._floors()[name])

    def _floors(self) -> dict[str, MakeAgent]:
        dim = len(self.codec.names)
        return {
            "random": lambda some, seed, _: RandomAgent(
                self.codec.bounds,
                dim,
                self.protocol.budget,
                [decision_seed(seed, task) for task in range(len(some))],
            ),
            "zero": lambda some, seed, _: ZeroAgent(len(some), dim),
            "straight": lambda some, seed, _: StraightAgent(self.world, some.goal),
        }

    def _rounds(self, agent: MakeAgent, batch: int = 0) -> list[Round]:
        """Play every task seed, `batch` tasks at a time, each time with a fresh agent."""
        rounds = []
        for seed, tasks in enumerate(self.tasks):
            step, scores, decisions = batch or len(tasks), [], []
            for first in range(0, len(tasks), step):
                some = tasks.take(slice(first, first + step))
                began = time.perf_counter()
                player = agent(some, seed, first)
                score = play(some, player, self.world, self.protocol)
                score.seconds = time.perf_counter() - began  # with the goals' encoding
                scores.append(score)
                if isinstance(player, LatentAgent | PolicyAgent):
                    decisions.append(player.decisions)
            rounds.append(Round(tasks, Score.joined(scores), decisions))
        return rounds
