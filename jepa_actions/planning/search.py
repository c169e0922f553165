"""What planners that sample have in common: noise, candidates, the record of a search, and their settings."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.errors import ConfigError, PlanningError
from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.rollouts import imagine


@dataclass(frozen=True)
class SamplingConfig:
    """Budget and first spread. Standard deviations are in model (normalised) action units, the first by `init`."""

    samples: int = 128  # candidates per iteration, the current mean among them
    elites: int = 16  # best candidates of an iteration: what the next one is fitted to
    iterations: int = 6
    init_std: float = 1.0
    # What init_std counts: "unit", model units; "bounds", half the width of the bounds in each dimension, so that one
    # whose bounds meet is not searched.
    init: str = "unit"
    chunk: int = 0  # most (problem, candidate) pairs imagined at once; 0 means all. Changes memory, never the result

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.iterations < 1 or not 1 <= self.elites <= self.samples:
            raise ConfigError(
                f"{name}: found samples {self.samples}, elites {self.elites}, iterations {self.iterations}, "
                "expected 1 <= elites <= samples and iterations >= 1"
            )
        if not (self.init_std > 0 and self.chunk >= 0):
            raise ConfigError(
                f"{name}: found init_std {self.init_std}, chunk {self.chunk}, expected init_std > 0 and chunk >= 0"
            )
        check_init(name, self.init)

    @property
    def evaluations(self) -> int:
        """Rollouts per problem of one plan."""
        return self.samples * self.iterations

    def with_budget(self, evaluations: int) -> Self:
        """The same planner at no more than so many evaluations: samples and iterations grow alike, elites with samples.

        Raises: ConfigError for a budget below one iteration of two candidates.
        """
        iterations = max(1, round(self.iterations * math.sqrt(evaluations / self.evaluations)))
        low, high = 1, max(evaluations, 1)
        while low < high:  # the most samples that fit
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high) if self._sized(middle, iterations).evaluations <= evaluations else (low, middle - 1)
            )
        found = self._sized(low, iterations)
        if low < 2 or found.evaluations > evaluations:
            raise ConfigError(f"{type(self).__name__}: a budget of {evaluations} evaluations is too small for it")
        return found

    def _sized(self, samples: int, iterations: int) -> Self:
        elites = min(samples, max(1, round(self.elites * samples / self.samples)))
        return replace(self, samples=samples, elites=elites, iterations=iterations)


@dataclass(frozen=True)
class RefitConfig(SamplingConfig):
    """Settings of planners that fit a Gaussian to what was good and sample from it again."""

    min_std: float = 0.05  # keeps the search alive when the elites agree
    momentum: float = 0.1  # share of the old mean and standard deviation that is kept
    # "best": the best candidate seen; finds ways around walls that the mean of the elites would walk into.
    # "mean": the last mean, for one more evaluation; steadier where a single candidate exploits errors of the model.
    returns: str = "best"
    # Start from the product of the planner's Gaussian and one fitted to the problem's proposals; both are then
    # candidates. Off: proposals are candidates and no more.
    fuse: bool = False
    fuse_std: float = 0.5  # least standard deviation of the proposals' Gaussian, so that few proposals stay a hint

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        if self.min_std < 0 or not 0 <= self.momentum < 1 or self.fuse_std <= 0:
            raise ConfigError(
                f"{name}: found min_std {self.min_std}, momentum {self.momentum}, fuse_std {self.fuse_std}, "
                "expected min_std >= 0, 0 <= momentum < 1 and fuse_std > 0"
            )
        if self.returns not in ("mean", "best"):
            raise ConfigError(f"{name}.returns: found {self.returns!r}, expected 'mean' or 'best'")

    @property
    def evaluations(self) -> int:
        """Rollouts per problem of one plan."""
        return super().evaluations + (self.returns == "mean")


@dataclass(frozen=True)
class Scored:
    """Candidates with their cost; `order` sorts them, best first, equal ones as they came."""

    candidates: Float[Tensor, "p s h a"]
    cost: Float[Tensor, "p s"]
    order: Int[Tensor, "p s"]

    @classmethod
    def of(cls, candidates: Float[Tensor, "p s h a"], cost: Float[Tensor, "p s"]) -> "Scored":
        return cls(candidates, cost, cost.argsort(dim=1, stable=True))

    def top(self, count: int) -> "Scored":
        """The best `count`, best first."""
        order = self.order[:, :count]
        index = order[:, :, None, None].expand(-1, -1, *self.candidates.shape[2:])
        first = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return Scored(self.candidates.gather(1, index), self.cost.gather(1, order), first)

    def with_known(self, known: "Scored | None") -> "Scored":
        """Together with candidates whose cost is known."""
        if known is None:
            return self
        return Scored.of(torch.cat([self.candidates, known.candidates], 1), torch.cat([self.cost, known.cost], 1))


class Search:
    """One search over all problems: draws candidates, has them scored, remembers the best, and watches the clock.

    Everything random is drawn per problem from its own generator on the host, in single precision, so that every
    device, dtype and batch sees the same numbers.
    """

    def __init__(self, problem: Problem, *, chunk: int = 0) -> None:
        self.problem, self.chunk = problem, chunk
        self.start = problem.start()
        self.project = problem.model.action_bounds.project
        self.plan = Plan(
            self.start,
            self.start.new_full(self.start.shape[:1], torch.inf),
            {"best": [], "mean": [], "evaluations": []},
        )
        self._generators = problem.generators()

    def iterations(self, count: int) -> Iterator[int]:
        """Numbers of iterations until `count` or the deadline."""
        for iteration in range(count):
            if self.problem.late:
                self.plan.timed_out = True
                return
            yield iteration

    def scale(self, init: str) -> Float[Tensor, "a"]:
        """One standard deviation of `init`, in model units, per action dimension."""
        bounds = self.problem.model.action_bounds
        return (
            ((bounds.high - bounds.low) / 2).to(self.start) if init == "bounds" else torch.ones_like(self.start[0, 0])
        )

    def gaussian(self, config: SamplingConfig) -> tuple[Float[Tensor, "p h a"], Float[Tensor, "p h a"]]:
        """Mean and standard deviation to begin with."""
        mean, std = self.start, torch.full_like(self.start, config.init_std) * self.scale(config.init)
        if not isinstance(config, RefitConfig) or not config.fuse:
            return mean, std
        if self.problem.proposals is None:
            raise PlanningError(f"{type(config).__name__}.fuse: found a problem without proposals, expected some")
        proposals = self.project(self.problem.proposals.to(mean))
        theirs = proposals.std(dim=1, correction=0).clamp_min(config.fuse_std).square()
        own = std.square()
        fused = (mean * theirs + proposals.mean(dim=1) * own) / (own + theirs)
        return self.project(fused), (own * theirs / (own + theirs)).sqrt()

    def noise(self, samples: int, colour: Float[Tensor, "n h"] | None = None) -> Float[Tensor, "p s h a"]:
        """Standard normal numbers; with `colour`, correlated over time (`colouring`)."""
        _, horizon, dim = self.start.shape
        noise = torch.empty(self.start.shape[0], samples, horizon, dim, dtype=torch.float32)
        for row, generator in zip(noise, self._generators, strict=True):
            if colour is None:
                row.normal_(generator=generator)
            else:  # one product per problem, of the same size whatever the batch
                white = torch.empty(samples, dim, len(colour), dtype=torch.float32).normal_(generator=generator)
                row.copy_((white @ colour).transpose(1, 2))
        return noise.to(self.start)

    def candidates(
        self,
        mean: Float[Tensor, "p h a"],
        std: Float[Tensor, "p h a"],
        noise: Float[Tensor, "p s h a"],
        *,
        first: bool = False,
        carried: int = 0,
    ) -> Float[Tensor, "p s h a"]:
        """The mean and random candidates around it, inside the bounds.

        Arguments:
            first: put the problem's proposals, the start where it is not the mean, and up to `carried` candidates of
                the last decision in the place of random ones.

        Raises: PlanningError for more proposals than there are candidates besides the mean.
        """
        candidates = mean[:, None] + std[:, None] * noise
        candidates[:, 0] = mean
        if first:
            self._insert(candidates, mean is not self.start, carried)
        return self.project(candidates)

    def _insert(self, candidates: Float[Tensor, "p s h a"], start: bool, carried: int) -> None:
        problem, samples = self.problem, candidates.shape[1]
        given = [] if problem.proposals is None else [problem.proposals.to(candidates)]
        given += [self.start[:, None]] if start else []
        if given:
            inserted = torch.cat(given, dim=1)
            if inserted.shape[1] > samples - 1:
                raise PlanningError(
                    f"Problem.proposals: found {inserted.shape[1]} given candidates, expected at most {samples - 1}, "
                    "one less than the samples of an iteration"
                )
            candidates[:, 1 : 1 + inserted.shape[1]] = inserted
        if problem.carried is not None and carried > 0:
            begin = 1 + sum(one.shape[1] for one in given)
            place = candidates[:, begin : begin + min(carried, problem.carried.actions.shape[1])]
            kept = problem.carried.actions[:, : place.shape[1]].to(candidates)
            valid = problem.carried.valid.to(candidates.device)[:, None, None, None]
            place.copy_(torch.where(valid, kept, place))

    def score(self, candidates: Float[Tensor, "p s h a"], iteration: int) -> Scored:
        """Imagine candidates, all of which count, and note them."""
        cost = imagine(self.problem, candidates, chunk=self.chunk, iteration=iteration)
        return self.note(Scored.of(candidates, cost))

    def note(self, scored: Scored) -> Scored:
        """Note one iteration, and take its best candidate where it is better than what the plan holds."""
        best, plan = scored.top(1), self.plan
        self._take(best, better=best.cost[:, 0] < plan.cost)
        plan.history["best"].append(best.cost[:, 0])
        plan.history["mean"].append(scored.cost.mean(dim=1))
        plan.history["evaluations"].append(scored.cost.shape[1])
        return scored

    def finish(self, mean: Float[Tensor, "p h a"], config: RefitConfig) -> Plan:
        """The plan: the best candidate, or the mean where the settings say so and there is time to score it."""
        if config.returns == "mean" and not self.plan.timed_out:
            scored = self.score(mean[:, None], config.iterations)
            self._take(scored, better=torch.ones_like(self.plan.cost, dtype=torch.bool))
        return self.plan

    def _take(self, best: Scored, better: Tensor) -> None:
        plan = self.plan
        plan.actions = torch.where(better[:, None, None], best.candidates[:, 0], plan.actions)
        plan.cost = torch.where(better, best.cost[:, 0].to(plan.cost), plan.cost)


def colouring(horizon: int, exponent: float) -> Float[Tensor, "n h"] | None:
    """What turns white noise into noise whose power falls with frequency as f^-exponent, of unit variance at each step.

    A period of twice the horizon is cut in half, because a period's end is correlated with its beginning. None for 0.
    """
    if exponent == 0:
        return None
    period = 2 * horizon
    index = torch.arange(period)
    frequency = (
        torch.minimum(index, period - index).clamp_min(1).double() / period
    )  # the mean has the lowest one's power
    amplitude = frequency.pow(-exponent / 2)
    kernel = torch.fft.ifft(amplitude / amplitude.square().mean().sqrt()).real
    circulant: Tensor = kernel[(index[:, None] - index[None]) % period]
    return circulant[:, :horizon].float().contiguous()


def check_init(owner: str, init: str) -> None:
    """Raise ConfigError unless `init` is known."""
    if init not in ("unit", "bounds"):
        raise ConfigError(f"{owner}.init: found {init!r}, expected 'unit' or 'bounds'")
