"""Success by how far the goal is: one control, or several, over protocols that differ in their offset."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import LatentPlanningModel
from jepa_actions.evaluation.compare import COLOURS, GREY, save_figure
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol


def curve_over_offsets(
    model: LatentPlanningModel,
    protocols: Sequence[PlanningProtocol | str],
    control: Control | None = None,
    *,
    episodes: int | None = None,
    seeds: int = 1,
    history: int = 1,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Evaluate a control on several protocols of sampler `offset`.

    Returns: a report for JSON. Every metric and floor is a dict from the offset (environment steps, as text) to its
        value, nearest first; `protocol` and `protocol_hash` are by offset too, and `rows` name the offset.

    Raises: ConfigError for no protocol, one without an offset, two of the same, or as `evaluate_planning`.
    """
    began = time.perf_counter()
    rules = [load_protocol(protocol) if isinstance(protocol, str) else protocol for protocol in protocols]
    offsets = [protocol.offset for protocol in rules]
    if not rules or None in offsets or len(set(offsets)) < len(offsets):
        raise ConfigError(f"curve_over_offsets: found offsets {offsets}, expected one protocol per offset, at least 1")
    reports = {
        str(protocol.offset): evaluate_planning(
            model,
            protocol,
            control=control,
            episodes=episodes,
            seeds=seeds,
            history=history,
            oracle=False,
            device=device,
        )
        for protocol in sorted(rules, key=lambda protocol: protocol.offset or 0)
    }
    first = next(iter(reports.values()))
    return {
        "metrics": _by_offset({offset: report["metrics"] for offset, report in reports.items()}),
        "floors": {
            name: _by_offset({offset: report["floors"].get(name, {}) for offset, report in reports.items()})
            for name in first["floors"]
        },
        "ci95": _by_offset({offset: report["ci95"] for offset, report in reports.items()}),
        "episodes": sum(report["episodes"] for report in reports.values()),
        "seeds": seeds,
        "seconds": sum(report["seconds"] for report in reports.values()),
        "control": first["control"],
        "protocol": {offset: report["protocol"] for offset, report in reports.items()},
        "protocol_hash": {offset: report["protocol_hash"] for offset, report in reports.items()},
        "hardware": first["hardware"],
        "commit": first["commit"],
        "rows": [{"offset": int(offset), **row} for offset, report in reports.items() for row in report["rows"]],
        "seconds_total": time.perf_counter() - began,
    }


def offset_table(report: Mapping[str, Any]) -> str:
    """Success with its interval, path efficiency and floors, one line per offset."""
    floors = list(report["floors"])
    lines = [f"{'offset':>6}  {'success':22}{'path eff.':>9}" + "".join(f"{name:>12}" for name in floors)]
    for offset, success in report["metrics"]["success_rate"].items():
        low, high = report["ci95"]["success_rate"][offset]
        around = f"{success:.3f} [{low:.3f}, {high:.3f}]"
        beside = "".join(f"{report['floors'][name]['success_rate'].get(offset, np.nan):12.3f}" for name in floors)
        lines.append(f"{offset:>6}  {around:22}{report['metrics']['path_efficiency'][offset]:9.3f}{beside}")
    return "\n".join(lines)


def plot_offsets(reports: Mapping[str, Mapping[str, Any]], path: str | Path) -> Path:
    """A PNG of success against offset, one line per named report; the floors are the first report's.

    Returns the path. Raises ConfigError for a file that cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, report) in enumerate(reports.items()):
        success, around = report["metrics"]["success_rate"], report["ci95"]["success_rate"]
        y = list(success.values())
        low, high = zip(*(around[offset] for offset in success), strict=True)
        spread = np.maximum(0.0, [np.subtract(y, low), np.subtract(high, y)])
        x = [int(offset) for offset in success]
        apart = [place + 0.7 * (number - (len(reports) - 1) / 2) for place in x]  # lines that lie on each other
        axes.errorbar(apart, y, yerr=spread, fmt="o-", markersize=5, capsize=2, color=COLOURS[number % 7], label=name)
        axes.set_xticks(x)
    floors = next(iter(reports.values()))["floors"]
    for number, (name, floor) in enumerate(floors.items()):
        values, line = floor["success_rate"], ("--", ":", "-.")[number % 3]
        axes.plot([int(o) for o in values], list(values.values()), linestyle=line, color=GREY, linewidth=1, label=name)
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("environment steps from start to goal, in the behaviour that tasks are cut from")
    axes.set_ylabel("success rate, 95 % Wilson interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return save_figure(figure, path)


def _by_offset(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """From offset to name to value, to name to offset to value."""
    names = dict.fromkeys(name for report in reports.values() for name in report)
    return {name: {o: report[name] for o, report in reports.items() if name in report} for name in names}
