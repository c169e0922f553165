"""Steps towards goals of the same scene, weighted by how much nearer they came."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.objectives.scenes import Pairs, scene_pairs
from jepa_actions.objectives.views import Views


@dataclass(frozen=True)
class AdvantageConfig:
    """Weight and schedule of a term on weighted steps, and how they are drawn and weighted."""

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    pairs: int = 2048  # drawn per step of training
    beta: float = 3.0  # how much more counts what came nearer
    largest: float = 5.0  # a weight is at most that

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.beta < 0 or self.largest < 1:
            raise ConfigError(
                f"{type(self).__name__}: found pairs {self.pairs}, beta {self.beta}, largest {self.largest}, expected "
                "pairs >= 1, beta >= 0 and largest >= 1"
            )


class Steps(NamedTuple):
    """Observed steps and a goal for each, as rows of this part's `b * t` frames; the step's end is the next row.

    `total` steps were drawn for the global batch; these are number `chosen` among them.
    """

    first: Int[Tensor, "k"]
    goal: Int[Tensor, "k"]
    left: Float[Tensor, "k"]  # model steps from first to goal, by the temporal distance
    weight: Float[Tensor, "k"]
    chosen: Int[Tensor, "k"]  # on the host
    total: int


def weighted_steps(
    model: WorldModel, views: Views, config: AdvantageConfig, count: int, generator: torch.Generator
) -> Steps:
    """Steps of behaviour, about `count` of them in the global batch, each with a goal from anywhere in its scene.

    The weight is exp(beta (gain / reach - 1)), at most `config.largest`: gain is what the step took off the temporal
    distance to the goal, reach the longest that a step is (advantage-weighted regression, arXiv 1910.00177, with a
    value of states alone as in HIQL, arXiv 2307.11949, section 4).

    Raises:
        ConfigError: for a model without a temporal distance.
    """
    distance = model.distance
    if distance is None:
        raise ConfigError("stitched pairs need a temporal distance (model.distance, objectives.distance), found null")
    whole = views.whole
    pairs = scene_pairs(whole, count, generator, views.share)
    real, frames = whole.real_on_host.flatten(), whole.steps
    moves = (pairs.first % frames < frames - 1) & real[(pairs.first + 1).clamp(max=len(real) - 1)]
    pairs = Pairs(pairs.first[moves], pairs.second[moves])
    first, goal, chosen = pairs.mine(views.share, len(real))
    x = views.distance_rows
    first, goal = first.to(x.device), goal.to(x.device)
    with torch.no_grad():
        left = distance.between(x[first], x[goal])
        gain = left - distance.between(x[first + 1], x[goal])
        weight = torch.exp(config.beta * (gain / distance.reach - 1.0)).clamp(max=config.largest)
    return Steps(first, goal, left, weight, chosen, len(pairs.first))
