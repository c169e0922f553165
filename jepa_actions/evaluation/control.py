"""How an evaluation decides, as configuration: a planner with its cost and budget, or the inverse head by itself."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

import torch
from torch import Tensor

from jepa_actions.data import ActionCodec
from jepa_actions.envs.world import World
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.agents import Agent, LatentAgent, LatentPlanningModel, OracleAgent, PolicyAgent
from jepa_actions.evaluation.oracle import OracleModel, ShortestPathCost, StraightLineCost
from jepa_actions.evaluation.tasks import Tasks
from jepa_actions.planning import (
    MPC,
    PLANNERS,
    PRESETS,
    Cost,
    InversePolicy,
    InverseProposals,
    LatentCost,
    Planner,
    Policy,
    SubgoalPolicy,
    TemporalCost,
    adjusted,
    build_planner,
    checked_noise,
    decision_seed,
    nearest,
)

COSTS = ("auto", "l2", "l1", "cosine", "temporal")
POLICIES = ("inverse", "subgoal")
HORIZON, EXECUTE = 5, 1  # model steps, where nobody says otherwise


@dataclass(frozen=True)
class Control:
    """One way to decide.

    Arguments:
        planner: a planner's name (`planning.make_planner`); or that of a published one (`planning.PRESETS`), whose
            budget, cost, horizon, steps executed and warm start are taken where nothing else is asked for, while the
            bounds are the model's, as for every other; or `inverse`, the goal-conditioned inverse head by itself; or
            `subgoal`, the inverse head on an imagined next latent.
        settings: of the planner, where they are not its defaults; of a policy, `noise`: how many of the head's standard
            deviations are drawn from around its mean (1 when left out).
        evaluations: model evaluations per decision that the planner's budget is scaled to; its default when None.
        cost: `auto` is a published planner's own, else the temporal distance where the model has one, else `l2`.
        reduce: over the imagined steps, see `planning.cost.reduced`; `auto` is `sum` for the temporal distance, under
            which a plan may not put off arriving, and for latent distances a published planner's own, else `last`.
        reach: charge imagined steps that the temporal distance finds longer than real ones; with cost temporal.
        horizon, execute: model steps imagined by a plan, and executed before the next one; None is a published
            planner's own, else 5 and 1.
        warm_start: begin with what is left of the last plan; None is a published planner's own, else true.
        proposals: action sequences that the inverse head proposes; 0 is none.
        fuse: start from the product of the planner's Gaussian and that of the proposals.
        timeout_ms: real time for each plan of one task, which is then the best so far (`MPC.plan`).
    """

    planner: str = "cem"
    settings: dict[str, Any] = field(default_factory=dict)
    evaluations: int | None = None
    cost: str = "auto"
    reduce: str = "auto"
    reach: bool = True
    horizon: int | None = None
    execute: int | None = None
    warm_start: bool | None = None
    proposals: int = 0
    fuse: bool = False
    timeout_ms: float | None = None

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise ConfigError(f"cost: found {self.cost!r}, expected one of {', '.join(COSTS)}")
        if self.fuse and not self.proposals:
            raise ConfigError("fuse: found true and no proposals, expected at least one")
        _check_name(self.planner)
        if self.timeout_ms is not None and not 0 <= self.timeout_ms < math.inf:
            raise ConfigError(f"planner {self.planner}, timeout_ms: found {self.timeout_ms}, expected 0 or more")
        horizon, execute = self.steps
        if not 1 <= execute <= horizon:
            raise ConfigError(
                f"planner {self.planner}: found horizon {horizon} and execute {execute}, expected 1 <= execute "
                "<= horizon"
            )
        if self.planner not in POLICIES:
            self.make_planner()  # a wrong setting is an error now
        else:
            self._check_policy()

    def make_planner(self) -> Planner:
        """The planner with its settings. Raises ConfigError for a setting that it does not know."""
        settings = dict(self.settings) | ({"fuse": True} if self.fuse else {})
        known = PRESETS[self.planner].planner if self.planner in PRESETS else PLANNERS[self.planner]
        return build_planner(adjusted(known, self.planner, evaluations=self.evaluations, **settings))

    def _check_policy(self) -> None:
        given = [key for key in self.settings if key != "noise"]
        given += [key for key in ("evaluations", "timeout_ms") if getattr(self, key) is not None]
        given += ["proposals"] if self.proposals else []
        if given:
            raise ConfigError(
                f"planner {self.planner}: found {', '.join(given)}, expected no settings of a search: it is a policy, "
                "which has noise"
            )
        noise = self.settings.get("noise", 1.0)
        if isinstance(noise, bool) or not isinstance(noise, int | float):
            raise ConfigError(f"planner {self.planner}.noise: found {noise!r}, expected a number")
        checked_noise(f"planner {self.planner}", noise)

    @property
    def steps(self) -> tuple[int, int]:
        """Model steps imagined by a plan, and executed before the next one."""
        preset = PRESETS.get(self.planner)
        horizon, execute = (HORIZON, EXECUTE) if preset is None else (preset.horizon, preset.execute)
        return horizon if self.horizon is None else self.horizon, execute if self.execute is None else self.execute

    @property
    def warm(self) -> bool:
        """Whether a plan begins with what is left of the last one."""
        preset = PRESETS.get(self.planner)
        return self.warm_start if self.warm_start is not None else preset is None or preset.warm_start

    def resolved(self, model: Any) -> "Control":
        """With what `auto` and None mean for a model and a published planner.

        Raises ConfigError for a cost that the model has not learned.
        """
        learned, preset = getattr(model, "distance", None) is not None, PRESETS.get(self.planner)
        if self.cost == "temporal" and not learned:
            raise ConfigError("cost temporal: this model has no temporal distance, expected one of l2, l1, cosine")
        cost, reduce = self.cost, self.reduce
        if cost == "auto":
            cost = preset.cost.metric if preset is not None else "temporal" if learned else "l2"
        if reduce == "auto":
            reduce = "sum" if cost == "temporal" else "last" if preset is None else preset.cost.reduce
        horizon, execute = self.steps
        return replace(self, cost=cost, reduce=reduce, horizon=horizon, execute=execute, warm_start=self.warm)

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return asdict(self)


def parse_control(words: str, base: Control | None = None) -> Control:
    """A control from `PLANNER[:key=value,...]`, such as `cem:evaluations=192,proposals=8` or `inverse`.

    Keys are fields of `Control`, or settings of the planner; what is left out is as in `base`.

    Raises: ConfigError for a key or value that is not known.
    """
    name, _, rest = words.partition(":")
    base = base or Control()
    known = {item.name: _kind(item.type) for item in fields(Control) if item.name not in ("planner", "settings")}
    chosen: dict[str, Any] = {}
    settings = dict(base.settings) if name == base.planner else {}
    for item in filter(None, rest.split(",")):
        key, sign, value = item.partition("=")
        if not sign:
            raise ConfigError(f"planner {words!r}: found {item!r}, expected key=value")
        (chosen if key in known else settings)[key] = _number(value)
    for key, found in chosen.items():
        if known[key] is float and type(found) is int:
            chosen[key] = float(found)
        elif type(found) is not known[key]:
            raise ConfigError(f"planner {words!r}, {key}: found {found!r}, expected {known[key].__name__}")
    return replace(base, planner=name, settings=settings, **chosen)


def _check_name(name: str) -> None:
    """Raise ConfigError unless a planner, a published one or a policy has this name."""
    if name not in (known := [*PLANNERS, *PRESETS, *POLICIES]):
        raise ConfigError(
            f"planner: found {name!r}{nearest(name, known)}; known: {', '.join(PLANNERS)}; "
            f"published: {', '.join(PRESETS)}; policies: {', '.join(POLICIES)}"
        )


def _kind(annotation: Any) -> type:
    """The type that is wanted where there may be none."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    found: type = kinds[0] if kinds else annotation
    return found


def _number(word: str) -> Any:
    """true, false, an integer, a decimal, or the word itself."""
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def make_cost(control: Control, model: Any) -> Cost:
    """The cost of a control in a model."""
    control = control.resolved(model)
    if control.cost != "temporal":
        return LatentCost(control.cost, control.reduce)
    reach = float(model.distance.reach) if control.reach else None
    return TemporalCost(model.temporal_distance, control.reduce, reach=reach)


def latent_agent(
    control: Control,
    model: LatentPlanningModel,
    codec: ActionCodec,
    goal_frames: Tensor,
    *,
    seed: int,
    history: int,
    budget: int,
    device: torch.device | None = None,
    first: int = 0,
) -> LatentAgent | PolicyAgent:
    """The agent of a resolved control for tasks of one task seed, from number `first` on, whose goals are pictures."""
    seeds = [decision_seed(seed, first + task) for task in range(len(goal_frames))]
    if control.planner in POLICIES:
        return PolicyAgent(model, codec, make_policy(control, model), goal_frames, seeds=seeds, history=history)
    horizon, execute = control.steps
    mpc = MPC(
        control.make_planner(),
        model,
        make_cost(control, model),
        horizon=horizon,
        execute=execute,
        seeds=seeds,
        warm_start=control.warm,
        proposals=make_proposals(control, model),
        device=device,
    )
    return LatentAgent(model, codec, mpc, goal_frames, history=history, budget=budget, timeout_ms=control.timeout_ms)


def make_proposals(control: Control, model: Any) -> InverseProposals | None:
    """The inverse head's proposals, where the control has some. Raises ConfigError for a model without the head."""
    return InverseProposals(_with_goals(model), control.proposals) if control.proposals else None


def world_codec(model: Any, world: World) -> ActionCodec:
    """The codec of a model whose raw actions are the world's. Raises ConfigError for any other."""
    codec: ActionCodec | None = model.codec
    if codec is None or codec.names != world.action_names:
        found = "no codec" if codec is None else f"actions {', '.join(codec.names)}"
        raise ConfigError(
            f"planning: found a model with {found}, expected the raw actions of {world.name}: "
            f"{', '.join(world.action_names)}"
        )
    return codec


def make_policy(control: Control, model: Any) -> Policy:
    """The policy of a control. Raises ConfigError for a model without what it needs."""
    if control.planner == "inverse":
        return InversePolicy(_with_goals(model), **control.settings)
    if getattr(model, "subgoal", None) is None:
        raise ConfigError("planner subgoal: this model imagines no sub-goals (model.subgoal)")
    return SubgoalPolicy(model, **control.settings)


def _with_goals(model: Any) -> Any:
    if getattr(model, "goal_inverse", None) is None:
        raise ConfigError(
            "this model has no goal-conditioned inverse head (model.goal_inverse): it can neither act nor propose"
        )
    return model


def oracle_agent(
    control: Control,
    world: World,
    codec: ActionCodec,
    tasks: Tasks,
    *,
    seed: int,
    budget: int,
    device: torch.device | None = None,
) -> Agent:
    """The same planner, budget and horizon in the true simulator, with what the control's cost is at best: the shortest
    way that is left for the temporal distance, the distance as the crow flies for latent ones."""
    model = OracleModel(codec, world)
    horizon, execute = control.steps
    mpc = MPC(
        control.make_planner(),
        model,
        ShortestPathCost(world, tasks.layout) if control.cost == "temporal" else StraightLineCost(world),
        horizon=horizon,
        execute=execute,
        seeds=[decision_seed(seed, task) for task in range(len(tasks))],
        warm_start=control.warm,
        device=device,
    )
    return OracleAgent(model, mpc, tasks.goal, tasks.layout, budget=budget)
