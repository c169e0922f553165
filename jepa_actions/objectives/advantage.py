"""Steps towards goals of the same scene, weighted by how much nearer they came."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.objectives.scenes import scene_pairs
from jepa_actions.objectives.views import Views


class Steps(NamedTuple):
    """Observed steps and a goal for each, as rows of the batch's `b * t` frames; the step's end is the next row."""

    first: Int[Tensor, "k"]
    goal: Int[Tensor, "k"]
    left: Float[Tensor, "k"]  # model steps from first to goal, by the temporal distance
    weight: Float[Tensor, "k"]


def weighted_steps(
    model: WorldModel,
    views: Views,
    z: Float[Tensor, "b t n d"],
    count: int,
    generator: torch.Generator,
    *,
    beta: float,
    largest: float,
) -> Steps:
    """Steps of behaviour, each with a goal from anywhere in its scene.

    The weight is exp(beta (gain / reach - 1)), at most `largest`: gain is what the step took off the temporal distance
    to the goal, reach the longest that a step is (advantage-weighted regression, arXiv 1910.00177, with a value of
    states alone as in HIQL, arXiv 2307.11949, section 4).

    Raises:
        ConfigError: for a model without a temporal distance.
    """
    distance = model.distance
    if distance is None:
        raise ConfigError("stitched pairs need a temporal distance (model.distance, objectives.distance), found null")
    first, goal = scene_pairs(views.batch, count, generator)
    moves = first % z.shape[1] < z.shape[1] - 1
    if views.batch.frame_mask is not None:
        moves &= views.batch.frame_mask.cpu().flatten()[(first + 1).clamp(max=z.shape[0] * z.shape[1] - 1)]
    first, goal = first[moves].to(z.device), goal[moves].to(z.device)
    with torch.no_grad():
        x = distance.embed(z.detach().flatten(0, 1))
        left = distance.between(x[first], x[goal])
        gain = left - distance.between(x[first + 1], x[goal])
        weight = torch.exp(beta * (gain / distance.reach - 1.0)).clamp(max=largest)
    return Steps(first, goal, left, weight)
