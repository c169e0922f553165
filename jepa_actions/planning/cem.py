"""The cross-entropy method: sample, keep the best, fit a Gaussian to them, repeat."""

from dataclasses import dataclass

import torch

from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.search import RefitConfig, Search


@dataclass(frozen=True)
class CEMConfig(RefitConfig):
    """Budget and schedule of CEM."""


class CEM:
    """Cross-entropy method over action sequences, batched over problems (Rubinstein 1999; as in DINO-WM, with bounds).

    Candidates and means are projected into the bounds before they are imagined, so nothing outside is ever scored or
    returned. Noise of a problem comes from its own seed: its plan does not depend on what else is in the batch.
    Rollouts are asked for without a generator, so a stochastic model answers with its mean.
    """

    def __init__(self, config: CEMConfig | None = None) -> None:
        self.config = config or CEMConfig()

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises PlanningError for a cost of NaN, ShapeError for a cost of the wrong shape."""
        config, search = self.config, Search(problem, chunk=self.config.chunk)
        mean, std = search.gaussian(config)
        for iteration in search.iterations(config.iterations):
            noise = search.noise(config.samples)
            scored = search.score(search.candidates(mean, std, noise, first=iteration == 0), iteration)
            elites = scored.top(config.elites).candidates
            kept, search.plan.elites = config.momentum, elites
            mean = search.project(kept * mean + (1 - kept) * elites.mean(dim=1))
            std = (kept * std + (1 - kept) * elites.std(dim=1, correction=0)).clamp_min(config.min_std)
        return search.finish(mean, config)
