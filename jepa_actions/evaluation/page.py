"""The demo's page: one self-contained HTML file with curves, bars and real frames."""

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import Control, latent_agent
from jepa_actions.evaluation.html_page import BLUE, GREY, LIGHT, ORANGE, picture, subplots, write_html
from jepa_actions.evaluation.latents import encode_clips
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.tasks import make_tasks, world_of_protocol
from jepa_actions.models import WorldModel
from jepa_actions.resources import result_path
from jepa_actions.training import OpenData, WorldDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_page(out: Path, model: WorldModel, data: OpenData, report: dict[str, Any]) -> Path:
    """Write `out/report.html` from a demo's report, its metrics and its model."""
    planning, inverse, probe, rollout = (report[name] for name in ("planning", "inverse", "probe", "rollout"))
    body = [
        "<h1>TwoRoom: from video to a plan</h1>",
        f"<p>{_summary(report)}</p>",
        "<h2>Success</h2>",
        picture(
            _success_bars(planning),
            "Share of tasks in which the agent came within 4.5 px of the goal at any step; "
            f"{planning['episodes']} tasks of {html.escape(planning['protocol'])}, layouts never trained on. "
            "The line is the 95 % Wilson interval.",
        ),
        "<h2>A planned episode</h2>",
        picture(
            _frames_figure([planned_episode(model, planning["protocol"])], ["seen"], goal_last=True),
            "Real frames, every fifth environment step; the last picture is the goal that the planner was given.",
        ),
        "<h2>An imagined rollout</h2>",
        picture(
            _frames_figure(list(imagined_rollout(model, data)), ["imagined", "happened"]),
            "Above: for every imagined latent the nearest real frame of other held-out episodes. Below: what happened. "
            "The model never draws a pixel. It was shown the first frame and the actions.",
        ),
        "<h2>What was learned</h2>",
        picture(_curves(out / "metrics.jsonl"), "Loss terms over training steps."),
        _learned_table(inverse, probe),
        picture(_rollout_figure(rollout), "Error of open-loop rollouts by horizon, in model steps of five actions."),
        "<h2>What each term is worth</h2>",
        _terms(),
        f"<p class=note>Commit {html.escape(str(planning['commit']))}; "
        f"{html.escape(json.dumps(planning['hardware']))}; "
        f"{report['seconds']:.0f} s in all.</p>",
    ]
    return write_html(out / "report.html", "jepa_actions demo", body)


def _summary(report: dict[str, Any]) -> str:
    planning, training = report["planning"], report["training"]
    floors = planning["floors"]
    return (
        f"A world model of {training['steps']} training steps ({training['seconds'] / 60:.1f} minutes) reaches "
        f"<b>{planning['metrics']['success_rate']:.0%}</b> of the goals by planning in latent space; random actions "
        f"reach {floors['random']['success_rate']:.0%}, the same planner in the true simulator "
        f"{planning['oracle']['success_rate']:.0%}. Two frames tell the action between them with an R2 of "
        f"{report['inverse']['metrics']['r2_mean']:.2f}."
    )


def planned_episode(model: WorldModel, protocol: str, task: int = 0) -> list[UInt8[Tensor, "3 h w"]]:
    """Real frames of one task while the model plans, one per model step until it is solved, and the goal's frame."""
    rules = load_protocol(protocol)
    world = world_of_protocol(rules)
    tasks = make_tasks(rules, task + 1, 0).take(slice(task, task + 1))
    goal = world.render(tasks.goal, tasks.layout)
    assert model.codec is not None
    blocks = -(-rules.budget // model.codec.block)
    control = Control().resolved(model)
    agent = latent_agent(control, model, model.codec, goal, seed=task, history=model.history, budget=blocks)
    score = play(tasks, agent, world, rules, watched=1)
    frames = [pictures[0] for pictures in score.frames]
    reached = [bool(solved) for solved in score.solved_by_decision[:, 0]]
    stop = reached.index(True) + 1 if any(reached) else len(frames)
    return [*frames[:stop], goal[0]]


@torch.no_grad()
def imagined_rollout(
    model: WorldModel, data: OpenData, *, horizon: int = 8, library: int = 4000, seed: int = 3
) -> tuple[list[UInt8[Tensor, "3 h w"]], list[UInt8[Tensor, "3 h w"]]]:
    """Nearest real frames of an imagined rollout, and what really happened, from one held-out clip.

    The library holds frames of held-out episodes of the clip's layout but not of its own episode, and of other layouts.
    """
    dataset = data.heldout_dataset
    assert isinstance(dataset, WorldDataset)
    assert model.dynamics is not None
    clips = encode_clips(model, dataset, data.heldout, frames=horizon + 1, limit=200, seed=seed)
    assert clips.positions is not None
    travelled = (clips.positions[:, -1] - clips.positions[:, 0]).norm(dim=-1)
    chosen = int(travelled.argmax())  # a clip in which something happens
    imagined = model.dynamics.rollout(clips.z[chosen : chosen + 1, 0], clips.actions[chosen : chosen + 1])[0]
    episode = int(clips.episode[chosen])
    near = [s for s in data.heldout if s.episode != episode and dataset.same_layout(s.episode, episode)]
    far = [s for s in data.heldout if not dataset.same_layout(s.episode, episode)]
    parts = [
        encode_clips(model, dataset, part, frames=2, limit=library // 2, seed=seed) for part in (near, far) if part
    ]
    z = torch.cat([part.z[:, 0] for part in parts]).flatten(1)
    owner = np.concatenate([part.episode for part in parts])
    number = np.concatenate([part.frame[:, 0] for part in parts])
    nearest = torch.cdist(imagined.flatten(1), z).argmin(1).numpy()
    shown = dataset.read_clips(owner[nearest], number[nearest][:, None])["image"][:, 0]
    real = dataset.read_clips(clips.episode[chosen : chosen + 1], clips.frame[chosen : chosen + 1])["image"][0]
    return [real[0], *shown], list(real)


def _frames_figure(rows: list[list[Tensor]], labels: list[str], *, goal_last: bool = False) -> "Figure":
    columns = max(len(row) for row in rows)
    figure, axes = subplots(len(rows), columns, (1.15 * columns, 1.35 * len(rows)))
    for r, row in enumerate(rows):
        for c in range(columns):
            axis = axes[r][c]
            axis.set_axis_off()
            if c >= len(row):
                continue
            axis.imshow(_visible(row[c]))
            goal = goal_last and c == len(row) - 1
            axis.set_title("goal" if goal else f"{labels[r]} {5 * c}", fontsize=7, color=ORANGE if goal else "black")
    figure.tight_layout()
    return figure


def _visible(frame: UInt8[Tensor, "3 h w"]) -> np.ndarray:
    """Red dot and green walls on black, as dark walls and a blue dot on white."""
    dot, wall = frame[0].float().numpy() / 255, frame[1].float().numpy() / 255
    picture = np.ones((*dot.shape, 3)) - 0.65 * wall[..., None]
    colour = np.array([0.14, 0.39, 0.67])
    return np.clip(picture * (1 - dot[..., None]) + colour * dot[..., None], 0, 1)


def _success_bars(planning: dict[str, Any]) -> "Figure":
    floors = planning["floors"]
    names = ["zero actions", "random actions", "untrained encoder", "this model", "true simulator (oracle)"]
    values = [floors["zero"], floors["random"], floors["untrained"], planning["metrics"], planning["oracle"]]
    colours = [LIGHT, LIGHT, LIGHT, BLUE, GREY]
    if "straight" in floors:
        names.insert(3, "straight line, told the place")
        values.insert(3, floors["straight"])
        colours.insert(3, LIGHT)
    heights = [value["success_rate"] for value in values]
    figure, axes = subplots(1, 1, (7, 2.6))
    axis = axes[0][0]
    axis.barh(names, heights, color=colours)
    low, high = planning["ci95"]["success_rate"]
    axis.plot([low, high], ["this model"] * 2, color="black", linewidth=2)
    for name, height in zip(names, heights, strict=True):
        right = max(height, high) if name == "this model" else height
        axis.text(right + 0.015, name, f"{height:.2f}", va="center", fontsize=9)
    axis.set_xlim(0, 1.12)
    axis.set_xlabel("success rate")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _curves(metrics: Path) -> "Figure":
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    terms = sorted({key for row in rows for key in row if key.endswith("/total")})
    extra = [key for key in ("inverse/r2", "z/rank") if any(key in row for row in rows)]
    shown = [*terms, *extra]
    figure, axes = subplots(1, len(shown), (2.3 * len(shown), 2.2))
    for axis, key in zip(axes[0], shown, strict=True):
        points = [(row["step"], row[key]) for row in rows if key in row]
        axis.plot(*zip(*points, strict=True), color=BLUE)
        axis.set_title(key.removesuffix("/total"), fontsize=9)
        axis.tick_params(labelsize=7)
        if key.endswith("/total") and min(value for _, value in points) > 0:  # a likelihood's loss may be negative
            axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _rollout_figure(rollout: dict[str, Any]) -> "Figure":
    figure, axes = subplots(1, 2, (7.5, 2.6))
    curves = {"model": rollout["metrics"], **rollout["floors"]}
    for axis, key, unit in zip(
        axes[0], ("px_error", "latent_error"), ("px, by linear probe", "latent units"), strict=True
    ):
        for (name, values), colour in zip(curves.items(), (BLUE, ORANGE, GREY), strict=True):
            axis.plot(
                [int(h) for h in values[key]],
                list(values[key].values()),
                marker="o",
                markersize=3,
                label=name.replace("_", " "),
                color=colour,
            )
        axis.set_xlabel("model steps")
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def _learned_table(inverse: dict[str, Any], probe: dict[str, Any]) -> str:
    rows = [
        (
            "inverse head, R2 of the mean action",
            f"{inverse['metrics']['r2_mean']:.3f}",
            ", ".join(
                f"{k.replace('_', ' ')} {v['r2_mean']:.2f}"
                for k, v in {**inverse["floors"], **inverse["references"]}.items()
            ),
        ),
        (
            "linear position probe, px per axis",
            f"{probe['metrics']['rmse_px_mean']:.2f}",
            ", ".join(f"{k} {v['rmse_px_mean']:.2f}" for k, v in probe["floors"].items()),
        ),
    ]
    cells = "".join(f"<tr><td>{a}<td>{b}<td>{html.escape(c)}" for a, b, c in rows)
    return f"<table><tr><th>held-out layouts<th>model<th>floors and references{cells}</table>"


def _terms() -> str:
    """The committed ablation: one row per recipe with a term taken away."""
    try:
        study = json.loads(result_path("two_room_terms.json").read_text())
    except ConfigError as error:
        return f"<p class=note>The ablation's rows are not at hand ({html.escape(str(error))}).</p>"
    keys = study["columns"]
    head = "".join(f"<th>{html.escape(key)}" for key in keys)
    body = "".join(
        f"<tr><td>{html.escape(row['recipe'])}"
        + "".join(f"<td>{row[key]:.3g}" if row[key] is not None else "<td>-" for key in keys)
        for row in study["rows"]
    )
    return f"<p>{html.escape(study['note'])}</p><table><tr><th>recipe{head}{body}</table>"
