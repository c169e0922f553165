"""Temporal distance against the length of the true shortest way, in layouts never trained on."""

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.world import Split, World
from jepa_actions.envs.worlds import make_world
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import block_bootstrap
from jepa_actions.models import WorldModel

DETOUR = 1.05  # the way is this much longer than the straight line: something stands between
PER_LAYOUT = 4  # episodes of behaviour, between whose states pairs are drawn
STEPS, BATCH = 60, 500


def evaluate_distance(
    model: WorldModel, world: World | str, *, pairs: int = 3000, split: Split = "heldout", seed: int = 0
) -> dict[str, Any]:
    """Rank correlation of d(z, z_goal) with the shortest way from start to goal that walls allow.

    Pairs are states of different behaviour episodes of one layout, where there is one at all. Beside the temporal
    distance, and as its floor, stand latent L2 and the straight line that is not told of walls.

    Returns: a report for JSON: `metrics.spearman` over all pairs, `spearman_detour` over those whose way is at least
        5 % longer than the straight line, `spearman_direct` over the others; in two_room also `spearman_other_room`;
        `ratio_detour_to_direct`, how many times more length a step covers where there is a detour (1 is right);
        intervals by bootstrap over layouts.

    Raises: ConfigError for a model without a temporal distance.
    """
    began = time.perf_counter()
    if model.distance is None:
        raise ConfigError("evaluate_distance: this model has no temporal distance (model.distance)")
    world = make_world(world) if isinstance(world, str) else world
    start, goal, layout = draw_pairs(world, pairs, split, seed)
    z, z_goal = (_encode(model, world, states, layout) for states in (start, goal))
    with torch.no_grad():
        temporal = model.temporal_distance(z, z_goal).double().numpy()
    latent = (z - z_goal).square().mean((-2, -1)).double().numpy()
    way = world.shortest_path(start, goal, layout).double().numpy()
    straight = world.distance(start, goal).double().numpy()
    detour = way > DETOUR * straight
    groups = {"": np.ones(len(way), dtype=bool), "_detour": detour, "_direct": ~detour}
    if world.name == "two_room":
        groups["_other_room"] = ((start[:, 0] < layout[:, 0]) != (goal[:, 0] < layout[:, 0])).numpy()
    scene = np.unique(layout.numpy(), axis=0, return_inverse=True)[1].reshape(-1) if layout.shape[1] else None
    report: dict[str, Any] = {
        "metrics": _correlations(temporal, way, groups),
        "floors": {"latent_l2": _correlations(latent, way, groups), "straight": _correlations(straight, way, groups)},
        "episodes": len(way),
        "seeds": 1,
        "data": f"env:{world.name}, {split}",
        "hardware": hardware(),
        "commit": commit(),
    }
    if detour.any() and not detour.all():
        per_step = way / np.maximum(temporal, 1e-6)
        report["metrics"]["ratio_detour_to_direct"] = float(np.median(per_step[detour]) / np.median(per_step[~detour]))
    if scene is not None:
        interval = block_bootstrap(lambda rows: spearman(temporal[rows], way[rows]), scene, seed=seed, resamples=500)
        report["ci95"] = {"spearman": (interval.low, interval.high)}
    report["seconds_total"] = time.perf_counter() - began
    return report


def draw_pairs(
    world: World, pairs: int, split: Split, seed: int
) -> tuple[Float[Tensor, "k s"], Float[Tensor, "k s"], Float[Tensor, "k l"]]:
    """States of two different behaviour episodes of one layout, one pair per draw, and the layout."""
    episodes = max(PER_LAYOUT, -(-pairs // (STEPS * PER_LAYOUT)) * PER_LAYOUT * 8)
    data = world.behaviour(episodes, steps=STEPS, seed=seed, split=split, episodes_per_layout=PER_LAYOUT)
    generator = torch.Generator().manual_seed(seed)
    one = torch.randint(episodes, (pairs,), generator=generator)
    turn = torch.randint(1, PER_LAYOUT, (pairs,), generator=generator)
    other = one // PER_LAYOUT * PER_LAYOUT + (one + turn) % PER_LAYOUT
    at, later = (torch.randint(STEPS + 1, (pairs,), generator=generator) for _ in range(2))
    return data.states[one, at], data.states[other, later], data.layouts[one]


@torch.no_grad()
def _encode(model: WorldModel, world: World, states: Tensor, layout: Tensor) -> Float[Tensor, "k n d"]:
    device = next(model.parameters()).device
    parts = zip(states.split(BATCH), layout.split(BATCH), strict=True)
    return torch.cat([model.goal(world.render(some, at).to(device)).z.cpu() for some, at in parts])


def _correlations(values: np.ndarray, way: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, float]:
    return {f"spearman{name}": spearman(values[rows], way[rows]) for name, rows in groups.items() if rows.sum() > 2}


def spearman(one: Float[np.ndarray, "n"], two: Float[np.ndarray, "n"]) -> float:
    """Correlation of ranks; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(one), _ranks(two))[0, 1])


def _ranks(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: np.ndarray = (last - (counts - 1) / 2.0)[place.reshape(-1)]
    return means
