"""A picture of a data set: for some episodes a row of frames per camera, and the actions under them, aligned in
time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from jepa_actions.data.types import Episode, Provenance, VideoDataset
from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 13.0  # of the page, inches
LEFT, RIGHT = 1.5, 0.15  # margins of the plots, inches
LANE = 0.24  # height of one action dimension, inches
COLOURS = {Provenance.TRUE: "#2364aa", Provenance.PSEUDO: "#d1603d", Provenance.LATENT: "#6a4c93"}
GRID, GREY = "#d5dbe5", "#5c6773"


def contact_sheet(
    dataset: VideoDataset,
    out: str | Path,
    *,
    episodes: Sequence[int] | None = None,
    frames: int = 10,
    dimensions: int = 16,
) -> Path:
    """Write a PNG and return its path.

    Every frame stands above the moment at which it was seen. An action is drawn from its frame to the next, each
    dimension scaled to its own range over the episodes shown, blue where true, orange where pseudo, purple where
    latent, and left out where it is not known.

    Args:
        dataset: any data set.
        out: the file to write.
        episodes: which to show; by default up to 5, spread over the data set.
        frames: pictures per episode and camera.
        dimensions: of the actions, at most so many from the first.

    Raises:
        DataError: where an episode does not exist or cannot be read, or the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    chosen = spread(len(dataset), 5) if episodes is None else list(episodes)
    labels = [dataset.episode(i) for i in chosen]
    names = (dataset.action_names or ())[:dimensions]
    ranges = _ranges(labels, len(names))
    height_of = _heights(dataset, frames)
    rows = [*height_of.values(), *([max(len(names), 1) * LANE] if names else [])]
    page = len(chosen) * (sum(rows) + 0.62) + 0.15
    with mpl.rc_context({"font.size": 8, "axes.edgecolor": GREY, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(WIDTH, page))
        top = page - 0.1
        for episode, i in zip(labels, chosen, strict=True):
            top = _episode(figure, dataset, episode, i, top, height_of, names, ranges, frames)
        path = Path(out)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=110, format="png")
        except OSError as error:
            raise DataError(f"{path}: the contact sheet cannot be written ({error.strerror or error})") from error
    return path


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly apart, first and last among them."""
    return sorted({int(k) for k in np.linspace(0, count - 1, min(most, count)).round()})


def _heights(dataset: VideoDataset, frames: int) -> dict[str, float]:
    """Inches of every camera's row: pictures fill the width side by side, without distortion."""
    width = (WIDTH - LEFT - RIGHT) / frames
    sizes = {camera: dataset.image_size(camera) for camera in dataset.cameras}
    return {camera: min(width * size[0] / size[1], 2 * width) for camera, size in sizes.items()}


def _ranges(labels: Sequence[Episode], count: int) -> tuple[Float[np.ndarray, "a"], Float[np.ndarray, "a"]]:
    known = [e.actions[e.labelled()][:, :count] for e in labels if e.actions is not None]
    rows = np.concatenate(known) if known else np.zeros((0, count))
    rows = rows[np.isfinite(rows).all(axis=1)]
    return (rows.min(axis=0), rows.max(axis=0)) if len(rows) else (np.zeros(count), np.ones(count))


def _episode(
    figure: Any,
    dataset: VideoDataset,
    episode: Episode,
    i: int,
    top: float,
    height_of: dict[str, float],
    names: Sequence[str],
    ranges: tuple[Float[np.ndarray, "a"], Float[np.ndarray, "a"]],
    frames: int,
) -> float:
    """Draw one episode below `top` (inches from the page's foot) and return where it ends."""
    times = np.arange(episode.length) / dataset.fps if episode.times is None else episode.times
    span = (0.0, max(float(times[-1]), 1 / dataset.fps))
    moments = (np.arange(frames) + 0.5) / frames * span[1]
    numbers = np.abs(times[None] - moments[:, None]).argmin(axis=1)
    images = dataset.read_clips(np.array([i]), numbers[None])
    text = f"  ·  {episode.text}" if episode.text else ""
    title = f"episode {i}  ·  {episode.length} frames, {span[1]:.1f} s{text}"
    figure.text(LEFT / WIDTH, (top - 0.14) / figure.get_figheight(), _fit(title), fontsize=9, weight="bold")
    top -= 0.22
    for camera, height in height_of.items():
        axes = _axes(figure, top, height, span)
        for moment, picture in zip(moments, images[camera][0].permute(0, 2, 3, 1).numpy(), strict=True):
            half = span[1] / frames / 2
            axes.imshow(
                picture, extent=(moment - half, moment + half, 0, 1), aspect="auto", interpolation="antialiased"
            )
        axes.set_xlim(*span)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.5], [_fit(camera.removeprefix("observation.images."), 20)])
        axes.set_xticks([])
        top -= height
    if names:
        axes = _axes(figure, top, len(names) * LANE, span)
        _lanes(axes, episode, times, names, ranges)
        top -= len(names) * LANE
    axes.vlines(moments, 0, axes.get_ylim()[1], color=GRID, linewidth=0.7, zorder=0)
    axes.set_xticks(moments, [f"{times[n]:.1f} s\n#{n}" for n in numbers], fontsize=7, color=GREY)
    return top - 0.4


def _axes(figure: Any, top: float, height: float, span: tuple[float, float]) -> Axes:
    page = figure.get_figheight()
    axes: Axes = figure.add_axes((LEFT / WIDTH, (top - height) / page, (WIDTH - LEFT - RIGHT) / WIDTH, height / page))
    axes.set_xlim(*span)
    axes.tick_params(length=0, pad=3)
    for side in axes.spines.values():
        side.set_linewidth(0.6)
    return axes


def _lanes(
    axes: Axes,
    episode: Episode,
    times: Float[np.ndarray, "t"],
    names: Sequence[str],
    ranges: tuple[Float[np.ndarray, "a"], Float[np.ndarray, "a"]],
) -> None:
    """One lane per action dimension, the first on top."""
    low, high = ranges
    axes.set_ylim(0, len(names))
    marks, ticks = [], []
    for k, name in enumerate(names):
        foot = len(names) - 1 - k
        axes.axhline(foot, color=GRID, linewidth=0.6, zorder=0)
        marks.append(foot + 0.5)
        ticks.append(f"{_fit(name, 14)}  {low[k]:.3g}..{high[k]:.3g}")
        if episode.actions is None:
            continue
        known, origins = episode.labelled() & np.isfinite(episode.actions[:, k]), episode.origins()
        scale = high[k] - low[k]
        place = (episode.actions[:, k] - low[k]) / scale if scale > 0 else np.full(episode.length - 1, 0.5)
        level = foot + 0.1 + 0.8 * place
        for origin, colour in COLOURS.items():
            shown = known & (origins == origin)
            for start, stop in runs(shown):
                axes.stairs(level[start:stop], times[start : stop + 1], baseline=None, color=colour, linewidth=1.1)
    if episode.actions is None or not episode.labelled().any():
        axes.text(0.5, 0.5, "no known action", transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_yticks(marks, ticks, fontsize=7)


def runs(flags: Bool[np.ndarray, "t"]) -> list[tuple[int, int]]:
    """Stretches `[start, stop)` in which `flags` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _fit(text: str, most: int = 150) -> str:
    plain = " ".join(text.split()).replace("$", "\\$")  # a dollar would begin a formula
    return plain if len(plain) <= most else plain[: most - 1] + "…"
