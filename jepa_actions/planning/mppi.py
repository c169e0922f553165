"""Model-predictive path integral control: the next mean is an average of candidates, weighted by how good they are."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.search import RefitConfig, Scored, Search


@dataclass(frozen=True)
class MPPIConfig(RefitConfig):
    """Budget and schedule of MPPI, by default with TD-MPC2's weights: elites alone, and a spread that adapts."""

    momentum: float = 0.0
    temperature: float = 1.0  # weights are exp(-(cost - lowest) / temperature)
    # What temperature counts: "spread", the standard deviation of the weighted candidates' cost, so that the same
    # setting fits a cost of any scale; "cost", the cost itself, as published.
    units: str = "spread"
    adapt: bool = True  # refit the standard deviation, between min_std and what it was at first; False leaves it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or self.units not in ("spread", "cost"):
            raise ConfigError(
                f"MPPIConfig: found temperature {self.temperature}, units {self.units!r}, "
                "expected temperature > 0 and units 'spread' or 'cost'"
            )

    def weights(self, cost: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Weights that add up to one; a candidate of infinite cost has none, unless all of them do."""
        usable = cost.isfinite() | ~cost.isfinite().any(dim=1, keepdim=True)
        cost = cost.nan_to_num(posinf=0.0)
        above = (cost - cost.masked_fill(~usable, torch.inf).amin(dim=1, keepdim=True)).clamp_min(0)
        temperature = torch.full_like(above[:, :1], self.temperature)
        if self.units == "spread":
            count = usable.sum(dim=1, keepdim=True)
            centred = (above - (above * usable).sum(dim=1, keepdim=True) / count) * usable
            spread = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
            temperature = temperature * spread.clamp_min(torch.finfo(cost.dtype).tiny)
        weights = torch.exp(-above / temperature) * usable
        return weights / weights.sum(dim=1, keepdim=True)


class MPPI:
    """MPPI over action sequences, batched over problems and bounded (Williams et al. 2017; TD-MPC2, arXiv 2310.16828).

    With `elites` equal to `samples`, `adapt` off and one iteration it is the classical method. Differs from TD-MPC2:
    the mean is among the candidates, and the plan is the best candidate or the mean, not an elite drawn at random.
    """

    def __init__(self, config: MPPIConfig | None = None) -> None:
        self.config = config or MPPIConfig()

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Plan:
        """Plan for all problems. Raises PlanningError for a cost of NaN, ShapeError for a cost of the wrong shape."""
        config, search = self.config, Search(problem, chunk=self.config.chunk)
        mean, std = search.gaussian(config)
        widest = std
        for iteration in search.iterations(config.iterations):
            noise = search.noise(config.samples)
            scored = search.score(search.candidates(mean, std, noise, first=iteration == 0), iteration)
            elites = scored.top(config.elites)
            kept, search.plan.elites = config.momentum, elites.candidates
            centre, spread = _moments(elites, config.weights(elites.cost))
            mean = search.project(kept * mean + (1 - kept) * centre)
            if config.adapt:
                std = torch.minimum((kept * std + (1 - kept) * spread).clamp_min(config.min_std), widest)
        return search.finish(mean, config)


def _moments(elites: Scored, weights: Float[Tensor, "p k"]) -> tuple[Float[Tensor, "p h a"], Float[Tensor, "p h a"]]:
    """Weighted mean and standard deviation."""
    weight = weights.to(elites.candidates)[:, :, None, None]
    mean = (weight * elites.candidates).sum(dim=1)
    return mean, (weight * (elites.candidates - mean[:, None]).square()).sum(dim=1).sqrt()


# All samples weighted, a spread that stays; its own settings because a spread that never narrows must start narrow.
CLASSICAL = MPPIConfig(elites=128, init_std=0.3, adapt=False, temperature=0.1)
