"""Latent planning against floors and an oracle, on the tasks of a protocol."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from jepa_actions.data import ActionCodec
from jepa_actions.envs.world import World
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import (
    Agent,
    Decisions,
    LatentAgent,
    LatentPlanningModel,
    PolicyAgent,
    RandomAgent,
    StraightAgent,
    ZeroAgent,
)
from jepa_actions.evaluation.control import POLICIES, Control, latent_agent, make_cost, oracle_agent, world_codec
from jepa_actions.evaluation.oracle import Functional
from jepa_actions.evaluation.play import Score, play
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import wilson_interval
from jepa_actions.evaluation.tasks import Tasks, goal_in_other_room, make_tasks, world_of_protocol
from jepa_actions.planning import decision_seed

Rounds = list[tuple[Tasks, Score]]  # one per task seed
MakeAgent = Callable[[Tasks, int], Agent]


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
        device: where the environment and the candidates live; the CPU when None. The model must be there already.

    Returns: a report for JSON. `metrics.success_rate` is by the protocol's rule, `success_rate_ever` counts tasks
        solved after any step, `success_rate_end` after the last; in two_room `_same_room` and `_other_room` split it by
        whether the wall stands between start and goal; `path_efficiency` is success weighted by shortest over travelled
        path (SPL, Anderson et al. 2018); milliseconds per decision are those of a batch of `episodes` decisions,
        divided by them, with the share of the encoder apart. `predicted_final_cost` and `realised_final_cost` are what
        the planner's last plan promised and what the last frame then gave, by the same cost: a plan that promises more
        than it keeps exploits the model. Floors and oracle have the same success keys. `seconds` is deciding, rendering
        and stepping of `model` alone; `rows` has one per task.

    Raises: ConfigError for fewer than one seed, or a model whose actions are not the world's.
    """
    began = time.perf_counter()
    game = _Game.of(model, protocol, control, episodes, seeds, history, device)
    decisions: list[Decisions] = []
    rounds, seconds = game.rounds(game.learned(model, game.control), decisions)
    report: dict[str, Any] = {
        "metrics": game.metrics(rounds, decisions, model),
        "floors": game.floors(untrained),
        "ci95": _intervals(rounds),
        "per_seed": [{"seed": seed, **game.summary([one])} for seed, one in enumerate(rounds)],
        "episodes": game.episodes * seeds,
        "seeds": seeds,
        "seconds": seconds,
        "control": game.control.describe() | {"history": history},
        "protocol": game.protocol.name,
        "protocol_version": game.protocol.version,
        "protocol_hash": game.protocol.hash,
        "hardware": hardware(device),
        "commit": commit(),
    }
    if oracle and game.control.planner not in POLICIES and isinstance(game.world, Functional):
        report["oracle"] = game.summary(game.rounds(game.simulated)[0])
    report["rows"] = [row for seed, (some, score) in enumerate(rounds) for row in game.rows(seed, some, score)]
    report["seconds_total"] = time.perf_counter() - began
    return report


@dataclass(frozen=True)
class _Game:
    """The tasks of an evaluation, and who may play them."""

    protocol: PlanningProtocol
    world: World
    control: Control
    codec: ActionCodec
    episodes: int
    tasks: list[Tasks]
    history: int
    device: torch.device | None

    @classmethod
    def of(
        cls,
        model: LatentPlanningModel,
        protocol: PlanningProtocol | str,
        control: Control | None,
        episodes: int | None,
        seeds: int,
        history: int,
        device: torch.device | None,
    ) -> "_Game":
        protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
        count = protocol.episodes if episodes is None else episodes
        if seeds < 1 or history < 1:
            raise ConfigError(
                f"evaluate_planning: found seeds {seeds} and history {history}, expected at least 1 of each"
            )
        world = world_of_protocol(protocol)
        codec = world_codec(model, world)
        tasks = [make_tasks(protocol, count, seed).to(device) for seed in range(seeds)]
        resolved = (control or Control()).resolved(model)
        return cls(protocol, world, resolved, codec, count, tasks, history, device)

    @property
    def blocks(self) -> int:
        """Model steps of the budget."""
        return -(-self.protocol.budget // self.codec.block)

    def learned(self, model: LatentPlanningModel, control: Control) -> MakeAgent:
        return lambda some, seed: latent_agent(
            control,
            model,
            world_codec(model, self.world),
            self.world.render(some.goal, some.layout),
            seed=seed,
            history=self.history,
            budget=self.blocks,
            device=self.device,
        )

    def simulated(self, some: Tasks, seed: int) -> Agent:
        return oracle_agent(
            self.control, self.world, self.codec, some, seed=seed, budget=self.blocks, device=self.device
        )

    def floors(self, untrained: LatentPlanningModel | None) -> dict[str, dict[str, float]]:
        dim = len(self.codec.names)
        makers: dict[str, MakeAgent] = {
            "random": lambda some, seed: RandomAgent(
                self.codec.bounds,
                dim,
                self.protocol.budget,
                [decision_seed(seed, task) for task in range(self.episodes)],
            ),
            "zero": lambda some, seed: ZeroAgent(len(some), dim),
            "straight": lambda some, seed: StraightAgent(self.world, some.goal),
        }
        found = {name: self.summary(self.rounds(makers[name])[0]) for name in self.protocol.floors}
        if untrained is not None:
            control = self.control.resolved(untrained)
            found["untrained"] = self.summary(self.rounds(self.learned(untrained, control))[0])
        return found

    def rounds(self, agent: MakeAgent, decisions: list[Decisions] | None = None) -> tuple[Rounds, float]:
        """Play every task seed with a fresh agent; scores, and the seconds from making agents to their last step."""
        rounds: Rounds = []
        began = time.perf_counter()
        for seed, some in enumerate(self.tasks):
            player = agent(some, seed)
            rounds.append((some, play(some, player, self.world, self.protocol)))
            if decisions is not None:
                decisions.append(cast(LatentAgent | PolicyAgent, player).decisions)
        return rounds, time.perf_counter() - began

    def summary(self, rounds: Rounds) -> dict[str, float]:
        solved = _pooled(rounds, "solved")
        found = {
            "success_rate": float(solved.mean()),
            "success_rate_ever": float(_pooled(rounds, "ever").mean()),
            "success_rate_end": float(_pooled(rounds, "end").mean()),
            "mean_final_distance": float(_pooled(rounds, "distance").mean()),
        }
        if self.protocol.route_valid:
            found["route_valid"] = float(_pooled(rounds, "valid").mean())
        if self.world.name == "two_room":
            other = torch.cat([goal_in_other_room(tasks).cpu() for tasks, _ in rounds]).numpy()
            rooms = {"same_room": ~other, "other_room": other}
            found |= {
                f"success_rate_{name}": float(solved[where].mean()) for name, where in rooms.items() if where.any()
            }
        return found

    def metrics(self, rounds: Rounds, decisions: list[Decisions], model: LatentPlanningModel) -> dict[str, float]:
        milliseconds = 1000 * np.concatenate([one.seconds for one in decisions]) / self.episodes
        encoding = 1000 * np.concatenate([one.encoding for one in decisions]) / self.episodes
        needed = torch.cat(
            [self.world.shortest_path(some.start, some.goal, some.layout).cpu() for some, _ in rounds]
        ).numpy()
        efficiency = _pooled(rounds, "ever") * needed / np.maximum(np.maximum(needed, _pooled(rounds, "path")), 1e-6)
        return {
            **self.summary(rounds),
            "path_efficiency": float(efficiency.mean()),
            "model_evaluations_per_decision": float(np.mean([n for one in decisions for n in one.evaluations])),
            "ms_per_decision_p50": float(np.quantile(milliseconds, 0.5)),
            "ms_per_decision_p95": float(np.quantile(milliseconds, 0.95)),
            "ms_encoding_p50": float(np.quantile(encoding, 0.5)),
            "ms_deciding_p50": float(np.quantile(milliseconds - encoding, 0.5)),
            "ms_deciding_p95": float(np.quantile(milliseconds - encoding, 0.95)),
            **self.exploitation(rounds, decisions, model),
        }

    @torch.no_grad()
    def exploitation(self, rounds: Rounds, decisions: list[Decisions], model: LatentPlanningModel) -> dict[str, float]:
        """What the last plan promised and what the last frame gave, by the same cost; nothing for policies."""
        promised = [one.predicted for one in decisions if one.predicted is not None]
        if len(promised) < len(rounds):
            return {}
        cost, given = make_cost(self.control, model), []
        for some, score in rounds:
            reached = model.goal(self.world.render(score.state, some.layout)).z
            end = _Reached(reached[:, None, None], reached)
            given.append(cost(end, model.goal(self.world.render(some.goal, some.layout)))[:, 0].cpu())
        return {
            "predicted_final_cost": float(torch.cat(promised).mean()),
            "realised_final_cost": float(torch.cat(given).mean()),
        }

    def rows(self, seed: int, tasks: Tasks, score: Score) -> list[dict[str, Any]]:
        other = goal_in_other_room(tasks).tolist() if self.world.name == "two_room" else None
        needed = self.world.shortest_path(tasks.start, tasks.goal, tasks.layout).tolist()
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


def _pooled(rounds: Rounds, name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([getattr(score, name).numpy() for _, score in rounds])


def _intervals(rounds: Rounds) -> dict[str, tuple[float, float]]:
    counts = {"success_rate": "solved", "success_rate_ever": "ever", "success_rate_end": "end"}
    found = {key: _pooled(rounds, name) for key, name in counts.items()}
    return {key: wilson_interval(int(solved.sum()), len(solved)) for key, solved in found.items()}
