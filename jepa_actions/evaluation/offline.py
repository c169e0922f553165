"""Planning on recordings, without a simulator: from o_t to o_{t+k}, the planned against the recorded actions."""

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.errors import ConfigError, PlanningError
from jepa_actions.evaluation.agents import RandomAgent
from jepa_actions.evaluation.control import POLICIES, Control, make_cost, make_policy, make_proposals
from jepa_actions.evaluation.displacement import BETTER, Displacement, Scores, ranks
from jepa_actions.evaluation.heldout import HeldoutClips, heldout_clips, recorded_sequences
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import block_bootstrap, paired_bootstrap
from jepa_actions.models import Goal, WorldModel
from jepa_actions.planning import Plan, Problem, decision_seed, spent
from jepa_actions.training import OpenData

CHUNK = 512  # (clip, candidate) pairs per rollout: those of many patches are large


@torch.no_grad()
def evaluate_offline(
    model: WorldModel,
    data: OpenData,
    *,
    k: int = 5,
    control: Control | None = None,
    limit: int = 100,
    candidates: int = 100,
    seed: int = 0,
    batch: int = 16,
) -> dict[str, Any]:
    """Plan k model steps from o_t to o_{t+k} on held-out stretches, and compare the plan with what was recorded.

    Compared are displacements: the sum of the k steps' raw actions, per dimension, and as the vector of all that are
    numbers and no gripper. Beside that, the planner's cost ranks the recorded action sequence among `candidates - 1`
    others: random ones, uniform over the support (`rank`), and k recorded steps of training episodes
    (`rank_recorded`), which do not give themselves away by their size.

    Floors: `zero`, `mean` (of the training actions) and `inverse_head` (its answer k times, see
    `HeldoutClips.inferred`; `inverse_gap` says what it was shown) do not plan, and rank candidates by how far they are
    from their own displacement; `shuffled_goal` is the planner sent to another clip's goal. The reference
    `inverse_pairs` reads every step off its own two frames.

    Arguments:
        model: in evaluation mode, with actions.
        data: as `evaluation.suite.data_of` opens it.
        k: model steps from start to goal, and the horizon of the plan.
        control: how to plan; its `horizon` and `execute` have no part in this.
        limit: clips, drawn with `seed`.
        batch: clips planned together.

    Returns: a report for JSON. `cosine` and `error` are means over clips of the cosine and the length of the difference
        of the two vectors, in raw units; `_scaled` in units of the spread of k recorded training steps, so that metres
        and radians count alike. The cosine with a displacement of zero is 0. `error_by_dimension` is the mean absolute
        difference in raw units, `cosine_by_dimension` is over clips. `rank` counts from 1, `top10` is the share of
        clips with a rank of at most 10. `ci95` are of a bootstrap over episodes (over stretches of the only one);
        `ci95.margin_over` is by how much each floor is beaten, above zero for the better whatever the metric.
        `episodes` counts clips, `recordings` the episodes they are of.

    Raises: DataError as `heldout_clips`, ConfigError for a k below 1, or fewer than 2 candidates.
    """
    began = time.perf_counter()
    if k < 1 or candidates < 2:
        raise ConfigError(f"evaluate_offline: found k {k} and candidates {candidates}, expected at least 1 and 2")
    control = (control or Control(reduce="last")).resolved(model)  # to be there after k steps, not before
    clips = heldout_clips(model, data, k=k, limit=limit, seed=seed)
    pool = recorded_sequences(model, data, k)
    displacement = Displacement(clips.codec, pool)
    search = ClipSearch(clips, control, seed, batch)
    inverse, gap = clips.inferred()
    answers = {
        "model": search.plan(clips.goals),
        "zero": clips.codec.encode(clips.codec.still()).expand_as(inverse),
        "mean": pool.mean((0, 1)).expand_as(inverse),
        "inverse_head": inverse,
        "shuffled_goal": ClipSearch(clips, control, seed, batch).plan(clips.others),
    }
    scores = {name: displacement.compare(actions, clips.recorded) for name, actions in answers.items()}
    known = _drawn(pool, len(clips), candidates - 1, seed)
    for suffix, others in (("", _random_like(clips, known, seed)), ("_recorded", known)):
        tried = torch.cat([clips.recorded[:, None], others], dim=1)
        costs = {name: displacement.apart(tried, answer) for name, answer in answers.items()}
        costs["model"], costs["shuffled_goal"] = search.costs(tried, clips.goals, clips.others)
        for name, cost in costs.items():
            rank = ranks(cost)
            scores[name] |= {f"rank{suffix}": rank, f"top10{suffix}": (rank <= 10).astype(float)}
    pairs = displacement.compare(clips.pairs(), clips.recorded)
    return {
        "metrics": {**displacement.summary(scores["model"]), **search.effort()},
        "floors": {name: displacement.summary(score) for name, score in scores.items() if name != "model"},
        "references": {"inverse_pairs": displacement.summary(pairs)},
        "ci95": _intervals(scores, clips.blocks, seed),
        "gap": k,
        "candidates": candidates,
        "inverse_gap": gap,
        "episodes": len(clips),
        "recordings": len(np.unique(clips.encoded.episode)),
        "seeds": 1,
        "seconds": sum(search.seconds),
        "seconds_total": time.perf_counter() - began,
        "control": control.describe() | {"horizon": k, "execute": k, "history": clips.past},
        "data": data.heldout_dataset.name,
        "hardware": hardware(clips.device),
        "commit": commit(),
        "rows": [clips.named(row) | _row(scores["model"], row) for row in range(len(clips))],
    }


def plan_once(model: Any, context: Any, goal: Any, control: Control, *, horizon: int, seeds: list[int]) -> Plan:
    """The plan of a resolved control from one context, cold; of a policy the steps that its mean takes in imagination.

    Raises: ConfigError for a policy or proposals of a model without what they need.
    """
    cost = make_cost(control, model)
    if control.planner in POLICIES:
        actions = _imagined_steps(model, context, goal, control, horizon)
        return Plan(actions, cost(model.rollout(context, actions[:, None]), goal)[:, 0])
    proposals = make_proposals(control, model)
    given = None if proposals is None else proposals(context, goal, horizon, seeds)
    plan = control.make_planner()(Problem(model, context, goal, cost, horizon, seeds, proposals=given))
    plan.proposing = spent(proposals, horizon)
    return plan


def _imagined_steps(model: Any, context: Any, goal: Any, control: Control, horizon: int) -> Float[Tensor, "p h a"]:
    policy, actions = make_policy(control, model), []
    for step in range(horizon):
        actions.append(policy(context, goal))
        if step + 1 < horizon:
            context = model.advance(context, actions[-1])
    return torch.stack(actions, dim=1)


class ClipSearch:
    """Plans and costs for clips, a batch at a time; counts what planning took.

    Arguments:
        control: resolved.
        batch: clips that are planned together.
    """

    def __init__(self, clips: HeldoutClips, control: Control, seed: int, batch: int) -> None:
        self.clips, self.control, self.seed, self.batch = clips, control, seed, batch
        self.seconds: list[float] = []
        self.milliseconds: list[float] = []
        self.evaluations: list[int] = []

    def plan(self, goals: Float[Tensor, "c n d"]) -> Float[Tensor, "c k a"]:
        """Model actions towards `goals`."""
        clips, plans = self.clips, []
        for rows in torch.arange(len(clips)).split(self.batch):
            context, goal = clips.context(rows), Goal(goals[rows].to(clips.device))
            began = time.perf_counter()
            found = plan_once(clips.model, context, goal, self.control, horizon=clips.k, seeds=self._seeds(rows))
            plans.append(found.actions.cpu())  # waits for the device
            self.seconds.append(time.perf_counter() - began)
            self.milliseconds.append(1000 * self.seconds[-1] / len(rows))
            self.evaluations.append(found.evaluations)
        return torch.cat(plans)

    def costs(
        self, tried: Float[Tensor, "c s k a"], *goals: Float[Tensor, "c n d"]
    ) -> tuple[Float[Tensor, "c s"], ...]:
        """The planner's cost of candidates, towards each of several goals: they are imagined once.

        Raises: PlanningError for a cost of NaN, naming clip and candidate.
        """
        clips, cost = self.clips, make_cost(self.control, self.clips.model)
        found: list[list[Tensor]] = [[] for _ in goals]
        for rows in torch.arange(len(clips)).split(self.batch):
            context = clips.context(rows)
            parts = tried[rows].to(clips.device).split(max(1, CHUNK // len(rows)), dim=1)
            rollouts = (clips.model.rollout(context, part) for part in parts)
            values = [[cost(imagined, Goal(goal[rows].to(clips.device))) for goal in goals] for imagined in rollouts]
            for place, pieces in enumerate(zip(*values, strict=True)):
                found[place].append(torch.cat(pieces, dim=1).cpu())
        costs = tuple(map(torch.cat, found))
        for values_to_goal in costs:
            if bool(values_to_goal.isnan().any()):
                clip, candidate = (int(i) for i in values_to_goal.isnan().nonzero()[0])
                raise PlanningError(f"cost of clip {clip}, candidate {candidate}: found NaN, expected a number")
        return costs

    def effort(self) -> dict[str, float]:
        """Evaluations and milliseconds per plan, encoding apart."""
        return {
            "model_evaluations_per_decision": float(np.mean(self.evaluations)),
            "ms_deciding_p50": float(np.quantile(self.milliseconds, 0.5)),
            "ms_deciding_p95": float(np.quantile(self.milliseconds, 0.95)),
        }

    def _seeds(self, rows: Int[Tensor, "b"]) -> list[int]:
        return [decision_seed(self.seed, int(row)) for row in rows]


def _drawn(pool: Float[Tensor, "m k a"], clips: int, count: int, seed: int) -> Float[Tensor, "c s k a"]:
    """Recorded sequences, for every clip `count` different ones where there are so many."""
    generator = np.random.default_rng([seed, 1])
    rows = [generator.choice(len(pool), count, replace=len(pool) < count) for _ in range(clips)]
    return pool[torch.from_numpy(np.stack(rows))]


def _random_like(clips: HeldoutClips, like: Float[Tensor, "c s k a"], seed: int) -> Float[Tensor, "c s k a"]:
    """Raw actions uniform over the support, every step anew; choices among classes stay those of `like`."""
    codec, raw = clips.codec, clips.codec.decode(like)
    seeds = [decision_seed(seed, len(clips) + row) for row in range(len(clips))]
    steps = raw.shape[1] * raw.shape[2] * raw.shape[3]
    drawn = RandomAgent(codec.bounds, len(codec.names), steps, seeds).act(None).view(raw.shape)
    classes = torch.tensor([count > 0 for count in codec.scaling.classes])
    return codec.encode(torch.where(classes, raw, drawn))


def _intervals(scores: dict[str, Scores], blocks: Int[np.ndarray, "c"], seed: int) -> dict[str, Any]:
    if len(np.unique(blocks)) < 2:
        return {}
    found: dict[str, Any] = {"margin_over": {}}
    for name in BETTER:
        _, *ends = block_bootstrap(scores["model"][name], blocks, seed=seed, resamples=1000)
        found[name] = ends
    for floor, score in scores.items():
        if floor != "model":
            found["margin_over"][floor] = {}
            for name, sign in BETTER.items():
                one, two = (sign * values[name] for values in (scores["model"], score))
                _, *ends = paired_bootstrap(one, two, seed=seed, blocks=blocks, resamples=1000)
                found["margin_over"][floor][name] = ends
    return found


def _row(scores: Scores, row: int) -> dict[str, float]:
    return {name: round(float(scores[name][row]), 5) for name in BETTER}
