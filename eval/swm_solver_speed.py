"""Our CEM beside stable-worldmodel 0.1.1's: the same predictor through each solver's own call path.

    python eval/swm_solver_speed.py --json eval/results/swm_solver_speed.json    (where stable-worldmodel is installed)

Every path starts from the same pictures and plans the same problems with the same number of model evaluations: 300
candidates, 10 iterations, 30 elites, 5 model steps of 5 raw actions. Its solver is as its defaults have it, one
problem after the other (`batch_size=1`); ours plans them together. Two paths of its own:

    adapter  CEMSolver on our `CostModel`: our rollouts in its solver. What differs is the solver alone.
    lewm     CEMSolver on its own `LeWM`, which holds our encoder and our predictor: its rollouts, too. It predicts the
             whole window of past frames at every step and keeps the last, where ours remembers keys and values.

and, for comparison, `adapter_batched` with a `batch_size` of all problems (its `LeWM` takes one at a time). Runs
alternate within a pair; a ratio is theirs over ours, of wall-clock seconds. The costs of the same candidates are
compared first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from jepa_actions import WorldModel
from jepa_actions.adapters.stable_worldmodel import CostModel
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.models import DynamicsConfig
from jepa_actions.planning import CEM, CEMConfig, LatentCost, Problem

HORIZON, SAMPLES, ELITES = 5, 300, 30
TRANSFORMER = DynamicsConfig("transformer", width=128, depth=3, heads=4, history=HORIZON, conditioning="adaln")
COST = LatentCost("l2", "last")


@dataclass(frozen=True)
class Bench:
    """A model, pictures of problems, and the budget."""

    model: WorldModel
    frames: Tensor  # (p, 3, h, w) uint8
    goals: Tensor
    iterations: int

    def ours(self) -> Tensor:
        """Plans of our CEM."""
        model = self.model
        with torch.no_grad():
            context, goal = model.encode(self.frames[:, None]), model.goal(self.goals)
        config = CEMConfig(samples=SAMPLES, elites=ELITES, iterations=self.iterations, momentum=0.0)
        return CEM(config)(Problem(model, context, goal, COST, HORIZON, list(range(len(self.frames))))).actions

    def theirs(self, costable: Any, batch: int) -> Tensor:
        """Plans of stable-worldmodel's CEM."""
        import stable_worldmodel as swm
        from stable_worldmodel.solver import CEMSolver

        block = self.model.codec.block if self.model.codec else 1
        space = gymnasium.spaces.Box(-1, 1, (len(self.frames), self.model.action_dim // block))
        solver = CEMSolver(costable, batch_size=batch, num_samples=SAMPLES, n_steps=self.iterations, topk=ELITES)
        config = swm.PlanConfig(horizon=HORIZON, receding_horizon=1, action_block=block)
        solver.configure(action_space=space, n_envs=len(self.frames), config=config)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its seconds
            found: Tensor = solver.solve(self.info)["actions"]
        return found

    @property
    def info(self) -> dict[str, Tensor]:
        """What `WorldModelPolicy` gives a solver."""
        count = len(self.frames)
        shown = {"pixels": self.frames, "goal": self.goals}
        pictures = {key: value.movedim(1, -1)[:, None] for key, value in shown.items()}
        return pictures | {"action": torch.zeros(count, 1, self.model.action_dim)}


class Encoder(nn.Module):
    """Our encoder as `LeWM` calls one: a batch of pictures, and the latent where a class token would be."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, **_: Any) -> Any:
        latents = self.model.encode_frames({self.model.config.cameras[0]: pixels.movedim(-1, 1)[:, None].byte()})
        return SimpleNamespace(last_hidden_state=latents.flatten(2))


class Predictor(nn.Module):
    """Our dynamics as `LeWM` calls one: all frames of a window and their actions, and the frame after each."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.dynamics, self.num_frames = model.dynamics, model.history

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        dynamics = self.dynamics
        assert dynamics is not None
        return dynamics(latents.unflatten(-1, (dynamics.latents, dynamics.dim)), actions).flatten(2)


def lewm(model: WorldModel) -> Any:
    """stable-worldmodel's own world model with our parts."""
    from stable_worldmodel.wm.lewm import LeWM

    return LeWM(Encoder(model), Predictor(model), nn.Identity()).eval()


def models(names: list[str]) -> dict[str, WorldModel]:
    """Models by name: folders; or `transformer`, with the size of checkpoints/two_room and random weights, whose
    predictor looks at every frame since the plan began (speed does not ask what weights are)."""
    found = {}
    for name in names:
        model = WorldModel.from_pretrained("checkpoints/two_room" if name == "transformer" else name)
        if name == "transformer":
            torch.manual_seed(0)
            model = WorldModel(replace(model.config, dynamics=TRANSFORMER), model.codec)
            nn.init.normal_(model.dynamics.out.weight, std=0.05)  # type: ignore[union-attr]
        found[name] = model.eval()
    return found


@torch.inference_mode()
def disagreement(bench: Bench) -> dict[str, float]:
    """Largest difference of its paths' costs from ours, as a share of ours, over the same candidates."""
    model, few = bench.model, replace(bench, frames=bench.frames[:1], goals=bench.goals[:1])
    raw = torch.randn(1, 32, HORIZON, model.action_dim, generator=torch.Generator().manual_seed(1))
    actions = model.action_bounds.project(raw)
    expected = COST(model.rollout(model.encode(few.frames[:, None]), actions), model.goal(few.goals))
    found = {}
    for name, costable in {"adapter": CostModel(model, COST, units="model", history=1), "lewm": lewm(model)}.items():
        info = {key: value[:, None].expand(-1, 32, *value.shape[1:]) for key, value in few.info.items()}
        cost = costable.get_cost(info, actions)
        if name == "lewm":
            cost = cost / (model.latents * model.dim)  # a sum where ours is a mean
        found[name] = float(((cost - expected).abs() / expected).max())
    return found


def measure(bench: Bench, pairs: int) -> dict[str, Any]:
    """Seconds per plan of every path, alternated, and ratios."""
    count = len(bench.frames)
    paths: dict[str, Callable[[], Tensor]] = {"ours": bench.ours}
    adapter = CostModel(bench.model, COST, units="model", history=1)
    paths["adapter"] = partial(bench.theirs, adapter, 1)
    paths["lewm"] = partial(bench.theirs, lewm(bench.model), 1)
    paths["adapter_batched"] = partial(bench.theirs, adapter, count)
    few = replace(bench, iterations=1)
    few.ours()  # warm
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(pairs):
        for name, path in paths.items():
            began = time.perf_counter()
            path()
            seconds[name].append((time.perf_counter() - began) / count)
    ratios = {
        name: [round(theirs / ours, 3) for theirs, ours in zip(seconds[name], seconds["ours"], strict=True)]
        for name in paths
        if name != "ours"
    }
    return {
        "ms_per_plan": {name: round(1000 * statistics.median(values), 2) for name, values in seconds.items()},
        "ratio": {name: round(statistics.median(values), 3) for name, values in ratios.items()},
        "ratios": ratios,
        "seconds_per_plan": {name: [round(value, 5) for value in values] for name, values in seconds.items()},
    }


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["checkpoints/two_room", "checkpoints/reacher", "transformer"])
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name, model in models(options.models).items():
        size = model.config.encoder.image_size
        draw = torch.Generator().manual_seed(0)
        pictures = [torch.randint(0, 256, (options.problems, 3, *size), generator=draw).byte() for _ in range(2)]
        bench = Bench(model, *pictures, options.iterations)
        found[name] = {"dynamics": repr(model.config.dynamics), "cost_disagreement": disagreement(bench)}
        found[name] |= measure(bench, options.pairs)
        print(name, json.dumps({k: found[name][k] for k in ("cost_disagreement", "ms_per_plan", "ratio")}), flush=True)
        if options.json is not None:  # after each model: the next one may take long
            report = {
                "problems": options.problems,
                "evaluations": SAMPLES * options.iterations,
                "horizon": HORIZON,
                "models": found,
                "stable-worldmodel": version("stable-worldmodel"),
                "hardware": hardware(),
                "commit": commit(),
            }
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
