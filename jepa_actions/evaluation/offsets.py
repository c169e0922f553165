"""Success by how far the goal is: several controls over protocols that differ in their offset."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import LatentPlanningModel
from jepa_actions.evaluation.compare import COLOURS, GREY, compare_planning, save_figure
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.resources import protocol_names


def with_offsets(protocol: PlanningProtocol | str, offsets: Sequence[int]) -> list[PlanningProtocol]:
    """A protocol at other offsets, with twice as many environment steps for each: the published one where the name with
    that offset is one's, with whatever `protocol` changes in its own published one; else the same rules under that
    name, on behaviour that is long enough (so the hash is new).

    Raises: ConfigError for a protocol of another sampler, no offset, or one below 1.
    """
    base = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if base.sampler != "offset":
        raise ConfigError(f"protocol {base.name!r}, sampler: found {base.sampler!r}, expected 'offset' for --offsets")
    if min(offsets, default=0) < 1:
        raise ConfigError(f"--offsets: found {[*offsets]}, expected at least one, each at least 1 environment step")
    return [_at(base, offset) for offset in offsets]


def _at(base: PlanningProtocol, offset: int) -> PlanningProtocol:
    if offset == base.offset and base.budget == 2 * offset:
        return base
    name, found = re.subn(r"offset\d+", f"offset{offset}", base.name, count=1)
    name = name if found else f"{base.name}_offset{offset}"
    if name in protocol_names():
        own = load_protocol(base.name) if base.name in protocol_names() else base
        kept = {item.name for item in fields(base)} - {"name", "offset", "budget"}
        changed = {key: getattr(base, key) for key in kept if getattr(base, key) != getattr(own, key)}
        return replace(load_protocol(name), **changed)
    steps = max(base.behaviour.steps, 6 * offset // 5)  # as much room for the start as 100 of 120 steps leave
    return replace(base, name=name, offset=offset, budget=2 * offset, behaviour=replace(base.behaviour, steps=steps))


def curves_over_offsets(
    model: LatentPlanningModel,
    protocols: Sequence[PlanningProtocol | str],
    controls: Mapping[str, Control],
    *,
    episodes: int | None = None,
    seeds: int = 1,
    history: int = 1,
    batch: int | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Compare controls on several protocols of sampler `offset`.

    Arguments:
        controls: by the names that the report calls them.
        model, episodes, seeds, history, batch, device: as `evaluate_planning`.

    Returns: a report for JSON, where an offset is its environment steps as text, nearest first. `metrics` and `floors`
        have success by offset, of every control and floor; `ci95` its Wilson interval; `curves` all metrics of every
        control, by offset; `rows` name offset and control. `protocol`, `protocol_hash` are by offset.

    Raises: ConfigError for no protocol, one without an offset, two of the same, or as `compare_planning`.
    """
    began = time.perf_counter()
    rules = [load_protocol(protocol) if isinstance(protocol, str) else protocol for protocol in protocols]
    offsets = [protocol.offset for protocol in rules]
    if not rules or None in offsets or len(set(offsets)) < len(offsets):
        raise ConfigError(f"curves_over_offsets: found offsets {offsets}, expected one protocol per offset, at least 1")
    reports = {
        str(protocol.offset): compare_planning(
            model, protocol, controls, episodes=episodes, seeds=seeds, history=history, batch=batch, device=device
        )
        for protocol in sorted(rules, key=lambda protocol: protocol.offset or 0)
    }
    first = next(iter(reports.values()))
    curves = {name: _by_offset(reports, name, first["metrics"][name]) for name in first["metrics"]}
    return {
        "metrics": {name: curve["success_rate"] for name, curve in curves.items()},
        "floors": {
            name: {offset: report["floors"][name]["success_rate"] for offset, report in reports.items()}
            for name in first["floors"]
        },
        "ci95": {
            name: {offset: report["ci95"][name]["success_rate"] for offset, report in reports.items()}
            for name in curves
        },
        "curves": curves,
        "episodes": sum(report["episodes"] for report in reports.values()),
        "seeds": seeds,
        "seconds": sum(report["seconds"] for report in reports.values()),
        "controls": first["controls"],
        "protocol": {offset: report["protocol"] for offset, report in reports.items()},
        "protocol_hash": {offset: report["protocol_hash"] for offset, report in reports.items()},
        "hardware": first["hardware"],
        "commit": first["commit"],
        "rows": [{"offset": int(offset), **row} for offset, report in reports.items() for row in report["rows"]],
        "seconds_total": time.perf_counter() - began,
    }


def offset_table(report: Mapping[str, Any]) -> str:
    """Success with its interval, path efficiency and median milliseconds, one line per control and offset, then the
    floors."""
    names = [*report["metrics"], *report["floors"]]
    width = max(12, *map(len, names))
    lines = [
        f"{'control':{width}}{'offset':>8}  {'success':22}{'path eff.':>9}{'evaluations':>13}{'ms p50':>9}{'p95':>9}"
    ]
    for name, success in report["metrics"].items():
        curve = report["curves"][name]
        for offset, rate in success.items():
            low, high = report["ci95"][name][offset]
            numbers = [curve[key][offset] for key in ("ms_per_decision_p50", "ms_per_decision_p95")]
            lines.append(
                f"{name:{width}}{offset:>8}  {f'{rate:.3f} [{low:.3f}, {high:.3f}]':22}"
                f"{curve['path_efficiency'][offset]:9.3f}{curve['model_evaluations_per_decision'][offset]:13.0f}"
                + "".join(f"{number:9.3g}" for number in numbers)
            )
    for name, floor in report["floors"].items():
        lines += [f"{name:{width}}{offset:>8}  {rate:.3f}  (floor)" for offset, rate in floor.items()]
    return "\n".join(lines)


def plot_offsets(report: Mapping[str, Any], path: str | Path) -> Path:
    """A PNG of success against offset, one line per control, floors in grey.

    Returns the path. Raises ConfigError for a file that cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.2), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = report["metrics"]
    x = [int(offset) for offset in next(iter(shown.values()))]
    between = 0.012 * (max(x) - min(x) or 1)  # so that lines that lie on each other are both seen
    for number, (name, success) in enumerate(shown.items()):
        y, around = list(success.values()), list(report["ci95"][name].values())
        low, high = zip(*around, strict=True)
        spread = np.maximum(0.0, [np.subtract(y, low), np.subtract(high, y)])
        apart = [place + between * (number - (len(shown) - 1) / 2) for place in x]
        axes.errorbar(apart, y, yerr=spread, fmt="o-", markersize=5, capsize=2, color=COLOURS[number % 7], label=name)
    for number, (name, floor) in enumerate(report["floors"].items()):
        axes.plot(x, list(floor.values()), linestyle=("--", ":", "-.")[number % 3], color=GREY, linewidth=1, label=name)
    axes.set_xticks(x)
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("environment steps from start to goal, in the behaviour that tasks are cut from")
    axes.set_ylabel("success rate, 95 % Wilson interval")
    ends = dict.fromkeys(list(report["protocol"].values())[end] for end in (0, -1))
    axes.set_title(f"{' to '.join(ends)}, {report['episodes']} tasks", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return save_figure(figure, path)


def _by_offset(reports: Mapping[str, Mapping[str, Any]], name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Of one control, from metric to offset to value."""
    return {
        metric: {
            o: report["metrics"][name][metric] for o, report in reports.items() if metric in report["metrics"][name]
        }
        for metric in metrics
    }
