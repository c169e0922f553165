"""Latent planning against floors and an oracle, on the tasks of a protocol."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from jepa_actions.data import ActionCodec
from jepa_actions.envs.two_room import TwoRoomConfig, render
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.oracle import OracleModel
from jepa_actions.evaluation.play import (
    Agent,
    Decisions,
    LatentAgent,
    LatentPlanningModel,
    OracleAgent,
    RandomAgent,
    Score,
    ZeroAgent,
    play,
)
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import wilson_interval
from jepa_actions.evaluation.tasks import Tasks, env_config, goal_in_other_room, make_tasks, shortest_path
from jepa_actions.planning import CEM, MPC, CEMConfig, LatentCost, PlanningModel, decision_seed

Rounds = list[tuple[Tasks, Score]]  # one per task seed


def evaluate_planning(
    model: LatentPlanningModel,
    protocol: PlanningProtocol | str,
    *,
    episodes: int | None = None,
    seeds: int = 1,
    planner: CEMConfig | None = None,
    cost: LatentCost | None = None,
    horizon: int = 5,
    execute: int = 1,
    history: int = 1,
    untrained: LatentPlanningModel | None = None,
    oracle: bool = True,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Plan in `model` on every task of a protocol, and report it beside its floors and the oracle.

    All tasks of a task seed are planned in one batch. Planner and model are shown rendered frames only; the simulator
    is read to keep the score, and by the oracle, which plans in it with the same planner, cost and budget.

    Arguments:
        model: encodes frames, imagines, and carries an action codec for [dx, dy] in px.
        protocol: the protocol, its name, or a YAML file.
        episodes: tasks per task seed; the protocol's number when None.
        seeds: number of task seeds, 0 to `seeds - 1`.
        planner, cost: budget of CEM and what it minimises.
        horizon, execute: model steps imagined by a plan, and executed before the next one.
        history: frames that the model is given, one per model step.
        untrained: the same model before training, as one more floor.
        oracle: leave the oracle out when False.
        device: where the environment and the candidates live; the CPU when None. The model must be there already.

    Returns: a report for JSON. `metrics.success_rate` counts tasks solved after any step, `success_rate_end` after the
        last; `success_rate_same_room` and `_other_room` split it by whether the wall stands between start and goal;
        `path_efficiency` is success weighted by shortest over travelled path (SPL, Anderson et al. 2018);
        milliseconds per decision are those of a batch of `episodes` decisions, divided by them. Floors and oracle have
        the same success keys. `seconds` is planning, rendering and stepping of `model` alone; `rows` has one per task.

    Raises: ConfigError for fewer than one seed, or a model without a codec for two raw dimensions.
    """
    began = time.perf_counter()
    protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
    episodes = protocol.episodes if episodes is None else episodes
    planner, cost = planner or CEMConfig(), cost or LatentCost()
    if seeds < 1 or history < 1:
        raise ConfigError(f"evaluate_planning: found seeds {seeds} and history {history}, expected at least 1 of each")
    config, codec = env_config(protocol), _codec(model)
    tasks = [make_tasks(protocol, episodes, seed).to(device) for seed in range(seeds)]
    blocks = -(-protocol.budget // codec.block)

    def controller(planned: PlanningModel, seed: int) -> MPC:
        streams = [decision_seed(seed, task) for task in range(episodes)]
        return MPC(CEM(planner), planned, cost, horizon=horizon, execute=execute, seeds=streams, device=device)

    def latent(planned: LatentPlanningModel) -> Callable[[Tasks, int], LatentAgent]:
        return lambda some, seed: LatentAgent(
            planned,
            _codec(planned),
            controller(planned, seed),
            render(some.goal, some.wall_x, some.door_y, config),
            history=history,
            budget=blocks,
        )

    def simulated(some: Tasks, seed: int) -> OracleAgent:
        simulator = OracleModel(codec, config)
        return OracleAgent(simulator, controller(simulator, seed), some.goal, budget=blocks)

    def uniform(some: Tasks, seed: int) -> RandomAgent:
        streams = [decision_seed(seed, task) for task in range(episodes)]
        return RandomAgent(codec.bounds, 2, protocol.budget, streams)

    decisions = Decisions()
    rounds, seconds = _rounds(latent(model), tasks, protocol, config, decisions)
    floors = {
        "random": _summary(_rounds(uniform, tasks, protocol, config)[0]),
        "zero": _summary(_rounds(lambda some, seed: ZeroAgent(len(some), 2), tasks, protocol, config)[0]),
    }
    if untrained is not None:
        floors["untrained"] = _summary(_rounds(latent(untrained), tasks, protocol, config)[0])
    report: dict[str, Any] = {
        "metrics": _metrics(rounds, decisions, episodes, config),
        "floors": floors,
        "ci95": _intervals(rounds),
        "per_seed": [{"seed": seed, **_summary([one])} for seed, one in enumerate(rounds)],
        "episodes": episodes * seeds,
        "seeds": seeds,
        "seconds": seconds,
        "planner": {
            "kind": "cem",
            **asdict(planner),
            "cost": asdict(cost),
            "horizon": horizon,
            "execute": execute,
            "history": history,
        },
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "protocol_hash": protocol.hash,
        "hardware": hardware(device),
        "commit": commit(),
    }
    if oracle:
        report["oracle"] = _summary(_rounds(simulated, tasks, protocol, config)[0])
    report["rows"] = [row for seed, (some, score) in enumerate(rounds) for row in _rows(seed, some, score)]
    report["seconds_total"] = time.perf_counter() - began
    return report


def _codec(model: LatentPlanningModel) -> ActionCodec:
    codec = model.codec
    if codec is None or len(codec.names) != 2:
        found = "no codec" if codec is None else f"actions {', '.join(codec.names)}"
        raise ConfigError(
            f"evaluate_planning: found a model with {found}, expected two raw dimensions, dx and dy in px"
        )
    return codec


def _rounds(
    agent: Callable[[Tasks, int], Agent],
    tasks: list[Tasks],
    protocol: PlanningProtocol,
    config: TwoRoomConfig,
    decisions: Decisions | None = None,
) -> tuple[Rounds, float]:
    """Play every task seed with a fresh agent; scores, and the seconds from making agents to their last step."""
    rounds: Rounds = []
    began = time.perf_counter()
    for seed, some in enumerate(tasks):
        player = agent(some, seed)
        rounds.append((some, play(some, player, config, protocol.budget)))
        if decisions is not None and isinstance(player, LatentAgent):
            decisions.seconds.extend(player.decisions.seconds)
            decisions.evaluations.extend(player.decisions.evaluations)
    return rounds, time.perf_counter() - began


def _pooled(rounds: Rounds, name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([getattr(score, name).numpy() for _, score in rounds])


def _summary(rounds: Rounds) -> dict[str, float]:
    ever, other = _pooled(rounds, "ever"), torch.cat([goal_in_other_room(tasks).cpu() for tasks, _ in rounds]).numpy()
    rooms = {"same_room": ~other, "other_room": other}
    return {
        "success_rate": float(ever.mean()),
        "success_rate_end": float(_pooled(rounds, "end").mean()),
        **{f"success_rate_{name}": float(ever[where].mean()) for name, where in rooms.items() if where.any()},
        "mean_final_distance_px": float(_pooled(rounds, "distance").mean()),
    }


def _intervals(rounds: Rounds) -> dict[str, tuple[float, float]]:
    counts = {"success_rate": _pooled(rounds, "ever"), "success_rate_end": _pooled(rounds, "end")}
    return {name: wilson_interval(int(solved.sum()), len(solved)) for name, solved in counts.items()}


def _metrics(rounds: Rounds, decisions: Decisions, episodes: int, config: TwoRoomConfig) -> dict[str, float]:
    milliseconds = 1000 * np.array(decisions.seconds) / episodes
    needed = torch.cat([shortest_path(tasks, config).cpu() for tasks, _ in rounds]).numpy() - config.success_radius
    needed = np.maximum(needed, 1e-6)
    efficiency = _pooled(rounds, "ever") * needed / np.maximum(needed, _pooled(rounds, "path"))
    return {
        **_summary(rounds),
        "path_efficiency": float(efficiency.mean()),
        "model_evaluations_per_decision": float(np.mean(decisions.evaluations)),
        "ms_per_decision_p50": float(np.quantile(milliseconds, 0.5)),
        "ms_per_decision_p95": float(np.quantile(milliseconds, 0.95)),
    }


def _rows(seed: int, tasks: Tasks, score: Score) -> list[dict[str, Any]]:
    other = goal_in_other_room(tasks).tolist()
    return [
        {
            "seed": seed,
            "task": task,
            "other_room": other[task],
            "success": bool(score.ever[task]),
            "success_end": bool(score.end[task]),
            "final_distance_px": round(float(score.distance[task]), 3),
        }
        for task in range(len(score.ever))
    ]
