"""A planning protocol is a versioned object: what the tasks are, how long they may take, and when one is solved."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from jepa_actions.errors import ConfigError

SAMPLERS = ("offset", "cross_room")
LAYOUTS = ("train", "heldout", "all")


@dataclass(frozen=True)
class BehaviourSettings:
    """Behaviour episodes that offset tasks are cut from."""

    steps: int = 120  # environment steps per episode
    crossing_rate: float = 0.35  # share of episodes steered through the door
    episodes_per_layout: int = 1


@dataclass(frozen=True)
class PlanningProtocol:
    """Everything that decides the tasks and the score, and nothing that a planner may choose."""

    name: str
    version: int
    env: str
    sampler: str  # "offset": the goal is a later state of the same behaviour episode; "cross_room": the other room
    budget: int  # environment steps
    success_radius: float  # px; solved when the agent is within it of the goal, after any step ("ever") or the last
    offset: int | None = None  # environment steps from start to goal; sampler "offset" only
    layouts: str = "heldout"
    episodes: int = 100  # tasks per seed, unless the caller says otherwise
    exclude_solved: bool = True  # leave out tasks that are solved before the first step
    seed_base: int = 0  # task seed k draws from (seed_base, k), apart from any training seed
    behaviour: BehaviourSettings = field(default_factory=BehaviourSettings)

    def __post_init__(self) -> None:
        self._expect("version", self.version >= 1, "an integer of at least 1")
        self._expect("sampler", self.sampler in SAMPLERS, " or ".join(SAMPLERS))
        self._expect("layouts", self.layouts in LAYOUTS, " or ".join(LAYOUTS))
        self._expect("budget", self.budget >= 1, "at least 1 environment step")
        self._expect("episodes", self.episodes >= 1, "at least 1 task")
        self._expect("success_radius", self.success_radius > 0, "a positive number of px")
        if self.sampler == "offset":
            fits = self.offset is not None and 1 <= self.offset <= self.behaviour.steps
            self._expect("offset", fits, f"1 to {self.behaviour.steps} environment steps (behaviour.steps)")
        else:
            self._expect("offset", self.offset is None, f"none with sampler {self.sampler}")

    def _expect(self, key: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(f"protocol {self.name!r}, {key}: found {getattr(self, key)!r}, expected {expected}")

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of all fields: two reports with the same hash solved the same tasks."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_protocol(name: str | Path) -> PlanningProtocol:
    """Read a protocol from a YAML file, or by name, such as `two_room/offset25`.

    Raises: ConfigError for a file that is missing or not YAML, and for a key that is unknown, missing or mistyped.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        from jepa_actions.resources import protocol_path

        path = protocol_path(str(name))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"protocol {path}: cannot be read ({error.strerror}), expected a YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"protocol {path}: not YAML ({' '.join(str(error).split())})") from error
    return PlanningProtocol(**_checked(values, PlanningProtocol, f"protocol {path}"))


def _checked(values: Any, kind: type, place: str) -> dict[str, Any]:
    """The fields of `kind` in `values`, with types checked; nested settings are built."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: found {type(values).__name__}, expected keys and values")
    types = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{place}: found unknown key {key!r}, nearest known key is {near!r}")
    found: dict[str, Any] = {}
    for key, value in values.items():
        if types[key] is BehaviourSettings:
            found[key] = BehaviourSettings(**_checked(value, BehaviourSettings, f"{place}, {key}"))
            continue
        wanted = float | int if types[key] is float else types[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and types[key] is not bool):
            expected = getattr(types[key], "__name__", str(types[key]))
            raise ConfigError(f"{place}, {key}: found {value!r}, expected {expected}")
        found[key] = float(value) if types[key] is float else value
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in found]
    if missing:
        raise ConfigError(f"{place}: found no {', '.join(missing)}, expected every required key")
    return found
