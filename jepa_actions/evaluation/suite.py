"""Run named evaluations on a trained model with the data and split it was trained with, and print them as a table."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jepa_actions.envs.two_room_distractors import Distractors
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import Control
from jepa_actions.evaluation.inverse import evaluate_inverse
from jepa_actions.evaluation.masked import evaluate_masked
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.probe import evaluate_probe
from jepa_actions.evaluation.rollout import evaluate_rollout
from jepa_actions.models import FrameBackbone, WorldModel
from jepa_actions.models.serialize import decode
from jepa_actions.training import DataConfig, OpenData, open_data

EVALUATIONS = ("planning", "inverse", "probe", "rollout", "masked")


def data_of(
    model: WorldModel, path: str | None = None, distractors: Distractors | None = None
) -> tuple[DataConfig, OpenData]:
    """Open the data a model was trained on, or other data with the same layout, split as in its recipe.

    Args:
        model: with the recipe in `model.extra`, as `training.train` saves it.
        path: a data set to use in place of the recipe's.
        distractors: what env:two_room shows in place of what it showed in training.

    Raises:
        ConfigError: if the model carries no recipe, or for distractors in other data.
    """
    config = data_of_config(model)
    if path is not None:
        config = replace(config, path=path)
    if distractors is not None:
        if config.path != "env:two_room":
            raise ConfigError(f"distractors: found data {config.path}, expected env:two_room")
        config = replace(config, env=replace(config.env, distractors=distractors))
    return config, open_data(config, model.config.image_size, model.config.cameras)


def data_of_config(model: WorldModel) -> DataConfig:
    """The data section of the recipe that a model carries. Raises ConfigError if it carries none."""
    recipe = model.extra.get("recipe")
    if not isinstance(recipe, dict) or "data" not in recipe:
        raise ConfigError("this model's config.json carries no recipe (extra.recipe), so its split is not known")
    return decode(DataConfig, recipe["data"], "config.json: extra.recipe.data", partial=True)


def untrained_like(model: WorldModel, seed: int = 0) -> WorldModel:
    """A model of the same form with fresh weights: the floor of everything that training should have taught.

    A frozen backbone was not taught: the model's own is used again.
    """
    frozen = model.encoder if isinstance(model.encoder, FrameBackbone) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = WorldModel(model.config, model.codec, backbone=frozen).eval()
    fresh.extra = dict(model.extra)
    return fresh


def evaluate_all(
    model: WorldModel,
    config: DataConfig,
    data: OpenData,
    names: Iterable[str],
    *,
    protocol: str = "two_room/offset25",
    episodes: int | None = None,
    seeds: int = 1,
    control: Control | None = None,
) -> dict[str, Any]:
    """The reports of the named evaluations, by name. Raises ConfigError for an unknown name."""
    reports: dict[str, Any] = {}
    for name in names:
        match name:
            case "planning":
                reports[name] = evaluate_planning(
                    model,
                    protocol,
                    episodes=episodes,
                    seeds=seeds,
                    control=control,
                    history=model.history,
                    untrained=untrained_like(model),
                )
            case "inverse":
                reports[name] = evaluate_inverse(model, data)
            case "probe":
                reports[name] = evaluate_probe(model, data, untrained=untrained_like(model))
            case "rollout":
                reports[name] = evaluate_rollout(model, data)
            case "masked":
                reports[name] = evaluate_masked(model, data, config)
            case _:
                raise ConfigError(f"evaluation: expected one of {', '.join(EVALUATIONS)}, found {name!r}")
    return reports


def table(reports: dict[str, Any]) -> str:
    """The headline numbers of some reports beside their floors, as plain text."""
    lines = [f"{'evaluation':12} {'metric':38} {'value':>9}  floors and references"]
    for name, report in reports.items():
        for metric, value in _flat(report["metrics"]):
            beside = []
            for group in ("floors", "references"):
                for floor, numbers in report.get(group, {}).items():
                    found = dict(_flat(numbers)).get(metric)
                    if found is not None:
                        beside.append(f"{floor} {found:.3g}")
            found = dict(_flat(report.get("oracle", {}))).get(metric)
            if found is not None:
                beside.append(f"oracle {found:.3g}")
            interval = report.get("ci95", {}).get(metric)
            around = f" [{interval[0]:.3g}, {interval[1]:.3g}]" if isinstance(interval, (list, tuple)) else ""
            lines.append(f"{name:12} {metric:38} {value:9.4g}{around}  {', '.join(beside)}")
    return "\n".join(lines)


def write_json(report: dict[str, Any], path: str | Path) -> None:
    """Write a report where asked, folders made as needed. Raises ConfigError where that cannot be."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error


def _flat(numbers: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in numbers.items():
        if isinstance(value, dict):
            found.extend(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, (int, float)):
            found.append((prefix + key, float(value)))
    return found
