"""Sampling to find the right valley, then gradient steps from the best candidates to its bottom."""

from dataclasses import dataclass, field, replace

from jepa_actions.errors import ConfigError
from jepa_actions.planning.cem import CEM, CEMConfig
from jepa_actions.planning.gradient import Gradient, GradientConfig
from jepa_actions.planning.problem import Plan, Problem


@dataclass(frozen=True)
class HybridConfig:
    """Settings of both halves; by default they share 768 evaluations evenly."""

    sampling: CEMConfig = field(default_factory=lambda: CEMConfig(samples=96, elites=12, iterations=4))
    gradient: GradientConfig = field(default_factory=lambda: GradientConfig(restarts=8, steps=47, lr=0.03))

    def __post_init__(self) -> None:
        if self.sampling.elites < self.gradient.restarts - 1:
            raise ConfigError(
                f"HybridConfig: found sampling.elites {self.sampling.elites} for gradient.restarts "
                f"{self.gradient.restarts}, expected an elite for each restart but the first"
            )

    @property
    def evaluations(self) -> int:
        """Rollouts per problem of one plan."""
        return self.sampling.evaluations + self.gradient.evaluations

    def with_budget(self, evaluations: int) -> "HybridConfig":
        """The same planner at no more than so many evaluations, divided between its halves as now."""
        sampling = self.sampling.with_budget(max(1, evaluations * self.sampling.evaluations // self.evaluations))
        gradient = self.gradient.with_budget(evaluations - sampling.evaluations)
        restarts = min(gradient.restarts, sampling.elites + 1)
        gradient = replace(gradient, restarts=restarts).with_budget(evaluations - sampling.evaluations)
        return HybridConfig(sampling, gradient)


class Hybrid:
    """CEM, then `Gradient` from its plan and its last elites; the better of the two plans of each problem."""

    def __init__(self, config: HybridConfig | None = None) -> None:
        self.config = config or HybridConfig()

    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises what CEM and Gradient raise."""
        found = CEM(self.config.sampling)(problem)
        if found.timed_out or found.elites is None:
            return found
        start = replace(problem, initial=found.actions, proposals=found.elites, carried=None)
        refined = Gradient(self.config.gradient)(start)
        for key, entries in found.history.items():
            refined.history[key] = [*entries, *refined.history[key]]
        worse = ~(refined.cost < found.cost)  # CEM scored its plan already, the first restart begins there
        refined.actions = found.actions.where(worse[:, None, None], refined.actions)
        refined.cost = found.cost.where(worse, refined.cost)
        refined.elites = found.elites if refined.elites is None else refined.elites
        return refined
