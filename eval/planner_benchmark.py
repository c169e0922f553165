"""Every planner's own default on problems with a known optimum, at the same number of model evaluations.

    python eval/planner_benchmark.py [--evaluations 2000] [--seeds 3] --json OUT

50 bounded linear-quadratic problems: 4 states, 2 actions, 5 steps, each with a system, start and goal of its own. The
optimum is that of the quadratic program in double precision, checked by its optimality conditions. A planner's ratio is
its mean cost over the mean optimum; all but random shooting and the published settings must stay within 1 %.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.planning import PLANNERS, PRESETS, PlannerConfig, Problem, build_planner, decision_seed, with_budget

STATES, ACTIONS, HORIZON, EFFORT, BAR = 4, 2, 5, 0.1, 1.01
NOT_BARRED = ("random", *PRESETS)  # reported only


@dataclass(frozen=True)
class Box:
    """Every action dimension between -1 and 1."""

    low: Float[Tensor, "a"]
    high: Float[Tensor, "a"]

    def project(self, actions: Float[Tensor, "*b a"]) -> Float[Tensor, "*b a"]:
        return actions.clamp(self.low, self.high)


@dataclass(frozen=True)
class Imagined:
    """Imagined states, and the actions that led to them, which the cost charges too."""

    z: Float[Tensor, "p s h 1 d"]
    actions: Float[Tensor, "p s h a"]


@dataclass(frozen=True)
class Goal:
    z: Float[Tensor, "p 1 d"]


@dataclass(frozen=True)
class LinearSystems:
    """x' = A x + B u, one system per problem; the context is x."""

    transition: Float[Tensor, "p d d"]
    control: Float[Tensor, "p d a"]

    @property
    def action_dim(self) -> int:
        return self.control.shape[2]

    @property
    def action_bounds(self) -> Box:
        one = self.control.new_ones(self.action_dim)
        return Box(-one, one)

    def rollout(self, context: Float[Tensor, "p d"], actions: Float[Tensor, "p s h a"]) -> Imagined:
        x, states = context[:, None].expand(-1, actions.shape[1], -1), []
        for action in actions.unbind(2):
            x = x @ self.transition.mT + action @ self.control.mT
            states.append(x)
        return Imagined(torch.stack(states, dim=2).unsqueeze(-2), actions)


def quadratic_cost(path: Imagined, goal: Goal) -> Float[Tensor, "p s"]:
    """Squared distance to the goal over all steps, and `EFFORT` times the squared actions."""
    distance = (path.z - goal.z[:, None, None]).square().sum(dim=(2, 3, 4))
    return distance + EFFORT * path.actions.square().sum(dim=(2, 3))


@dataclass(frozen=True)
class Benchmark:
    """The problems in single precision, and their optima."""

    systems: LinearSystems
    start: Float[Tensor, "p d"]
    goal: Goal
    optimum: Float[Tensor, "p"]  # double precision
    actions: Float[Tensor, "p h a"]  # of the optimum
    residual: float  # how far its optimality conditions are from holding

    @classmethod
    def of(cls, problems: int = 50, seed: int = 0) -> "Benchmark":
        """Problems of one seed: near-rotations of radius 0.8 to 1.05, goals a few steps away."""
        g = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(problems, STATES, STATES, generator=g)).Q
        radius = 0.8 + 0.25 * torch.rand(problems, 1, 1, generator=g)
        systems = LinearSystems(
            radius * (0.7 * torch.eye(STATES) + 0.3 * turn), 0.7 * torch.randn(problems, STATES, ACTIONS, generator=g)
        )
        start = torch.randn(problems, STATES, generator=g)
        goal = Goal(1.5 * torch.randn(problems, 1, STATES, generator=g))
        return cls(systems, start, goal, *_optimum(systems, start, goal))

    @property
    def active(self) -> Float[Tensor, "p"]:
        """Share of the optimum's steps with an action at its bound."""
        return (self.actions.abs() > 1 - 1e-9).any(dim=2).double().mean(dim=1)

    def problem(self, seed: int) -> Problem:
        seeds = [decision_seed(seed, index) for index in range(len(self.start))]
        return Problem(self.systems, self.start, self.goal, quadratic_cost, HORIZON, seeds)

    def cost(self, actions: Float[Tensor, "p h a"]) -> Float[Tensor, "p"]:
        """True cost, in double precision."""
        systems = LinearSystems(self.systems.transition.double(), self.systems.control.double())
        path = systems.rollout(self.start.double(), actions[:, None].double())
        return quadratic_cost(path, Goal(self.goal.z.double()))[:, 0]


def _optimum(systems: LinearSystems, start: Tensor, goal: Goal, sweeps: int = 3000) -> tuple[Tensor, Tensor, float]:
    """Cost, actions and residual by exact minimisation of one number after the other, in double precision."""
    exact = LinearSystems(systems.transition.double(), systems.control.double())
    unit = torch.eye(HORIZON * ACTIONS, dtype=torch.float64).view(1, -1, HORIZON, ACTIONS)
    still = exact.rollout(start.double(), torch.zeros_like(unit[:, :1]).expand(len(start), -1, -1, -1))
    reach = exact.rollout(torch.zeros_like(start.double()), unit.expand(len(start), -1, -1, -1)).z.flatten(2)
    off = (still.z - goal.z.double()[:, None, None]).flatten(2)  # (p, 1, h * d)
    hessian = reach @ reach.mT + EFFORT * torch.eye(unit.shape[1], dtype=torch.float64)
    linear = (reach @ off.mT)[:, :, 0]
    u = torch.zeros_like(linear)
    for _ in range(sweeps):
        for i in range(u.shape[1]):
            slope = (hessian[:, i] * u).sum(1) + linear[:, i]
            u[:, i] = (u[:, i] - slope / hessian[:, i, i]).clamp(-1, 1)
    gradient = (hessian @ u[:, :, None])[:, :, 0] + linear
    residual = float((u - (u - gradient).clamp(-1, 1)).abs().max())
    actions = u.view(-1, HORIZON, ACTIONS)
    cost = quadratic_cost(exact.rollout(start.double(), actions[:, None]), Goal(goal.z.double()))[:, 0]
    return cost, actions, residual


def contenders(evaluations: int) -> dict[str, PlannerConfig]:
    """Every planner's default, and the published settings, scaled to the budget; cmaes where it is installed."""
    configs = dict(PLANNERS) | {name: preset.planner for name, preset in PRESETS.items()}
    try:
        import cmaes  # noqa: F401
    except ImportError:
        del configs["cmaes"]
    return {name: with_budget(config, evaluations) for name, config in configs.items()}


def run(benchmark: Benchmark, configs: dict[str, PlannerConfig], seeds: int) -> dict[str, Any]:
    """A row per planner, seed and problem, and a summary per planner."""
    rows, summary = [], {}
    for name, config in configs.items():
        costs, began, used = [], time.perf_counter(), 0
        for seed in range(seeds):
            plan = build_planner(config)(benchmark.problem(seed))
            cost, used = benchmark.cost(plan.actions), plan.evaluations
            costs.append(cost)
            rows += [
                {"planner": name, "seed": seed, "problem": i, "cost": c, "optimum": o, "evaluations": used, "active": a}
                for i, (c, o, a) in enumerate(
                    zip(cost.tolist(), benchmark.optimum.tolist(), benchmark.active.tolist(), strict=True)
                )
            ]
        ratios = [float(cost.mean() / benchmark.optimum.mean()) for cost in costs]
        worst = float((torch.stack(costs) / benchmark.optimum).max())
        summary[name] = {
            "ratio": sum(ratios) / len(ratios),
            "ratio_worst_seed": max(ratios),
            "ratio_worst_problem": worst,
            "evaluations": used,
            "seconds": (time.perf_counter() - began) / seeds,
            "barred": name not in NOT_BARRED,
            "passed": max(ratios) <= BAR,
        }
    return {"metrics": summary, "rows": rows}


def table(summary: dict[str, dict[str, Any]]) -> str:
    """The summary as lines."""
    lines = [f"{'planner':16}{'ratio':>9}{'worst seed':>12}{'worst problem':>15}{'evaluations':>13}{'s':>8}"]
    for name, row in summary.items():
        lines.append(
            f"{name:16}{row['ratio']:9.4f}{row['ratio_worst_seed']:12.4f}{row['ratio_worst_problem']:15.4f}"
            f"{row['evaluations']:13d}{row['seconds']:8.2f}"
            + ("" if not row["barred"] else "  ok" if row["passed"] else "  ABOVE 1 %")
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the report goes")
    options = parser.parse_args()
    if min(options.problems, options.seeds) < 1:
        raise ConfigError(f"found problems {options.problems}, seeds {options.seeds}, expected at least 1 of each")
    began, benchmark = time.perf_counter(), Benchmark.of(options.problems)
    configs = contenders(options.evaluations)
    report = run(benchmark, configs, options.seeds)
    report |= {
        "settings": {name: {"type": type(config).__name__, **asdict(config)} for name, config in configs.items()},
        "problem": {
            "states": STATES, "actions": ACTIONS, "horizon": HORIZON, "effort": EFFORT,
            "active_share": float(benchmark.active.mean()), "optimality_residual": benchmark.residual,
        },
        "episodes": options.problems,
        "seeds": options.seeds,
        "seconds_total": time.perf_counter() - began,
        "hardware": hardware(),
        "commit": commit(),
    }  # fmt: skip
    print(table(report["metrics"]))
    print(f"bounds active at {report['problem']['active_share']:.0%} of the optimal steps")
    if options.json is not None:
        rows = ",\n".join(json.dumps(row) for row in report.pop("rows"))  # one line each
        head = json.dumps(report, indent=1).removesuffix("\n}")
        options.json.write_text(f'{head},\n "rows": [\n{rows}\n]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
