"""Two runs side by side: what differs in their recipes, every metric that both have, and trouble where it began."""

import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa_actions.evaluation.html_page import BLUE, GREY, ORANGE, html_table, picture, subplots, write_html
from jepa_actions.evaluation.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE)
COLUMNS = 4
STYLES = {"collapse": "--", "divergence": ":", "starvation": "-."}
LOG_RATIO = 30.0  # a metric that spans more is drawn on a logarithmic axis
FIRST = ("loss", "grad_norm", "lr", "clips_per_second", "step_seconds", "data_seconds", "starved", "mfu")


def write_runs_page(one: Run, two: Run, path: str | Path) -> Path:
    """Write the page of two runs. Raises ConfigError where it cannot be written."""
    names = _names(one, two)
    runs = dict(zip(names, (one, two), strict=True))
    shared, alone = shared_metrics(one, two)
    colours = " and ".join(
        f'<b style="color:{colour}">{html.escape(name)}</b>' for name, colour in zip(names, COLOURS, strict=True)
    )
    body = [
        f"<h1>{colours}</h1>",
        html_table(["", *names], _facts(one, two)),
        "<h2>What differs in the recipes</h2>",
        _differences_table(names, one, two),
        "<h2>Trouble</h2>",
        _events_table(runs),
        "<h2>Metrics of both</h2>",
        "<p class=note>Over training steps. Vertical lines: where trouble began (dashed: collapse, dotted: divergence, "
        "dash-dotted: starvation), in the colour of its run.</p>",
        *(picture(_plots(group, keys, runs), "") for group, keys in _groups(shared)),
    ]
    if alone:
        body.append(f"<p class=note>Of one alone: {html.escape(', '.join(alone))}.</p>")
    scores = _score_rows(one, two)
    if scores:
        body += ["<h2>Scores</h2>", html_table(["", *names], scores)]
    return write_html(path, " and ".join(names), body)


def shared_metrics(one: Run, two: Run) -> tuple[list[str], list[str]]:
    """Metrics that both runs logged, and those of one alone."""
    first, second = ({key for row in run.rows for key in row if key != "step"} for run in (one, two))
    return sorted(first & second, key=_order), sorted(first ^ second, key=_order)


def recipe_differences(one: dict[str, Any], two: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Keys whose values differ, with both values; `-` where one recipe does not have the key."""
    first, second = _flat(one), _flat(two)
    keys = [*first, *(key for key in second if key not in first)]
    pairs = ((key, first.get(key, "-"), second.get(key, "-")) for key in keys)
    return [(key, here, there) for key, here, there in pairs if here != there]


def _names(one: Run, two: Run) -> tuple[str, str]:
    """Their names, or their folders where these are the same."""
    if one.name != two.name:
        return one.name, two.name
    return str(one.folder), str(two.folder)


def _facts(one: Run, two: Run) -> list[tuple[str, str, str]]:
    def both(what: str, tell: Any) -> tuple[str, str, str]:
        return what, tell(one), tell(two)

    def last(key: str) -> Any:
        return lambda run: "-" if run.last(key) is None else f"{run.last(key):.4g}"

    return [
        both("folder", lambda run: str(run.folder)),
        both("state", lambda run: run.state),
        both("step", lambda run: f"{run.step} of {run.steps}"),
        both("last loss", last("loss")),
        both("last clips/s", last("clips_per_second")),
        both("last rank of z", last("z/rank")),
    ]


def _differences_table(names: tuple[str, str], one: Run, two: Run) -> str:
    rows = recipe_differences(one.config, two.config)
    return html_table(["key", *names], rows) if rows else "<p>Nothing.</p>"


def _events_table(runs: dict[str, Run]) -> str:
    rows = [
        (f"{name}, step {event['step']}", str(event["event"]), str(event.get("what", "")))
        for name, run in runs.items()
        for event in run.events
    ]
    return html_table(["", "", ""], rows) if rows else "<p>None was named.</p>"


def _score_rows(one: Run, two: Run) -> list[tuple[str, str, str]]:
    first, second = (_flat(run.scores) for run in (one, two))
    return [(key, first.get(key, "-"), second.get(key, "-")) for key in sorted({*first, *second})]


def _order(key: str) -> tuple[int, str]:
    return (FIRST.index(key) if key in FIRST else len(FIRST), key)


def _groups(keys: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Metrics by what stands before the slash; those without one first."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(key.rpartition("/")[0], []).append(key)
    return list(found.items())


def _plots(group: str, keys: list[str], runs: dict[str, Run]) -> "Figure":
    lines = -(-len(keys) // COLUMNS)
    tall = 1.9 * lines + 0.3
    figure, axes = subplots(lines, COLUMNS, (2.7 * COLUMNS, tall))
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.3 / tall, top=1 - 0.55 / tall, wspace=0.3, hspace=0.5)
    for place, axis in enumerate(axes.flat):
        if place < len(keys):
            _plot(axis, keys[place], runs)
        else:
            axis.set_axis_off()
    figure.suptitle(group or "training", fontsize=10, x=0.01, ha="left", fontweight="bold", va="top", y=1 - 0.06 / tall)
    return figure


def _plot(axis: "Axes", key: str, runs: dict[str, Run]) -> None:
    values = []
    for run, colour in zip(runs.values(), COLOURS, strict=True):
        points = [(row["step"], row[key]) for row in run.rows if key in row]
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, marker="." if len(points) == 1 else None)
        values += [value for _, value in points]
        for event in run.events:
            axis.axvline(event["step"], color=colour, linewidth=0.9, linestyle=STYLES.get(event["event"], "-"))
    if min(values) > 0 and max(values) > LOG_RATIO * min(values):
        axis.set_yscale("log")
    else:
        axis.ticklabel_format(useOffset=False)
    axis.set_title(key.rpartition("/")[2].replace("_", " "), fontsize=8)
    axis.tick_params(labelsize=6.5, color=GREY)
    axis.spines[["top", "right"]].set_visible(False)


def _flat(value: Any, where: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys with texts."""
    if not isinstance(value, dict):
        return {where: f"{value:.4g}" if isinstance(value, float) else str(value)}
    found: dict[str, str] = {}
    for key, item in value.items():
        found |= _flat(item, f"{where}.{key}" if where else str(key))
    return found
