"""Gradient descent through the imagined rollout, from several starts, with Adam and projection into the bounds."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.rollouts import imagine_with_gradient
from jepa_actions.planning.search import Scored, Search, check_init


@dataclass(frozen=True)
class GradientConfig:
    """Budget and steps. Lengths (init_std, lr, noise) are in model action units, or by `init` in half widths."""

    restarts: int = 8  # descents per problem: the start, the problem's proposals, then random ones
    steps: int = 95
    lr: float = 0.1  # of Adam: about how far one step moves each number at first
    decay: float = 0.02  # the last step's lr and noise as a share of the first's
    noise: float = 0.003  # standard deviation of what is added to every action after a step
    init_std: float = 1.0  # spread of the random starts
    init: str = "unit"  # "unit" or "bounds", as for CEM
    elites: int = 8  # descents that the plan hands on, best first
    chunk: int = 0  # most (problem, restart) pairs imagined at once; 0 means all. Changes memory, never the result

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.steps < 1 or self.elites < 1 or self.chunk < 0:
            raise ConfigError(
                f"GradientConfig: found restarts {self.restarts}, steps {self.steps}, elites {self.elites}, chunk "
                f"{self.chunk}, expected restarts, steps and elites >= 1 and chunk >= 0"
            )
        if not (self.lr > 0 and self.noise >= 0 and self.init_std > 0 and 0 < self.decay <= 1):
            raise ConfigError(
                f"GradientConfig: found lr {self.lr}, noise {self.noise}, init_std {self.init_std}, decay "
                f"{self.decay}, expected lr > 0, noise >= 0, init_std > 0 and 0 < decay <= 1"
            )
        check_init("GradientConfig", self.init)

    @property
    def evaluations(self) -> int:
        """Rollouts per problem of one plan: one per restart and step, and one each for where they end."""
        return self.restarts * (self.steps + 1)

    def with_budget(self, evaluations: int) -> "GradientConfig":
        """The same planner at no more than `evaluations`: other steps, and fewer restarts where few are left.

        Raises: ConfigError for a budget below two evaluations.
        """
        if evaluations < 2:
            raise ConfigError(f"GradientConfig: a budget of {evaluations} evaluations is too small for it")
        restarts = min(self.restarts, max(1, evaluations // 16))
        return replace(self, restarts=restarts, steps=evaluations // restarts - 1)


class Gradient:
    """Adam on the actions themselves, batched over problems and restarts, which never mix.

    The plan is the best that was imagined on any way. The model's rollout and the cost must be differentiable by the
    actions; gradients of the model's weights are not computed. Actions that are classes do not move: use sampling.
    """

    def __init__(self, config: GradientConfig | None = None) -> None:
        self.config = config or GradientConfig()

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises PlanningError for a cost, or a gradient, that is NaN or missing."""
        config, search = self.config, Search(problem, chunk=self.config.chunk)
        actions, scale = self._starts(search), search.scale(config.init)
        optimizer = torch.optim.Adam([actions], lr=config.lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, config.decay ** (1 / config.steps))
        for step in search.iterations(config.steps):
            cost, gradient = imagine_with_gradient(problem, actions, chunk=config.chunk, iteration=step)
            search.note(Scored.of(actions.clone(), cost))
            before, rate = actions.clone(), optimizer.param_groups[0]["lr"]
            actions.grad = _inside(actions, gradient, rate, search)
            optimizer.step()
            schedule.step()
            moved = before + (actions - before) * scale
            if config.noise:
                moved = moved + search.noise(config.restarts) * scale * (config.noise * rate / config.lr)
            actions.copy_(search.project(moved))
        if not search.plan.timed_out:
            search.plan.elites = search.score(actions, config.steps).top(config.elites).candidates
        return search.plan

    def _starts(self, search: Search) -> Float[Tensor, "p r h a"]:
        config, proposals = self.config, search.problem.proposals
        spread = config.init_std * search.scale(config.init)
        starts = search.start[:, None] + spread * search.noise(config.restarts)
        starts[:, 0] = search.start
        if proposals is not None:
            given = proposals[:, : config.restarts - 1].to(starts)
            starts[:, 1 : 1 + given.shape[1]] = given
        return search.project(starts).contiguous()


def _inside(actions: Tensor, gradient: Tensor, length: float, search: Search) -> Float[Tensor, "p r h a"]:
    """The part of the gradient that the bounds let a step of `length` follow.

    Adam scales every number by itself, so that with the plain gradient it comes to rest elsewhere on a round bound than
    where the cost is least: this part is zero there (the gradient mapping of projected descent).
    """
    steepest = gradient.abs().amax(dim=(2, 3), keepdim=True)
    rate = length / steepest.clamp_min(torch.finfo(gradient.dtype).tiny / length)
    inner: Tensor = (actions - search.project(actions - rate * gradient)) / rate
    return inner
