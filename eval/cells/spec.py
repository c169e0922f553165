"""Cells of a grid: a recipe with some of its keys changed, as a YAML file names them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepa_actions.config import load_config, read_yaml
from jepa_actions.errors import ConfigError
from jepa_actions.resources import recipe_path
from jepa_actions.training import TrainConfig

Changes = Mapping[str, Any]  # keys of a recipe, dotted


@dataclass(frozen=True)
class Choice:
    """One way to keep latents from collapsing, and the settings it is tuned over; the first are taken untuned."""

    set: Changes
    trials: tuple[Changes, ...]


@dataclass(frozen=True)
class Stage:
    """A part of a cell's time; a later one goes on with the encoder and the masked predictor of the one before."""

    share: float
    set: Changes


@dataclass(frozen=True)
class Cell:
    """What is trained."""

    name: str
    choice: str
    stages: tuple[Stage, ...]
    clock: str = ""  # the cell whose clock it goes by; its own where empty


@dataclass(frozen=True)
class Gain:
    """Two cells that differ in one part."""

    name: str
    with_it: str
    without: str


@dataclass(frozen=True)
class Grid:
    """Cells around one recipe."""

    recipe: str
    choices: dict[str, Choice]
    cells: dict[str, Cell]
    gains: tuple[Gain, ...]

    def config(self, cell: Cell, stage: int, trial: int, *words: str) -> TrainConfig:
        """The recipe of one stage. Raises ConfigError for a key or value that no recipe has, naming the cell."""
        choice = self.choices[cell.choice]
        changes = [*_words(choice.set), *_words(choice.trials[trial]), *_words(cell.stages[stage].set)]
        try:
            return load_config(TrainConfig, ["--config", str(recipe_path(self.recipe)), *changes, *words])
        except ConfigError as error:
            raise ConfigError(f"cell {cell.name!r}: {error}") from error


def read_grid(path: Path) -> Grid:
    """A grid from its file.

    Raises ConfigError, naming file and key, for what is missing or not known, for choices with different numbers of
    trials, and for stages whose shares are not 1 together.
    """
    values = read_yaml(path)
    check_keys(path, "", values, {"recipe", "choices", "cells", "gains"})
    choices = {}
    for name, found in values["choices"].items():
        check_keys(path, f"choices.{name}", found, {"set", "trials"})
        choices[name] = Choice(found["set"], tuple(found["trials"]))
    if len({len(choice.trials) for choice in choices.values()}) != 1 or not next(iter(choices.values())).trials:
        counts = ", ".join(f"{name} {len(choice.trials)}" for name, choice in choices.items())
        raise ConfigError(f"{path}: choices: found trials {counts}, expected equally many for each, at least 1")
    cells = {name: _cell(path, name, found, choices) for name, found in values["cells"].items()}
    gains = tuple(Gain(name, *pair) for name, pair in values["gains"].items())
    for gain in gains:
        for name in (gain.with_it, gain.without):
            if name not in cells:
                raise ConfigError(f"{path}: gains.{gain.name}: found cell {name!r}, expected one of {', '.join(cells)}")
    return Grid(values["recipe"], choices, cells, gains)


def _cell(path: Path, name: str, found: Changes, choices: dict[str, Choice]) -> Cell:
    place = f"cells.{name}"
    check_keys(path, place, found, {"choice"}, {"set", "stages"})
    if found["choice"] not in choices:
        raise ConfigError(f"{path}: {place}: found choice {found['choice']!r}, expected one of {', '.join(choices)}")
    shared = found.get("set", {})
    stages = found.get("stages", [{"share": 1.0, "set": {}}])
    for number, stage in enumerate(stages):
        check_keys(path, f"{place}.stages.{number}", stage, {"share", "set"})
    if abs(sum(stage["share"] for stage in stages) - 1.0) > 1e-9:
        raise ConfigError(f"{path}: {place}: found shares {[s['share'] for s in stages]}, expected 1 together")
    made = tuple(Stage(float(stage["share"]), {**shared, **stage["set"]}) for stage in stages)
    return Cell(name, found["choice"], made)


def check_keys(path: Path, place: str, found: Any, needed: set[str], optional: set[str] | None = None) -> None:
    """Raise ConfigError, naming file and place, unless `found` has the needed keys and no others but the optional."""
    allowed = needed | (optional or set())
    if not isinstance(found, Mapping) or not needed <= set(found) <= allowed:
        keys = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ConfigError(f"{path}: {place or 'file'}: found {keys}, expected {', '.join(sorted(allowed))}")


def _words(changes: Changes) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in changes.items()]
