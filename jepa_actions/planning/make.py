"""Planners by name, for recipes and the command line."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from jepa_actions.errors import ConfigError
from jepa_actions.planning.cem import CEM, CEMConfig
from jepa_actions.planning.cmaes import CMAES, CMAESConfig
from jepa_actions.planning.gradient import Gradient, GradientConfig
from jepa_actions.planning.hybrid import Hybrid, HybridConfig
from jepa_actions.planning.icem import ICEM, ICEMConfig
from jepa_actions.planning.mppi import CLASSICAL, MPPI, MPPIConfig
from jepa_actions.planning.problem import Plan, Problem
from jepa_actions.planning.random_shooting import RandomShooting, RandomShootingConfig

Planner = Callable[[Problem], Plan]
PlannerConfig = RandomShootingConfig | CEMConfig | ICEMConfig | MPPIConfig | GradientConfig | HybridConfig | CMAESConfig

# Name to default settings; the settings' type says which planner they are of.
PLANNERS: dict[str, PlannerConfig] = {
    "random": RandomShootingConfig(),
    "cem": CEMConfig(),
    "icem": ICEMConfig(),
    "mppi": MPPIConfig(),
    "mppi_classical": CLASSICAL,
    "gradient": GradientConfig(),
    "hybrid": HybridConfig(),
    "cmaes": CMAESConfig(),
}


def planner_config(name: str, *, evaluations: int | None = None, **settings: Any) -> PlannerConfig:
    """The settings of the planner called `name`.

    Arguments:
        evaluations: scale the budget to at most this number of rollouts per plan, after `settings`.
        settings: replace its defaults; nested ones as `sampling={...}`.

    Raises: ConfigError for an unknown name or setting, with the nearest known one, and for settings out of range.
    """
    if name not in PLANNERS:
        raise ConfigError(f"planner: found {name!r}{nearest(name, PLANNERS)}; known: {', '.join(PLANNERS)}")
    return adjusted(PLANNERS[name], name, evaluations=evaluations, **settings)


def adjusted(config: PlannerConfig, name: str, *, evaluations: int | None = None, **settings: Any) -> PlannerConfig:
    """Settings with some replaced, then scaled to a budget; arguments and errors as `planner_config`."""
    config = _replaced(config, name, settings)
    return config if evaluations is None else with_budget(config, evaluations)


def make_planner(name: str, *, evaluations: int | None = None, **settings: Any) -> Planner:
    """The planner called `name`; arguments and errors as `planner_config`."""
    return build_planner(planner_config(name, evaluations=evaluations, **settings))


def build_planner(config: PlannerConfig) -> Planner:
    """The planner that these settings are of."""
    match config:
        case RandomShootingConfig():
            return RandomShooting(config)
        case CEMConfig():
            return CEM(config)
        case ICEMConfig():
            return ICEM(config)
        case MPPIConfig():
            return MPPI(config)
        case GradientConfig():
            return Gradient(config)
        case HybridConfig():
            return Hybrid(config)
        case CMAESConfig():
            return CMAES(config)
    raise ConfigError(f"planner: found settings of type {type(config).__name__}, expected those of a planner")


def with_budget(config: PlannerConfig, evaluations: int) -> PlannerConfig:
    """The same planner at no more than `evaluations` rollouts per plan. Raises ConfigError where that is too few."""
    return config.with_budget(evaluations)


def _replaced(config: Any, place: str, settings: dict[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(config)]
    changes = {}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(
                f"planner {place}: unknown setting {key!r}{nearest(key, known)}; known: {', '.join(known)}"
            )
        nested = isinstance(value, dict) and dataclasses.is_dataclass(getattr(config, key))
        changes[key] = _replaced(getattr(config, key), f"{place}.{key}", value) if nested else value
    return dataclasses.replace(config, **changes)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an error: the known name that is most like another, or nothing."""
    near = difflib.get_close_matches(name.replace("-", "_"), list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
