"""Several ways to decide on the same tasks: who is better, by how much, at what cost per decision."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import LatentPlanningModel
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.statistics import paired_bootstrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2364aa", "#d1603d", "#3a7d44", "#6a4c93", "#b8860b", "#3c8d93", "#a23b72")
GREY, BOOTSTRAP_SEED = "#5c6773", 0
Label = tuple[float, float, str, str, tuple[float, float]]  # x, y, text, colour, ends of the interval
SHARED = ("episodes", "seeds", "protocol", "protocol_version", "protocol_hash", "hardware", "commit")


def compare_planning(
    model: LatentPlanningModel,
    protocol: PlanningProtocol | str,
    controls: Mapping[str, Control],
    *,
    episodes: int | None = None,
    seeds: int = 1,
    history: int = 1,
    batch: int | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Decide with every control on the same tasks, and compare each with the first, task by task.

    Arguments:
        controls: by the names that the report calls them; the first one is what the others are compared with.
        model, protocol, episodes, seeds, history, batch, device: as `evaluate_planning`.

    Returns: a report for JSON. `metrics` has a flat dict per control, as `evaluate_planning`, with
        `success_difference`, its success rate less the first control's on the same tasks; `ci95` per control the Wilson
        interval of `success_rate` and the paired bootstrap interval of `success_difference`, tasks drawn. `floors` are
        those of the protocol, played once. `seconds` is the sum over controls; `rows` has one per control and task.

    Raises: ConfigError for no control, fewer than two tasks, or as `evaluate_planning`, before anything is played.
    """
    began = time.perf_counter()
    protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
    tasks = (protocol.episodes if episodes is None else episodes) * seeds
    if not controls or tasks < 2:
        raise ConfigError(
            f"compare_planning: found {len(controls)} controls and {tasks} tasks, expected at least 1 control and "
            "2 tasks"
        )
    controls = {name: control.resolved(model) for name, control in controls.items()}
    reports: dict[str, dict[str, Any]] = {}
    for name, control in controls.items():
        # Floors do not depend on the control: the tasks of a protocol without them are the same.
        rules = protocol if not reports else replace(protocol, floors=())
        reports[name] = evaluate_planning(
            model,
            rules,
            control=control,
            episodes=episodes,
            seeds=seeds,
            history=history,
            oracle=False,
            batch=batch,
            device=device,
        )
    first = next(iter(reports))
    found: dict[str, Any] = {
        "metrics": {name: dict(report["metrics"]) for name, report in reports.items()},
        "floors": reports[first]["floors"],
        "ci95": {name: {"success_rate": list(report["ci95"]["success_rate"])} for name, report in reports.items()},
        "first": first,
        "controls": {name: report["control"] for name, report in reports.items()},
        **{key: reports[first][key] for key in SHARED},
        "seconds": sum(report["seconds"] for report in reports.values()),
    }
    solved = {name: np.array([row["success"] for row in report["rows"]], float) for name, report in reports.items()}
    for name in list(reports)[1:]:
        difference = paired_bootstrap(solved[name], solved[first], seed=BOOTSTRAP_SEED)
        found["metrics"][name]["success_difference"] = difference.estimate
        found["ci95"][name]["success_difference"] = [difference.low, difference.high]
    found["rows"] = [{"control": name, **row} for name, report in reports.items() for row in report["rows"]]
    found["seconds_total"] = time.perf_counter() - began
    return found


def comparison_table(report: Mapping[str, Any]) -> str:
    """A report of `compare_planning` as plain text: one line per control, then one per floor.

    `ms` are per decision, 50th and 95th percentile, without the encoder, whose median stands beside them; `final cost`
    is what the last plan promised and what its last frame gave, each by the control's own cost. Behind it, with a
    timeout, the share of plans that the clock ended, and of those that had no time for one iteration.
    """
    names = [*report["metrics"], *report["floors"]]
    width = max(12, *map(len, names))
    head = (
        f"{'control':{width}}  {'success':22}{'difference to first':26}{'path eff.':>9}{'evaluations':>13}"
        f"{'ms p50':>9}{'p95':>9}{'encoder':>9}  final cost, promised > kept"
    )
    lines = [f"{report['protocol']}, {report['episodes']} tasks", head]
    for name, metrics in report["metrics"].items():
        around = report["ci95"][name]
        success = f"{metrics['success_rate']:.3f} {_interval(around['success_rate'])}"
        difference = "-"
        if "success_difference" in metrics:
            difference = f"{metrics['success_difference']:+.3f} {_interval(around['success_difference'], '+')}"
        cost = "-"
        if "predicted_final_cost" in metrics:
            cost = f"{metrics['predicted_final_cost']:.3g} > {metrics['realised_final_cost']:.3g}"
        lines.append(
            f"{name:{width}}  {success:22}{difference:26}{metrics['path_efficiency']:9.3f}"
            f"{metrics['model_evaluations_per_decision']:13.0f}{metrics['ms_deciding_p50']:9.3g}"
            f"{metrics['ms_deciding_p95']:9.3g}{metrics['ms_encoding_p50']:9.3g}  {cost}{_cut_short(metrics)}"
        )
    lines += [f"{name:{width}}  {floor['success_rate']:.3f}  (floor)" for name, floor in report["floors"].items()]
    return "\n".join(lines)


def plot_comparison(report: Mapping[str, Any], path: str | Path) -> Path:
    """A PNG of success, with its interval, against milliseconds per decision: one labelled point per control.

    Controls that differ only in `evaluations` are one line, with their evaluations at the points. Floors are
    horizontal lines. Returns the path. Raises ConfigError for a file that cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.86, top=0.92, bottom=0.12)
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("milliseconds per decision, encoder included (median)")
    axes.set_ylabel("success rate, 95 % Wilson interval")
    axes.set_title(f"{report['protocol']}, {report['episodes']} tasks", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    times = [metrics["ms_per_decision_p50"] for metrics in report["metrics"].values()]
    axes.set_xlim(min(times) / 1.6, max(times) * 2.2)
    _plot_floors(axes, report["floors"])
    labels: list[Label] = []
    for number, members in enumerate(_families(report["controls"])):
        labels += _plot_family(axes, report, members, COLOURS[number % len(COLOURS)])
    _place_labels(axes, labels)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1.16, 1.0), ncols=3)
    return save_figure(figure, path)


def save_figure(figure: Any, path: str | Path) -> Path:
    """Write a figure as PNG, folders made as needed. Raises ConfigError where that cannot be."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, format="png")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def _cut_short(metrics: Mapping[str, float]) -> str:
    if "timed_out" not in metrics:
        return ""
    return f"; timed out {metrics['timed_out']:.2f}, unsearched {metrics['unsearched']:.2f}"


def _interval(ends: Any, sign: str = "") -> str:
    low, high = ends
    return f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def _families(controls: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Names of controls that are the same but for their evaluations, together."""
    families: dict[str, list[str]] = {}
    for name, control in controls.items():
        same = {key: value for key, value in control.items() if key != "evaluations"}
        families.setdefault(json.dumps(same, sort_keys=True), []).append(name)
    return list(families.values())


def _plot_family(axes: "Axes", report: Mapping[str, Any], members: list[str], colour: str) -> list[Label]:
    """Draw points, and a line through several; returns the labels that they want."""
    metrics = report["metrics"]
    members = sorted(members, key=lambda name: metrics[name]["model_evaluations_per_decision"])
    x = [metrics[name]["ms_per_decision_p50"] for name in members]
    y = [metrics[name]["success_rate"] for name in members]
    low, high = zip(*(report["ci95"][name]["success_rate"] for name in members), strict=True)
    spread = np.maximum(0.0, [np.subtract(y, low), np.subtract(high, y)])
    several = len(members) > 1
    family = re.sub(r"evaluations=\d+,?", "", members[0]).rstrip(":,") + ", by evaluations" if several else None
    axes.errorbar(
        x,
        y,
        yerr=spread,
        fmt="o-" if several else "o",
        color=colour,
        markersize=5,
        linewidth=1.2,
        capsize=2,
        label=family,
    )
    texts = [f"{metrics[name]['model_evaluations_per_decision']:.0f}" for name in members] if several else members
    return [(*place, colour, ends) for *place, ends in zip(x, y, texts, zip(low, high, strict=True), strict=True)]


def _plot_floors(axes: "Axes", floors: Mapping[str, Mapping[str, float]]) -> None:
    """Dashed lines, named at the right, the names moved apart where lines lie together."""
    last = -1.0
    for name, floor in sorted(floors.items(), key=lambda item: item[1]["success_rate"]):
        level = floor["success_rate"]
        last = max(level, last + 0.042)
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            f"{name} {level:.2f}",
            (1.005, last),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            color=GREY,
            va="center",
        )


def _place_labels(axes: "Axes", labels: list[Label]) -> None:
    """Write each label where it hides no other label, no point and no interval, or the least of them."""
    from matplotlib.patheffects import withStroke

    scale = axes.figure.dpi / 72
    points = axes.transData.transform([label[:2] for label in labels])
    lows, highs = (axes.transData.transform([(label[0], label[4][end]) for label in labels])[:, 1] for end in (0, 1))
    taken = [(x - 4, low, x + 4, high) for (x, _), low, high in zip(points, lows, highs, strict=True)]
    taken += [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    for (x, y), (_, _, text, colour, _) in zip(points, labels, strict=True):
        wide, tall = 4.6 * scale * len(text), 9 * scale
        boxes = []
        for up in (0, 9, -9, 18, -18, 27, -27):
            for left in (x + 7 * scale, x - 7 * scale - wide):
                boxes.append((left, y + (up - 4) * scale, left + wide, y + (up - 4) * scale + tall))
        best = boxes[int(np.argmin([sum(_overlap(box, other) for other in taken) for box in boxes]))]
        taken.append(best)
        halo = [withStroke(linewidth=2, foreground="white")]
        axes.annotate(
            text, best[:2], xycoords="figure pixels", fontsize=8, color=colour, annotation_clip=False, path_effects=halo
        )


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    wide = min(one[2], two[2]) - max(one[0], two[0])
    tall = min(one[3], two[3]) - max(one[1], two[1])
    return max(0.0, wide) * max(0.0, tall)
