"""One step at a time on the temporal distance alone, in the true simulator: does it lead down to the goal?"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.world import World
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import uniform_actions
from jepa_actions.evaluation.oracle import Functional
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.statistics import wilson_interval
from jepa_actions.evaluation.tasks import make_tasks, world_of_protocol
from jepa_actions.models import WorldModel

BATCH = 500  # pictures encoded together


class GreedyAgent:
    """Sees the simulator's state, tries candidates in it for a block, and takes what ends nearest by the model.

    A candidate is one raw action held for the block. Neither dynamics nor search is the model's, so what is missed is
    the distance's fault.

    Args:
        model: with a temporal distance.
        world: with `step_states`.
        candidates: beside standing still, drawn anew at each decision, uniform over the action bounds.
    """

    observes: Literal["state"] = "state"

    def __init__(
        self,
        model: WorldModel,
        world: World,
        goal: Float[Tensor, "n s"],
        layouts: Float[Tensor, "n l"],
        *,
        candidates: int = 32,
        seed: int = 0,
    ) -> None:
        if model.codec is None or model.distance is None or not isinstance(world, Functional):
            raise ConfigError(
                "GreedyAgent: expected a model with actions and a temporal distance, and a world whose step is a "
                "function of states"
            )
        self.model, self.world, self.codec = model, world, model.codec
        self._layouts, self._candidates = layouts, candidates
        self._numbers = torch.Generator().manual_seed(seed)
        self._goal = self._encode(goal, layouts)

    @torch.no_grad()
    def act(self, observation: Float[Tensor, "n s"]) -> Float[Tensor, "n k a"]:
        tried = uniform_actions(self.codec.bounds, len(self.codec.names), self._candidates, self._numbers)
        tried = torch.cat([torch.zeros_like(tried[:1]), tried])
        rows, count = len(observation), len(tried)
        states, layouts = (x[:, None].expand(-1, count, -1) for x in (observation, self._layouts))
        actions = tried[None].expand(rows, -1, -1)
        for _ in range(self.codec.block):
            states = self.world.step_states(states, layouts, actions)
        z = self._encode(states.flatten(0, 1), layouts.flatten(0, 1)).unflatten(0, (rows, count))
        left = self.model.temporal_distance(z, self._goal[:, None].expand_as(z))
        return tried[left.argmin(1)][:, None].expand(-1, self.codec.block, -1)

    @torch.no_grad()
    def _encode(self, states: Tensor, layouts: Tensor) -> Float[Tensor, "k n d"]:
        parts = zip(states.split(BATCH), layouts.split(BATCH), strict=True)
        return torch.cat([self.model.goal(self.world.render(some, at)).z for some, at in parts])


def evaluate_greedy(
    model: WorldModel, protocol: PlanningProtocol | str, *, episodes: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Success of `GreedyAgent` on the tasks of one seed of a protocol.

    Returns: `success_rate`, its Wilson interval `ci95`, `episodes`, and the protocol's name and hash.
    """
    protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
    world = world_of_protocol(protocol)
    tasks = make_tasks(protocol, episodes or protocol.episodes, seed)
    score = play(tasks, GreedyAgent(model, world, tasks.goal, tasks.layout, seed=seed), world, protocol)
    return {
        "success_rate": float(score.solved.double().mean()),
        "ci95": wilson_interval(int(score.solved.sum()), len(tasks)),
        "episodes": len(tasks),
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
    }
