"""What each part of the TwoRoom recipe is worth: `python eval/ablation.py [--only CELL ...] [--seeds 0 1 2]`.

The cells are named in `eval/ablation.yaml`: the recipe `vjepa/two_room` with one factor changed. Each is trained for
the same time, not for the same steps: `--minutes` of processor time of the training thread on `--threads` torch threads
(one by default); waiting, rendering and evaluation are not counted, and the steps that fit are the same for all seeds
of a cell (`cells/clock.py`; `--clock` reads it for all cells, which is best done on an idle machine). Every cell is
tuned over equally many settings on training layouts, by the mean success of `cross_room` and `offset100` (then by
the probe), with a training seed that no row has; `--untuned` takes the first.

Rows go to `eval/results/ablation/`: `runs.jsonl`, `trials.jsonl`, `clock.jsonl`, one line a run. What is there already
is not done again, so the command can be stopped and started, and started twice with different `--only` or `--seeds`.
`--table` prints what is there: mean and standard deviation over seeds, and what each part adds, paired by seed.
"""

import argparse
from pathlib import Path

import torch
from cells.clock import Clock
from cells.options import best_trial, chosen, lengths, parser
from cells.rows import Row, Rows, markdown, mean_and_spread
from cells.score import in_room, latent_scores, open_all, plan_scores
from cells.spec import Cell, Grid, read_grid
from cells.train import Run, read_clock, train_cell

from jepa_actions.evaluation import Control, parse_control

HERE = Path(__file__).parent
PROTOCOLS = ("two_room/cross_room", "two_room/offset100")
TUNING_SEED = 1000
COLUMNS = {"cross_room": "cross_room", "offset100": "offset100", "inverse_r2": "inverse R2", "probe_px": "probe, px"}


class Ablation:
    """The rows of a grid and how to add to them."""

    def __init__(self, grid: Grid, options: argparse.Namespace) -> None:
        folder = Path(options.results)
        self.grid, self.options = grid, options
        self.runs, self.trials = Rows(folder / "runs.jsonl"), Rows(folder / "trials.jsonl")
        self.clock = Clock(Rows(folder / "clock.jsonl"), options.threads)
        self.control = parse_control(options.planner)

    def run(self, cell: Cell) -> None:
        """Tune a cell and add the rows that it lacks."""
        length = lengths(self.options)
        missing = [s for s in self.options.seeds if not self.runs.has(cell=cell.name, seed=s, **length)]
        if not missing:
            return
        tuned = not self.options.untuned
        trial = self._best(cell) if tuned else 0
        for seed in missing:
            row = self._row(cell, seed, trial, tuning=False) | {"tuned": tuned}
            self.runs.append(row)
            print(f"{cell.name}, seed {seed}: {_short(row)}", flush=True)

    def _best(self, cell: Cell) -> int:
        """The number of the best setting, after every one has been tried."""
        for trial in range(len(self.grid.choices[cell.choice].trials)):
            if not self.trials.has(cell=cell.name, trial=trial, **lengths(self.options)):
                row = self._row(cell, TUNING_SEED, trial, tuning=True)
                self.trials.append(row)
                print(f"{cell.name}, setting {trial}: {_short(row)}", flush=True)
        return best_trial(self.trials.read(cell=cell.name, **lengths(self.options)))

    def _row(self, cell: Cell, seed: int, trial: int, *, tuning: bool) -> Row:
        o = self.options
        run = train_cell(
            self.grid,
            cell,
            seed=seed,
            trial=trial,
            minutes=o.minutes,
            clock=self.clock,
            out=Path(o.out),
            steps=o.steps,
        )
        tasks = o.trial_tasks if tuning else o.tasks
        scores = score(run, self.control, tasks=tasks, tuning=tuning)
        setting = dict(self.grid.choices[cell.choice].trials[trial])
        key = {"cell": cell.name, "seed": seed, "trial": trial, "setting": setting, **lengths(self.options)}
        return {**key, "planner": o.planner, "tasks": tasks, **scores, **run.facts}


def score(run: Run, control: Control, *, tasks: int, tuning: bool) -> Row:
    """A row's figures, in the room that the cell was trained in."""
    torch.set_num_threads(run.facts["threads"])
    distractors = run.config.data.env.distractors
    protocols = [in_room(name, distractors, tuning=tuning) for name in PROTOCOLS]
    data = open_all(run.config.data, run.config.model.image_size)
    own = run.config.objectives.inverse is not None
    return {**plan_scores(run.model, protocols, control, tasks), **latent_scores(run.model, data, own_head=own)}


def table(grid: Grid, rows: list[Row]) -> str:
    """Mean and standard deviation over seeds of every cell, and what parts add, as markdown."""
    by_cell: dict[str, dict[int, Row]] = {name: {} for name in grid.cells}
    for row in rows:
        if row["cell"] in by_cell:
            by_cell[row["cell"]].setdefault(row["seed"], row)
    lines = []
    for name, found in by_cell.items():
        if found:
            scores = [mean_and_spread(row[key] for row in found.values()) for key in COLUMNS]
            steps = sorted({"+".join(map(str, row["steps"])) for row in found.values()})
            tuned = "tuned" if all(row["tuned"] for row in found.values()) else "untuned"
            lines.append([name, *scores, str(len(found)), ", ".join(steps), tuned])
    parts = [markdown(["cell", *COLUMNS.values(), "seeds", "steps", "settings"], lines)]
    gains = []
    for gain in grid.gains:
        one, two = by_cell[gain.with_it], by_cell[gain.without]
        seeds = sorted(set(one) & set(two))
        if seeds:
            gains.append([gain.name, *(_differences(one, two, seeds, key) for key in COLUMNS)])
    parts.append(markdown(["what it adds, per seed", *COLUMNS.values()], gains))
    return "\n\n".join(parts)


def _differences(one: dict[int, Row], two: dict[int, Row], seeds: list[int], key: str) -> str:
    found = [one[seed][key] - two[seed][key] for seed in seeds]
    return f"{sum(found) / len(found):+.3f} ({' '.join(f'{value:+.3f}' for value in found)})"


def _short(row: Row) -> str:
    return ", ".join(f"{label} {row[key]:.3f}" for key, label in COLUMNS.items())


def main(argv: list[str] | None = None) -> None:
    options = parser(__doc__ or "", "ablation")
    options.add_argument("--grid", default=str(HERE / "ablation.yaml"), help="the cells")
    options.add_argument("--trial-tasks", type=int, default=40, help="per protocol, to choose a setting by")
    options.add_argument("--untuned", action="store_true", help="every cell with its first setting")
    found = options.parse_args(argv)
    grid = read_grid(Path(found.grid))
    ablation = Ablation(grid, found)
    for name in chosen(grid.cells, found.only, "--only") if not found.table else []:
        if found.clock:
            read_clock(grid, grid.cells[name], ablation.clock)
        else:
            ablation.run(grid.cells[name])
    print(table(grid, ablation.runs.read(**lengths(found))))


if __name__ == "__main__":
    main()
