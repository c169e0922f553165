"""What distractors and other colours cost: `python eval/distractors.py [--only sigreg ...] [--seeds 0 1 2]`.

The rooms are named in `eval/distractors.yaml`. For each way to keep latents from collapsing (the cells of
`eval/ablation.yaml`, tuned there where its trials are in `--tuned`) and each room with a distractor, a model is trained
in that room and played in it. The plain room's model is played in every room, and in those whose colours or texture are
other ones. Tasks are the same everywhere (`--protocols`): only pictures differ; goal pictures have
distractors of their own. The action R2 is that of the model's own inverse head on held-out behaviour, so in a room that
was not trained in nothing is fitted again. Time and rows are as in `eval/ablation.py`, whose clock it goes by.

`--table` prints success and R2, and what each loses against the plain room's model in the plain room, paired by seed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from cells.clock import Clock
from cells.options import RESULTS, best_trial, chosen, lengths, parser
from cells.rows import Row, Rows, markdown, mean_and_spread
from cells.score import heldout_r2, in_room, plan_scores
from cells.spec import Cell, Changes, Grid, Stage, check_keys, read_grid
from cells.train import Run, read_clock, train_cell

from jepa_actions.config import decode_config, read_yaml
from jepa_actions.envs import Distractors
from jepa_actions.evaluation import Control, parse_control

HERE = Path(__file__).parent
PLAIN = "plain"
R2 = "own_inverse_r2"


@dataclass(frozen=True)
class Rooms:
    """Which rooms models are trained in, and which they are then shown."""

    grid: Grid
    cells: dict[str, Cell]  # by what keeps latents from collapsing
    default: str
    trained: dict[str, Changes]
    shared_goal: tuple[str, ...]
    recoloured: dict[str, Changes]
    bars: dict[str, float]

    def cell(self, choice: str, room: str) -> Cell:
        """The cell of a choice, trained in a room; in the plain one it is that of the ablation."""
        cell = self.cells[choice]
        if room == PLAIN:
            return cell
        keys = {f"data.env.distractors.{key}": value for key, value in self.trained[room].items()}
        stages = tuple(Stage(stage.share, {**stage.set, **keys}) for stage in cell.stages)
        return replace(cell, name=f"{cell.name}/{room}", stages=stages, clock=cell.name)  # rendering is not on it

    def played(self, room: str) -> dict[str, Changes]:
        """The rooms that the model of a room is shown, by name; the plain room's is shown every one."""
        every = {name: self.trained[name] for name in (self.trained if room == PLAIN else [room])}
        shared = {
            f"{name}, goal shares it": {**every[name], "shared_goal": True}
            for name in self.shared_goal
            if name in every
        }
        return {**every, **shared, **(self.recoloured if room == PLAIN else {})}


def read_rooms(path: Path) -> Rooms:
    """The rooms of a file. Raises ConfigError, naming file and key, for what is missing or not known."""
    values = read_yaml(path)
    check_keys(path, "", values, {"grid", "cells", "default", "trained", "shared_goal", "recoloured", "bars"})
    grid = read_grid(path.parent / values["grid"])
    check_keys(path, "trained", values["trained"], {PLAIN}, set(values["trained"]))
    for group in ("trained", "recoloured"):
        for name, changes in values[group].items():
            decode_config(Distractors, changes, f"{path}: {group}.{name}")
    cells = {
        choice: grid.cells[chosen(grid.cells, [name], f"{path}: cells")[0]] for choice, name in values["cells"].items()
    }
    return Rooms(
        grid,
        cells,
        values["default"],
        values["trained"],
        tuple(values["shared_goal"]),
        values["recoloured"],
        values["bars"],
    )


class Study:
    """The rows and how to add to them."""

    def __init__(self, rooms: Rooms, options: argparse.Namespace) -> None:
        folder = Path(options.results)
        self.rooms, self.options = rooms, options
        self.rows = Rows(folder / "runs.jsonl")
        self.trials = Rows(Path(options.tuned) / "trials.jsonl")
        self.clock = Clock(Rows(Path(options.tuned) / "clock.jsonl"), options.threads)
        self.control = parse_control(options.planner)

    def run(self, choice: str, trained: str, seed: int) -> None:
        """Train one model, unless that is done, and add the rows of the rooms that it has not yet been shown."""
        asked = {"protocols": self.options.protocols, **lengths(self.options)}
        key = {"choice": choice, "trained": trained, "seed": seed, **asked}
        missing = {
            name: changes
            for name, changes in self.rooms.played(trained).items()
            if not self.rows.has(**key, played=name)
        }
        if not missing:
            return
        trial, tuned = self._trial(choice)
        o, cell = self.options, self.rooms.cell(choice, trained)
        out = Path(o.out)
        run = train_cell(
            self.rooms.grid, cell, seed=seed, trial=trial, minutes=o.minutes, clock=self.clock, out=out, steps=o.steps
        )
        for name, changes in missing.items():
            scores = show(run, changes, o.protocols, self.control, o.tasks)
            setting = {"trial": trial, "tuned": tuned, "room": changes, "planner": o.planner, "tasks": o.tasks}
            self.rows.append({**key, "played": name, **setting, **scores, **run.facts})
            figures = ", ".join(f"{label} {scores[key]:.3f}" for key, label in metrics(o.protocols).items())
            print(f"{choice}, trained in {trained}, seed {seed}, shown {name}: {figures}", flush=True)

    def _trial(self, choice: str) -> tuple[int, bool]:
        """The setting that the ablation has found best, where all of its trials of this length are done."""
        rows = self.trials.read(cell=self.rooms.cells[choice].name, **lengths(self.options))
        wanted = len(self.rooms.grid.choices[self.rooms.cells[choice].choice].trials)
        done = {row["trial"] for row in rows} == set(range(wanted))
        return (best_trial(rows), True) if done else (0, False)


def metrics(protocols: Sequence[str]) -> dict[str, str]:
    """What is compared, by its key in a row."""
    return {name.rpartition("/")[2]: name.rpartition("/")[2] for name in protocols} | {R2: "action R2"}


def show(run: Run, changes: Changes, names: Sequence[str], control: Control, tasks: int) -> Row:
    """Success and the action R2 of a model in a room."""
    torch.set_num_threads(run.facts["threads"])
    distractors = decode_config(Distractors, changes, "room") if changes else None
    protocols = [in_room(name, distractors) for name in names]
    seen = replace(run.config.data, env=replace(run.config.data.env, distractors=distractors))
    r2 = heldout_r2(run.model, seen, run.config.model.image_size)
    return {**plan_scores(run.model, protocols, control, tasks), R2: r2}


def table(rooms: Rooms, rows: list[Row], protocols: Sequence[str]) -> str:
    """What each room costs each choice, paired by seed with the plain room's model in the plain room, as markdown."""
    found: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rows:
        found.setdefault((row["choice"], row["trained"], row["played"]), {}).setdefault(row["seed"], row)
    lines = []
    for choice in rooms.cells:
        plain = found.get((choice, PLAIN, PLAIN), {})
        for trained in rooms.trained:
            for played in rooms.played(trained):
                own = found.get((choice, trained, played), {})
                if own:
                    seeds = sorted(set(own) & set(plain))
                    bar = rooms.bars.get(played) if choice == rooms.default else None
                    figures = _figures(own, plain, seeds, bar, list(metrics(protocols)))
                    lines.append([choice, trained, played, *figures, str(len(own))])
    head = ["", "trained in", "shown"]
    for label in metrics(protocols).values():
        head += [label, "lost"]
    return markdown([*head, "seeds"], lines)


def _figures(
    own: dict[int, Row], plain: dict[int, Row], seeds: list[int], bar: float | None, keys: list[str]
) -> list[str]:
    cells = []
    for key in keys:
        lost = [plain[seed][key] - own[seed][key] for seed in seeds]
        text = mean_and_spread(lost)
        if bar is not None and lost and key != R2:
            text += f" ({'within' if sum(lost) / len(lost) <= bar else 'over'} {bar:.2f})"
        cells += [mean_and_spread(row[key] for row in own.values()), text]
    return cells


def main(argv: list[str] | None = None) -> None:
    options = parser(__doc__ or "", "distractors")
    options.add_argument("--rooms", default=str(HERE / "distractors.yaml"), help="the rooms")
    options.add_argument("--trained", nargs="+", metavar="ROOM", help="models of these rooms alone")
    options.add_argument("--protocols", nargs="+", default=["two_room/offset25"], help="whose tasks are played")
    options.add_argument("--tuned", default=str(RESULTS / "ablation"), help="where the ablation's trials and clock are")
    found = options.parse_args(argv)
    rooms = read_rooms(Path(found.rooms))
    study = Study(rooms, found)
    if found.clock:
        for name in chosen(rooms.cells, found.only, "--only"):
            read_clock(rooms.grid, rooms.cells[name], study.clock)
    elif not found.table:
        wanted = chosen(rooms.cells, found.only, "--only")
        for seed in found.seeds:
            for choice in wanted:
                for trained in chosen(rooms.trained, found.trained, "--trained"):
                    study.run(choice, trained, seed)
    print(table(rooms, study.rows.read(protocols=found.protocols, **lengths(found)), found.protocols))


if __name__ == "__main__":
    main()
