"""iCEM: CEM with noise that lasts, elites that stay, and fewer samples as it closes in (Pinneri et al. 2020)."""

from dataclasses import dataclass

import torch

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.search import RefitConfig, Scored, Search, colouring


@dataclass(frozen=True)
class ICEMConfig(RefitConfig):
    """Budget and schedule of iCEM; `samples` are those of the first iteration."""

    samples: int = 160
    iterations: int = 10
    # Power of the noise falls with frequency f as f^-colour: 0 is white; 2 and more move steadily in one direction.
    colour: float = 1.0
    # Share of the elites that is kept for the next iteration, where they cost no evaluation again, and, shifted, for
    # the next decision of the same episode, where they do.
    keep: float = 0.3
    decay: float = 1.25  # each iteration draws so many times fewer samples, but never fewer than twice the elites

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colour < 0 or not 0 <= self.keep <= 1 or self.decay < 1:
            raise ConfigError(
                f"ICEMConfig: found colour {self.colour}, keep {self.keep}, decay {self.decay}, "
                "expected colour >= 0, 0 <= keep <= 1 and decay >= 1"
            )

    def samples_at(self, iteration: int) -> int:
        """Candidates drawn in an iteration."""
        return min(self.samples, max(round(self.samples * self.decay**-iteration), 2 * self.elites))

    @property
    def evaluations(self) -> int:
        """Rollouts per problem of one plan."""
        return sum(self.samples_at(i) for i in range(self.iterations)) + (self.returns == "mean")


class ICEM:
    """Sample-efficient CEM (arXiv 2008.06389), bounded and batched over problems.

    Differs from the paper: kept elites are ranked with the cost they had, for no evaluation; the mean is a candidate of
    every iteration, not of the last alone; elites kept for the next decision end in the mean action.
    """

    def __init__(self, config: ICEMConfig | None = None) -> None:
        self.config = config or ICEMConfig()

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises PlanningError for a cost of NaN, ShapeError for a cost of the wrong shape."""
        config, search = self.config, Search(problem, chunk=self.config.chunk)
        mean, std = search.gaussian(config)
        colour, keep = colouring(problem.horizon, config.colour), round(config.keep * config.elites)
        known: Scored | None = None
        for iteration in search.iterations(config.iterations):
            noise = search.noise(config.samples_at(iteration), colour)
            candidates = search.candidates(mean, std, noise, first=iteration == 0, carried=keep)
            ranked = search.score(candidates, iteration).with_known(known).top(config.elites)
            known, elites = ranked.top(keep), ranked.candidates
            kept, search.plan.elites = config.momentum, elites
            mean = search.project(kept * mean + (1 - kept) * elites.mean(dim=1))
            std = (kept * std + (1 - kept) * elites.std(dim=1, correction=0)).clamp_min(config.min_std)
        return search.finish(mean, config)
