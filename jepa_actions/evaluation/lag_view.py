"""A lag scan for people: both curves as a table and as a picture."""

from pathlib import Path
from typing import Any

from jepa_actions.errors import ConfigError


def lag_table(report: dict[str, Any]) -> str:
    """Both curves, and what they say, as text."""
    metrics, lags = report["metrics"], report["lags"]
    width = max(10, *(len(name) for name in metrics["r2"]))
    lines = [
        f"lag scan of {report['data']}: {report['source']}, {metrics['rows']} steps, episodes: {report['episodes']}, "
        f"cameras: {', '.join(report['cameras'])}; R2 on held-out blocks",
        "lag (frames)".ljust(width + 12) + "".join(f"{lag:+6d}" for lag in lags),
    ]
    for name in metrics["r2"]:
        for probe in ("motion", "appearance"):
            curve = report["curves"][probe][name]
            cells = "".join(f"{value:6.2f}" for value in curve)
            lines.append(f"{name if probe == 'motion' else '':{width}}  {probe:10}{cells}")
    lines.append("")
    lines.extend(f"{name}: {verdict(report, name)}" for name in metrics["r2"])
    if "lag" in metrics:
        lines.append(f"all that is explained, together: {metrics['lag']:+d}")
    return "\n".join(lines)


def verdict(report: dict[str, Any], name: str) -> str:
    """One line about one action dimension."""
    metrics = report["metrics"]
    low, high = report["ci95"]["r2"][name]
    floor = report["floors"]["shuffled"]["r2"][name]
    score = f"R2 {metrics['r2'][name]:.2f} [{low:.2f}, {high:.2f}], floor {floor:.2f}"
    if name not in metrics["best_lag"]:
        return f"not found: no lag explains it (best {score} at {metrics['peak'][name]:+d})"
    lag = metrics["best_lag"][name]
    seconds = f"{abs(lag) / report['fps']:.2f} s"
    who = (
        f"leads what is seen by {seconds}"
        if lag > 0
        else f"follows what is seen by {seconds}"
        if lag < 0
        else "aligned"
    )
    wins = ", ".join(f"{int(other):+d}: {share:.0%}" for other, share in report["wins"][name].items())
    if lag in (report["lags"][0], report["lags"][-1]):
        sure = "at the edge of the scan, scan further"
    else:
        sure = "reliable" if metrics["reliable"][name] else "not reliable"
    reaction = ""
    if metrics["appearance_r2"][name] > metrics["r2"][name]:
        reaction = "; one frame alone explains more: perhaps a reaction to what is seen, not its cause"
    return f"{lag:+d} ({who}; {score}; best in resamples {wins}; {sure}{reaction})"


def plot_lag(report: dict[str, Any], path: str | Path) -> None:
    """Draw both curves of every dimension with their intervals. Raises ConfigError where `path` cannot be written."""
    from matplotlib.figure import Figure

    names, lags = list(report["metrics"]["r2"]), report["lags"]
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, name in zip(axes[: len(names)], names, strict=True):
        for probe, colour in (("motion", "tab:blue"), ("appearance", "tab:orange")):
            low, high = zip(*report["ci95"][probe][name], strict=True)
            axis.fill_between(lags, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(lags, report["curves"][probe][name], ".-", color=colour, label=probe)
        axis.axhline(report["floors"]["shuffled"]["r2"][name], color="grey", linestyle=":", label="shuffled floor")
        lag = report["metrics"]["best_lag"].get(name)
        if lag is not None:
            axis.axvline(lag, color="tab:blue", linestyle="--", linewidth=1)
        axis.set_title(f"{name}: {'not found' if lag is None else f'{lag:+d}'}", fontsize=10)
        axis.set_ylim(-0.3, 1.0)
        axis.locator_params(axis="x", integer=True)
        axis.set_xlabel("lag (frames); > 0: the action leads")
    axes[0].set_ylabel("R2, held out")
    axes[0].legend(fontsize=8)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: the plot cannot be written ({error}), expected a .png in an existing folder"
        ) from error
