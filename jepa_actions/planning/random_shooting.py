"""Random shooting: draw candidates around the start, keep the best. The floor of every other planner."""

from dataclasses import dataclass

import torch

from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.search import SamplingConfig, Search


@dataclass(frozen=True)
class RandomShootingConfig(SamplingConfig):
    """Budget and spread; `iterations` times `samples` are drawn, so that a deadline can end it in between."""


class RandomShooting:
    """The first iteration of CEM, again and again: what the others gain over it is what their refitting is worth."""

    def __init__(self, config: RandomShootingConfig | None = None) -> None:
        self.config = config or RandomShootingConfig()

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises PlanningError for a cost of NaN, ShapeError for a cost of the wrong shape."""
        config, search = self.config, Search(problem, chunk=self.config.chunk)
        mean, std = search.gaussian(config)
        for iteration in search.iterations(config.iterations):
            noise = search.noise(config.samples)
            scored = search.score(search.candidates(mean, std, noise, first=iteration == 0), iteration)
            search.plan.elites = scored.top(config.elites).candidates
        return search.plan
