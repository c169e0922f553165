"""CMA-ES by the `cmaes` library: adapts a full covariance, problem by problem in Python. A reference, not fast."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.search import Search, check_init


@dataclass(frozen=True)
class CMAESConfig:
    """Budget and first spread; the rest is the library's."""

    population: int = 16  # candidates per iteration
    iterations: int = 48
    init_std: float = 0.5
    init: str = "unit"  # "unit" or "bounds", as for CEM
    elites: int = 8  # candidates that the plan hands on, best first
    chunk: int = 0  # most (problem, candidate) pairs imagined at once; 0 means all. Changes memory, never the result

    def __post_init__(self) -> None:
        if self.population < 3 or self.iterations < 1 or not 1 <= self.elites <= self.population:
            raise ConfigError(
                f"CMAESConfig: found population {self.population}, iterations {self.iterations}, elites {self.elites}, "
                "expected population >= 3, iterations >= 1 and 1 <= elites <= population"
            )
        if not (self.init_std > 0 and self.chunk >= 0):
            raise ConfigError(
                f"CMAESConfig: found init_std {self.init_std}, chunk {self.chunk}, expected init_std > 0 and chunk >= 0"
            )
        check_init("CMAESConfig", self.init)

    @property
    def evaluations(self) -> int:
        """Rollouts per problem of one plan; proposals, where there are some, and the start come on top."""
        return self.population * self.iterations

    def with_budget(self, evaluations: int) -> "CMAESConfig":
        """The same planner at no more than so many evaluations: other iterations, and a smaller population for few.

        Raises: ConfigError for a budget below three evaluations.
        """
        population = min(self.population, evaluations)
        if population < 3:
            raise ConfigError(f"CMAESConfig: a budget of {evaluations} evaluations is too small for it")
        elites = min(self.elites, population)
        return replace(self, population=population, elites=elites, iterations=evaluations // population)


class CMAES:
    """Covariance matrix adaptation (Hansen 2016, arXiv 1604.00772), one optimiser per problem, imagined together.

    Candidates outside the bounds are imagined where `project` puts them and ranked with a penalty that grows with how
    far that is, so that the mean is drawn back. With proposals it starts from the best of them and the start.
    """

    def __init__(self, config: CMAESConfig | None = None) -> None:
        self.config = config or CMAESConfig()

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises ConfigError without the library, PlanningError for a cost of NaN."""
        config, search = self.config, Search(problem, chunk=self.config.chunk)
        if problem.late:
            search.plan.timed_out = True
            return search.plan
        shape, scale = search.start.shape[1:], search.scale(config.init).cpu().double().numpy()
        scale = np.tile(np.maximum(scale, 1e-12), shape[0])  # the library searches where all dimensions are alike
        mean = search.start
        if problem.proposals is not None:
            given = torch.cat([mean[:, None], problem.proposals.to(mean)], dim=1)
            mean = search.score(search.project(given), 0).top(1).candidates[:, 0]
        searches = [
            _optimizer(one.flatten().cpu().double().numpy() / scale, config, int(seed))
            for one, seed in zip(mean, problem.seeds, strict=True)
        ]
        for iteration in search.iterations(config.iterations):
            asked = np.stack([[one.ask() for _ in range(config.population)] for one in searches])
            wanted = torch.from_numpy(asked * scale).to(search.start).unflatten(-1, shape)
            inside = search.project(wanted)
            scored = search.score(inside, iteration)
            outside = ((wanted - inside).flatten(2).cpu().double().numpy() / scale) ** 2
            for one, points, cost, far in zip(
                searches, asked, scored.cost.cpu().double().numpy(), outside.sum(-1), strict=True
            ):
                ranked = _penalised(cost, far)
                one.tell([(point, float(value)) for point, value in zip(points, ranked, strict=True)])
            search.plan.elites = scored.top(config.elites).candidates
        return search.plan


def _penalised(cost: np.ndarray[Any, Any], far: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cost, finite and with a penalty in the scale of this iteration's costs."""
    finite = np.isfinite(cost)
    worst = cost[finite].max() if finite.any() else 0.0
    spread = np.ptp(cost[finite]) if finite.any() else 0.0
    return np.where(finite, cost, worst + spread + 1.0) + far * max(spread, math.ulp(1.0))


def _optimizer(mean: np.ndarray[Any, Any], config: CMAESConfig, seed: int) -> Any:
    try:
        from cmaes import CMA  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError("planner cmaes: the library is missing; pip install 'jepa-actions[plan]'") from error
    return CMA(mean, config.init_std, seed=seed & (2**32 - 1), population_size=config.population)
