"""The cross-entropy method: sample, keep the best, fit a Gaussian to them, repeat."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import Plan, Problem, imagine


@dataclass(frozen=True)
class CEMConfig:
    """Budget and schedule of CEM. Standard deviations are in model (normalised) action units, the first by `init`."""

    samples: int = 128  # candidates per iteration, the current mean among them
    elites: int = 16  # candidates that the next Gaussian is fitted to
    iterations: int = 6
    init_std: float = 1.0
    # What init_std counts: "unit", model units; "bounds", half the width of the bounds in each dimension, so that one
    # whose bounds meet is not searched.
    init: str = "unit"
    min_std: float = 0.05  # keeps the search alive when the elites agree
    momentum: float = 0.1  # share of the old mean and standard deviation that is kept
    # "best": the best candidate seen; finds ways around walls that the mean of the elites would walk into.
    # "mean": the last mean, for one more evaluation; steadier where a single candidate exploits errors of the model.
    returns: str = "best"
    chunk: int = 0  # most (problem, candidate) pairs imagined at once; 0 means all. Changes memory, never the result

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 1 <= self.elites <= self.samples:
            raise ConfigError(
                f"CEMConfig: found samples {self.samples}, elites {self.elites}, iterations {self.iterations}, "
                "expected 1 <= elites <= samples and iterations >= 1"
            )
        if self.init_std <= 0 or self.min_std < 0 or not 0 <= self.momentum < 1:
            raise ConfigError(
                f"CEMConfig: found init_std {self.init_std}, min_std {self.min_std}, momentum {self.momentum}, "
                "expected init_std > 0, min_std >= 0 and 0 <= momentum < 1"
            )
        if self.init not in ("unit", "bounds"):
            raise ConfigError(f"CEMConfig.init: found {self.init!r}, expected 'unit' or 'bounds'")
        if self.returns not in ("mean", "best"):
            raise ConfigError(f"CEMConfig.returns: found {self.returns!r}, expected 'mean' or 'best'")


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
        config, project = self.config, problem.model.action_bounds.project
        mean = problem.start()
        std = torch.full_like(mean, config.init_std)
        if config.init == "bounds":
            bounds = problem.model.action_bounds
            std = std * ((bounds.high - bounds.low) / 2).to(mean)
        generators = problem.generators()
        plan = Plan(mean, mean.new_full((mean.shape[0],), torch.inf), {"best": [], "mean": [], "evaluations": []})
        for iteration in range(config.iterations):
            candidates = mean[:, None] + std[:, None] * _noise(generators, config.samples, mean)
            candidates[:, 0] = mean
            candidates = project(candidates)
            cost = imagine(problem, candidates, chunk=config.chunk, iteration=iteration)
            order = cost.argsort(dim=1, stable=True)[:, : config.elites]
            elites = _pick(candidates, order)
            _record(plan, elites[:, 0], cost, better=cost.amin(dim=1) < plan.cost)
            kept = config.momentum
            mean = project(kept * mean + (1 - kept) * elites.mean(dim=1))
            std = (kept * std + (1 - kept) * elites.std(dim=1, correction=0)).clamp_min(config.min_std)
        if config.returns == "mean":
            cost = imagine(problem, mean[:, None], chunk=config.chunk, iteration=config.iterations)
            _record(plan, mean, cost, better=torch.ones_like(plan.cost, dtype=torch.bool))
        return plan


def _noise(generators: list[torch.Generator], samples: int, mean: Float[Tensor, "p h a"]) -> Float[Tensor, "p s h a"]:
    """Standard normal numbers, drawn in single precision on the host so that every device and dtype sees the same."""
    noise = torch.empty(mean.shape[0], samples, *mean.shape[1:], dtype=torch.float32)
    for row, generator in zip(noise, generators, strict=True):
        row.normal_(generator=generator)
    return noise.to(mean)


def _pick(candidates: Float[Tensor, "p s h a"], order: Int[Tensor, "p k"]) -> Float[Tensor, "p k h a"]:
    return candidates.gather(1, order[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))


def _record(plan: Plan, actions: Float[Tensor, "p h a"], cost: Float[Tensor, "p s"], better: Bool[Tensor, "p"]) -> None:
    """Note one iteration, and take its first candidate where it is better than what the plan holds."""
    lowest = cost.amin(dim=1)
    plan.actions = torch.where(better[:, None, None], actions, plan.actions)
    plan.cost = torch.where(better, lowest.to(plan.cost), plan.cost)
    plan.history["best"].append(lowest)
    plan.history["mean"].append(cost.mean(dim=1))
    plan.history["evaluations"].append(cost.shape[1])
