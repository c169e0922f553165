"""How an evaluation decides, as configuration: a planner with its cost and budget, or the inverse head by itself."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

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
    Cost,
    InversePolicy,
    InverseProposals,
    LatentCost,
    Planner,
    SubgoalPolicy,
    TemporalCost,
    decision_seed,
    make_planner,
)

COSTS = ("auto", "l2", "l1", "cosine", "temporal")
POLICIES = ("inverse", "subgoal")


@dataclass(frozen=True)
class Control:
    """One way to decide.

    Arguments:
        planner: a planner's name (`planning.make_planner`); or `inverse`, the goal-conditioned inverse head by itself;
            or `subgoal`, the inverse head on an imagined next latent.
        settings: of the planner, where they are not its defaults.
        evaluations: model evaluations per decision that the planner's budget is scaled to; its default when None.
        cost: `auto` is the temporal distance where the model has one, and `l2` elsewhere.
        reduce: over the imagined steps, see `planning.cost.reduced`; `auto` is `sum` for the temporal distance, under
            which a plan may not put off arriving, and `last` for latent distances, as published.
        reach: charge imagined steps that the temporal distance finds longer than real ones; with cost temporal.
        horizon, execute: model steps imagined by a plan, and executed before the next one.
        proposals: action sequences that the inverse head proposes; 0 is none.
        fuse: start from the product of the planner's Gaussian and that of the proposals.
    """

    planner: str = "cem"
    settings: dict[str, Any] = field(default_factory=dict)
    evaluations: int | None = None
    cost: str = "auto"
    reduce: str = "auto"
    reach: bool = True
    horizon: int = 5
    execute: int = 1
    proposals: int = 0
    fuse: bool = False

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise ConfigError(f"cost: found {self.cost!r}, expected one of {', '.join(COSTS)}")
        if self.fuse and not self.proposals:
            raise ConfigError("fuse: found true and no proposals, expected at least one")
        if self.planner not in POLICIES:
            self.make_planner()  # a wrong name or setting is an error now
        elif self.settings or self.evaluations is not None or self.proposals:
            given = [*self.settings, *(["evaluations"] if self.evaluations is not None else [])]
            raise ConfigError(
                f"planner {self.planner}: found {', '.join(given) or 'proposals'}, expected no settings of a search: "
                "it is a policy"
            )

    def make_planner(self) -> Planner:
        """The planner with its settings. Raises ConfigError for a name or setting that it does not know."""
        settings = dict(self.settings) | ({"fuse": True} if self.fuse else {})
        return make_planner(self.planner, evaluations=self.evaluations, **settings)

    def resolved(self, model: Any) -> "Control":
        """With the cost and reduction that `auto` means for a model.

        Raises ConfigError for a cost that it has not learned.
        """
        learned = getattr(model, "distance", None) is not None
        if self.cost == "temporal" and not learned:
            raise ConfigError("cost temporal: this model has no temporal distance, expected one of l2, l1, cosine")
        cost = self.cost if self.cost != "auto" else "temporal" if learned else "l2"
        reduce = self.reduce if self.reduce != "auto" else "sum" if cost == "temporal" else "last"
        return replace(self, cost=cost, reduce=reduce)

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
    known = {item.name: item for item in fields(Control) if item.name not in ("planner", "settings")}
    chosen: dict[str, Any] = {}
    settings = dict(base.settings) if name == base.planner else {}
    for item in filter(None, rest.split(",")):
        key, sign, value = item.partition("=")
        if not sign:
            raise ConfigError(f"planner {words!r}: found {item!r}, expected key=value")
        (chosen if key in known else settings)[key] = _number(value)
    for key, value in chosen.items():
        wanted = type(getattr(Control(), key)) if key != "evaluations" else int
        if type(value) is not wanted:
            raise ConfigError(f"planner {words!r}, {key}: found {value!r}, expected {wanted.__name__}")
    return replace(base, planner=name, settings=settings, **chosen)


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
) -> LatentAgent | PolicyAgent:
    """The agent of a control for the tasks of one task seed, whose goals are pictures."""
    if control.planner in POLICIES:
        return PolicyAgent(model, codec, make_policy(control.planner, model), goal_frames, history=history)
    mpc = MPC(
        control.make_planner(),
        model,
        make_cost(control, model),
        horizon=control.horizon,
        execute=control.execute,
        seeds=[decision_seed(seed, task) for task in range(len(goal_frames))],
        proposals=make_proposals(control, model),
        device=device,
    )
    return LatentAgent(model, codec, mpc, goal_frames, history=history, budget=budget)


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


def make_policy(name: str, model: Any) -> Callable[[Any, Any], Tensor]:
    """A policy by name. Raises ConfigError for a model without what it needs."""
    if name == "inverse":
        return InversePolicy(_with_goals(model))
    if getattr(model, "subgoal", None) is None:
        raise ConfigError("planner subgoal: this model imagines no sub-goals (model.subgoal)")
    return SubgoalPolicy(model)


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
    mpc = MPC(
        control.make_planner(),
        model,
        ShortestPathCost(world, tasks.layout) if control.cost == "temporal" else StraightLineCost(world),
        horizon=control.horizon,
        execute=control.execute,
        seeds=[decision_seed(seed, task) for task in range(len(tasks))],
        device=device,
    )
    return OracleAgent(model, mpc, tasks.goal, tasks.layout, budget=budget)
