"""The planner's cost over two action dimensions: is its minimum where the true action is?

The published picture of V-JEPA 2-AC shows a minimum beside the true action (facebookresearch/vjepa2, issue 54).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.compare import save_figure
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.heldout import HeldoutClips, heldout_clips, recorded_sequences
from jepa_actions.evaluation.offline import ClipSearch
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import block_bootstrap, paired_bootstrap
from jepa_actions.models import WorldModel
from jepa_actions.training import OpenData

MARKS = {  # colour, marker, label
    "recorded": ("#ffffff", "*", "recorded action"),
    "minimum": ("#d1603d", "X", "minimum of the cost"),
    "inverse_head": ("#57c4e5", "o", "inverse head"),
}


@dataclass(frozen=True)
class Landscape:
    """Cost of c pairs over a grid of two raw action dimensions; NaN where the bounds allow no such action.

    `points` are places in the grid's plane: the recorded action, the minimum, the inverse head's answer, and the
    minima towards other clips' goals.
    """

    names: tuple[str, str]
    x: Float[np.ndarray, "g"]
    y: Float[np.ndarray, "g"]
    cost: Float[np.ndarray, "c g g"]  # [pair, y, x]
    points: dict[str, Float[np.ndarray, "c 2"]]
    pairs: list[dict[str, Any]]  # episode and frame

    @property
    def step(self) -> Float[np.ndarray, "2"]:
        """Between neighbours of the grid."""
        return np.array([self.x[1] - self.x[0], self.y[1] - self.y[0]])


@torch.no_grad()
def energy_landscape(
    model: WorldModel,
    data: OpenData,
    *,
    k: int = 1,
    dims: tuple[int, int] | None = None,
    grid: int = 21,
    control: Control | None = None,
    limit: int = 100,
    seed: int = 0,
    batch: int = 8,
) -> tuple[dict[str, Any], Landscape]:
    """The cost from o_t to o_{t+k} of held-out pairs, over a grid of two raw action dimensions.

    A grid point is one value per dimension, held for all raw actions of the k steps; the other dimensions are as
    recorded. The recorded action is marked at its mean over these.

    Arguments:
        dims: raw action dimensions, by number; the first two that are no choice among classes when None.
        grid: points per dimension, over the box around the action bounds.
        control: its cost is drawn; nothing is planned.
        limit: pairs, drawn with `seed`.

    Returns: a report for JSON, and the landscapes. `hit` is the share of pairs whose minimum is at most one grid step
        from the recorded action in both dimensions, `error` the mean distance between them in raw units, `error_steps`
        in grid steps, `bias` the mean of minimum less recorded, by dimension; `recorded_quantile` is the share of the
        grid that costs less than the recorded action. Floors: `mean` answers with the mean of the training actions,
        `shuffled_goal` is the minimum towards another clip's goal. The reference `inverse_head` is its answer.

    Raises: ConfigError for a grid below 3 points, or dimensions that are not two numbers of the actions; DataError as
        `heldout_clips`.
    """
    began = time.perf_counter()
    if grid < 3 or k < 1:
        raise ConfigError(f"energy_landscape: found grid {grid} and k {k}, expected at least 3 and 1")
    control = (control or Control(reduce="last")).resolved(model)  # to be there after k steps, not before
    clips = heldout_clips(model, data, k=k, limit=limit, seed=seed)
    one, two = _dimensions(clips, dims)
    x, y, tried, allowed = _grid(clips, (one, two), grid)
    search = ClipSearch(clips, control, seed, batch)
    every = torch.cat([clips.recorded[:, None], tried], dim=1)
    ours, theirs = (costs.numpy() for costs in search.costs(every, clips.goals, clips.others))
    true, cost, strange = ours[:, 0], *(np.where(allowed, costs[:, 1:], np.nan) for costs in (ours, theirs))
    places = np.stack([np.tile(x, grid), np.repeat(y, grid)], axis=-1)
    points = {
        "recorded": _mean(clips, clips.recorded, (one, two)),
        "minimum": places[np.nanargmin(cost, 1)],
        "inverse_head": _mean(clips, clips.inferred()[0], (one, two)),
        "shuffled_goal": places[np.nanargmin(strange, 1)],
    }
    mean = _mean(clips, recorded_sequences(model, data, k), (one, two)).mean(0)
    names = clips.codec.names
    land = Landscape(
        names=(names[one], names[two]),
        x=x,
        y=y,
        cost=cost.reshape(-1, grid, grid),
        points=points,
        pairs=[clips.named(row) for row in range(len(clips))],
    )
    answers = {name: points[name] for name in ("minimum", "inverse_head", "shuffled_goal")}
    scores = {name: _scores(land, answer) for name, answer in answers.items()}
    scores["mean"] = _scores(land, np.broadcast_to(mean, points["recorded"].shape))
    scores["minimum"]["recorded_quantile"] = (cost < true[:, None]).sum(1) / allowed.sum(1)
    report = {
        "metrics": _summary(scores["minimum"], land.names),
        "floors": {name: _summary(scores[name], land.names) for name in ("mean", "shuffled_goal")},
        "references": {"inverse_head": _summary(scores["inverse_head"], land.names)},
        "ci95": _intervals(scores, clips.blocks, seed),
        "dimensions": list(land.names),
        "gap": k,
        "grid": grid,
        "episodes": len(clips),
        "recordings": len(np.unique(clips.encoded.episode)),
        "seeds": 1,
        "cost": control.cost,
        "data": data.heldout_dataset.name,
        "hardware": hardware(clips.device),
        "commit": commit(),
        "rows": [
            clips.named(row)
            | {name: [round(float(value), 5) for value in point[row]] for name, point in points.items()}
            | {"recorded_quantile": round(float(scores["minimum"]["recorded_quantile"][row]), 5)}
            for row in range(len(clips))
        ],
    }
    report["seconds"] = report["seconds_total"] = time.perf_counter() - began
    return report, land


def plot_landscape(land: Landscape, path: str | Path, *, pairs: int = 6) -> Path:
    """A PNG of the first landscapes, darker where the cost is lower, with the recorded action, the minimum and the
    inverse head's answer marked. Returns the path. Raises ConfigError for a file that cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = min(pairs, len(land.pairs))
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(0.8 + 3.1 * columns, 0.7 + 3.0 * rows), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_axis_off()
    for number, axis in enumerate(axes[:count]):
        axis.pcolormesh(land.x, land.y, land.cost[number], shading="nearest", cmap="viridis")
        for name, (colour, marker, label) in MARKS.items():
            axis.scatter(
                *land.points[name][number],
                s=160 if marker == "*" else 60,
                c=colour,
                marker=marker,
                edgecolors="black",
                linewidths=0.8,
                label=label,
                zorder=3,
                clip_on=False,
            )
        where = land.pairs[number]
        axis.set_title(f"episode {where['episode']}, frame {where['frame']}", fontsize=8)
        axis.set_xlim(land.x[0], land.x[-1])
        axis.set_ylim(land.y[0], land.y[-1])
        axis.tick_params(labelsize=7)
    for axis in axes[::columns]:
        axis.set_ylabel(land.names[1], fontsize=8)
    for axis in axes[max(0, count - columns) : count]:
        axis.set_xlabel(land.names[0], fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    figure.legend(handles, labels, loc="upper center", ncols=3, fontsize=8, frameon=False, markerscale=0.7)
    return save_figure(figure, path)


def _dimensions(clips: HeldoutClips, dims: tuple[int, int] | None) -> tuple[int, int]:
    numbers = [i for i, count in enumerate(clips.codec.scaling.classes) if not count]
    chosen = tuple(numbers[:2]) if dims is None else dims
    if len(set(chosen)) != 2 or not set(chosen) <= set(numbers):
        raise ConfigError(
            f"energy_landscape: found dimensions {list(chosen)}, expected two of {numbers} "
            f"({', '.join(clips.codec.names)}; choices among classes have no axis)"
        )
    return chosen[0], chosen[1]


def _grid(
    clips: HeldoutClips, dims: tuple[int, int], grid: int
) -> tuple[np.ndarray, np.ndarray, Float[Tensor, "c s k a"], Bool[np.ndarray, "c s"]]:
    """Both axes, the candidates (x runs fastest), and which of them the bounds allow."""
    codec, bounds = clips.codec, clips.codec.bounds
    radius = (bounds.radius or 0.0,) * len(codec.names)
    low, high = bounds.low or tuple(-r for r in radius), bounds.high or radius
    x, y = (np.linspace(low[d], high[d], grid) for d in dims)
    plane = torch.from_numpy(np.stack([np.tile(x, grid), np.repeat(y, grid)], axis=-1)).float()
    raw = codec.decode(clips.recorded)[:, None].repeat(1, grid * grid, 1, 1, 1)
    raw[..., list(dims)] = plane[:, None, None]
    moved = (bounds.project(raw) - raw)[..., list(dims)].abs().amax((-3, -2, -1))
    span = float(np.ptp(x) + np.ptp(y))
    return x, y, codec.encode(raw), (moved <= 1e-5 * span).numpy()


def _mean(clips: HeldoutClips, actions: Float[Tensor, "c k a"], dims: tuple[int, int]) -> Float[np.ndarray, "c 2"]:
    mean: np.ndarray = clips.codec.decode(actions)[..., list(dims)].double().mean((1, 2)).numpy()
    return mean


def _scores(land: Landscape, answer: Float[np.ndarray, "c 2"]) -> dict[str, Float[np.ndarray, "c *d"]]:
    away = answer - land.points["recorded"]
    steps = away / land.step
    return {
        "hit": (np.abs(steps) <= 1.0).all(1).astype(float),
        "error": np.linalg.norm(away, axis=1),
        "error_steps": np.linalg.norm(steps, axis=1),
        "bias": away,
    }


def _summary(scores: dict[str, Any], names: tuple[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: float(values.mean()) for name, values in scores.items() if values.ndim == 1}
    return found | {"bias": dict(zip(names, map(float, scores["bias"].mean(0)), strict=True))}


def _intervals(scores: dict[str, Any], blocks: np.ndarray, seed: int) -> dict[str, Any]:
    """Of the minimum, and by how much it beats each other answer (above zero is better)."""
    if len(np.unique(blocks)) < 2:
        return {}
    found: dict[str, Any] = {"margin_over": {}}
    for name, values in scores["minimum"].items():
        if values.ndim == 1:
            _, *found[name] = block_bootstrap(values, blocks, seed=seed, resamples=1000)
    for other in ("mean", "shuffled_goal", "inverse_head"):
        found["margin_over"][other] = {}
        for name, sign in (("hit", 1.0), ("error", -1.0)):
            one, two = (sign * scores[which][name] for which in ("minimum", other))
            _, *found["margin_over"][other][name] = paired_bootstrap(one, two, seed=seed, blocks=blocks, resamples=1000)
    return found
