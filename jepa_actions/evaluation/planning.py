"""Latent planning against floors and an oracle, on the tasks of a protocol."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jepa_actions.evaluation.agents import LatentPlanningModel
from jepa_actions.evaluation.control import POLICIES, Control, make_cost
from jepa_actions.evaluation.game import Game, Round
from jepa_actions.evaluation.oracle import Functional
from jepa_actions.evaluation.protocol import PlanningProtocol
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import wilson_interval
from jepa_actions.evaluation.tasks import goal_in_other_room


def evaluate_planning(
    model: LatentPlanningModel,
    protocol: PlanningProtocol | str,
    *,
    control: Control | None = None,
    episodes: int | None = None,
    seeds: int = 1,
    history: int = 1,
    untrained: LatentPlanningModel | None = None,
    oracle: bool = True,
    batch: int | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Decide with `model` on every task of a protocol, and report it beside its floors and the oracle.

    All tasks of a task seed are played in one batch. Planner and model are shown rendered frames only; the simulator
    is read to keep the score, by the straight-line floor, and by the oracle, which plans in it with the same planner
    and budget and its cost at best (`control.oracle_agent`).

    Arguments:
        model: encodes frames, imagines, and carries an action codec for the world's raw actions.
        protocol: the protocol, its name, or a YAML file.
        control: how to decide.
        episodes: tasks per task seed; the protocol's number when None.
        seeds: number of task seeds, 0 to `seeds - 1`.
        history: frames that the model is given, one per model step.
        untrained: the same model before training, as one more floor.
        oracle: leave the oracle out when False, as for a policy and where the world cannot be rolled out.
        batch: tasks that the model plays together, to bound memory; all when None, and one with `control.timeout_ms`.
        device: where the environment and the candidates live; the CPU when None. The model must be there already.

    Returns: a report for JSON. `metrics.success_rate` is by the protocol's rule, `success_rate_ever` counts tasks
        solved after any step, `success_rate_end` after the last; in two_room `_same_room` and `_other_room` split it by
        whether the wall stands between start and goal; `path_efficiency` is success weighted by shortest over travelled
        path (SPL, Anderson et al. 2018); milliseconds per decision are those of a batch of decisions, divided by them,
        with the share of the encoder apart; with a timeout, the share of plans that the clock ended (`timed_out`), and
        of those without time for one iteration, for which the warm start was executed (`unsearched`).
        `predicted_final_cost` and `realised_final_cost` are what the planner's last plan promised and what the last
        frame then gave, by the same cost, over tasks whose last plan was searched: a plan that promises more than it
        keeps exploits the model. Floors and oracle have the same success keys. `seconds` is deciding, rendering and
        stepping of `model` alone; `rows` has one per task.

    Raises: ConfigError for fewer than one seed, a batch with a timeout, or a model whose actions are not the world's.
    """
    began = time.perf_counter()
    game = Game.of(
        model, protocol, control, episodes=episodes, seeds=seeds, history=history, batch=batch, device=device
    )
    rounds = game.learned(model)
    report: dict[str, Any] = {
        "metrics": _metrics(game, rounds, model),
        "floors": {name: _summary(game, game.floor(name)) for name in game.protocol.floors},
        "ci95": _intervals(rounds),
        "per_seed": [{"seed": seed, **_summary(game, [one])} for seed, one in enumerate(rounds)],
        "episodes": game.episodes,
        "seeds": seeds,
        "seconds": sum(one.score.seconds for one in rounds),
        "control": game.control.describe() | {"history": history},
        "protocol": game.protocol.name,
        "protocol_version": game.protocol.version,
        "protocol_hash": game.protocol.hash,
        "hardware": hardware(device),
        "commit": commit(),
    }
    if game.protocol.distractors is not None:
        report["distractors"] = game.protocol.distractors.changes()
    if untrained is not None:
        report["floors"]["untrained"] = _summary(game, game.learned(untrained))
    if oracle and game.control.planner not in POLICIES and isinstance(game.world, Functional):
        report["oracle"] = _summary(game, game.simulated())
    report["rows"] = [row for seed, one in enumerate(rounds) for row in _rows(game, seed, one)]
    report["seconds_total"] = time.perf_counter() - began
    return report


def _summary(game: Game, rounds: Sequence[Round]) -> dict[str, float]:
    solved = _pooled(rounds, "solved")
    found = {
        "success_rate": float(solved.mean()),
        "success_rate_ever": float(_pooled(rounds, "ever").mean()),
        "success_rate_end": float(_pooled(rounds, "end").mean()),
        "mean_final_distance": float(_pooled(rounds, "distance").mean()),
    }
    if game.protocol.route_valid:
        found["route_valid"] = float(_pooled(rounds, "valid").mean())
    if game.world.name == "two_room":
        other = torch.cat([goal_in_other_room(one.tasks).cpu() for one in rounds]).numpy()
        rooms = {"same_room": ~other, "other_room": other}
        found |= {f"success_rate_{name}": float(solved[where].mean()) for name, where in rooms.items() if where.any()}
    return found


def _metrics(game: Game, rounds: Sequence[Round], model: LatentPlanningModel) -> dict[str, float]:
    needed = torch.cat(game.ways).numpy()
    efficiency = _pooled(rounds, "ever") * needed / np.maximum(np.maximum(needed, _pooled(rounds, "path")), 1e-6)
    return {
        **_summary(game, rounds),
        "path_efficiency": float(efficiency.mean()),
        **_effort(game, rounds),
        **_exploitation(game, rounds, model),
    }


def _effort(game: Game, rounds: Sequence[Round]) -> dict[str, float]:
    """Model evaluations and milliseconds per decision, and what the clock cut short."""
    decisions = [part for one in rounds for part in one.decisions]
    milliseconds = np.concatenate([1000 * np.asarray(part.seconds) / part.tasks for part in decisions])
    encoding = np.concatenate([1000 * np.asarray(part.encoding) / part.tasks for part in decisions])
    found = {
        "model_evaluations_per_decision": float(np.mean([n for part in decisions for n in part.evaluations])),
        "ms_per_decision_p50": float(np.quantile(milliseconds, 0.5)),
        "ms_per_decision_p95": float(np.quantile(milliseconds, 0.95)),
        "ms_encoding_p50": float(np.quantile(encoding, 0.5)),
        "ms_deciding_p50": float(np.quantile(milliseconds - encoding, 0.5)),
        "ms_deciding_p95": float(np.quantile(milliseconds - encoding, 0.95)),
    }
    if game.control.timeout_ms is not None:
        for name in ("timed_out", "unsearched"):
            found[name] = float(np.mean([late for part in decisions for late in getattr(part, name)]))
    return found


@torch.no_grad()
def _exploitation(game: Game, rounds: Sequence[Round], model: LatentPlanningModel) -> dict[str, float]:
    """What the last plan promised and what the last frame gave, by the same cost; nothing for policies."""
    promised = [part.predicted for one in rounds for part in one.decisions if part.predicted is not None]
    if not promised:
        return {}
    cost, given = make_cost(game.control, model), []
    for one in rounds:
        reached = model.goal(game.world.render(one.score.state, one.tasks.layout)).z
        end = _Reached(reached[:, None, None], reached)
        given.append(cost(end, model.goal(game.world.render(one.tasks.goal, one.tasks.layout)))[:, 0].cpu())
    predicted, realised = torch.cat(promised), torch.cat(given)
    searched = predicted.isfinite()
    if not bool(searched.any()):
        return {}
    return {
        "predicted_final_cost": float(predicted[searched].mean()),
        "realised_final_cost": float(realised[searched].mean()),
    }


def _rows(game: Game, seed: int, one: Round) -> list[dict[str, Any]]:
    other = goal_in_other_room(one.tasks).tolist() if game.world.name == "two_room" else None
    needed, score = game.ways[seed].tolist(), one.score
    return [
        {
            "seed": seed,
            "task": task,
            **({} if other is None else {"other_room": other[task]}),
            "success": bool(score.solved[task]),
            "success_ever": bool(score.ever[task]),
            "success_end": bool(score.end[task]),
            "shortest_path": round(needed[task], 3),
            "path": round(float(score.path[task]), 3),
            "final_distance": round(float(score.distance[task]), 3),
        }
        for task in range(len(score.solved))
    ]


@dataclass(frozen=True)
class _Reached:
    """A real state as a rollout of one step."""

    z: torch.Tensor
    start: torch.Tensor


def _pooled(rounds: Sequence[Round], name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([getattr(one.score, name).numpy() for one in rounds])


def _intervals(rounds: Sequence[Round]) -> dict[str, tuple[float, float]]:
    counts = {"success_rate": "solved", "success_rate_ever": "ever", "success_rate_end": "end"}
    found = {key: _pooled(rounds, name) for key, name in counts.items()}
    return {key: wilson_interval(int(solved.sum()), len(solved)) for key, solved in found.items()}
