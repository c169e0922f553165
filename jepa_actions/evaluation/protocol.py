"""A planning protocol is a versioned object: what the tasks are, how long they may take, and when one is solved."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from jepa_actions.config import decode_config
from jepa_actions.envs.two_room_distractors import Distractors
from jepa_actions.errors import ConfigError

SAMPLERS = ("offset", "stitched", "cross_room")
RULES = ("ever", "end", "held")
LAYOUTS = ("train", "heldout", "all")
FLOORS = ("random", "zero", "straight")


@dataclass(frozen=True)
class BehaviourSettings:
    """Behaviour episodes that tasks are cut from."""

    steps: int = 120  # environment steps per episode
    episodes_per_layout: int = 1
    crossing_rate: float | None = None  # two_room: share of episodes steered through the door; None is its default


@dataclass(frozen=True)
class PlanningProtocol:
    """Everything that decides the tasks and the score, and nothing that a planner may choose.

    Samplers: `offset`, the goal is a later state of the start's behaviour episode; `stitched`, start and goal are from
    different episodes of one layout; `cross_room` (two_room), start and goal in different rooms.
    Rules: solved after any step (`ever`), after the last (`end`), or after `hold` steps in a row (`held`).
    """

    name: str
    version: int
    env: str
    sampler: str
    budget: int  # environment steps
    tolerance: float | None = None  # in the unit of the world's distance; None is the world's own
    rule: str = "ever"
    hold: int = 1
    # A task counts only where no step led through a wall: the way travelled is one that the world allows.
    route_valid: bool = False
    offset: int | None = None  # environment steps from start to goal; sampler "offset" only
    layouts: str = "heldout"
    episodes: int = 100  # tasks per seed, unless the caller says otherwise
    exclude_solved: bool = True  # leave out tasks that are solved before the first step
    seed_base: int = 0  # task seed k draws from (seed_base, k), apart from any training seed
    behaviour: BehaviourSettings = field(default_factory=BehaviourSettings)
    floors: tuple[str, ...] = FLOORS
    # two_room: what is drawn beside agent and walls. The tasks stay where they are: only pictures differ.
    distractors: Distractors | None = None

    def __post_init__(self) -> None:
        self._expect("version", self.version >= 1, "an integer of at least 1")
        self._expect("sampler", self.sampler in SAMPLERS, " or ".join(SAMPLERS))
        self._expect("rule", self.rule in RULES, " or ".join(RULES))
        self._expect("hold", self.hold >= 1 and (self.hold == 1 or self.rule == "held"), "1, or more with rule held")
        self._expect("layouts", self.layouts in LAYOUTS, " or ".join(LAYOUTS))
        self._expect("budget", self.budget >= 1, "at least 1 environment step")
        self._expect("episodes", self.episodes >= 1, "at least 1 task")
        self._expect("tolerance", self.tolerance is None or self.tolerance > 0, "a positive number")
        self._expect("floors", set(self.floors) <= set(FLOORS), f"some of {', '.join(FLOORS)}")
        if self.sampler == "offset":
            fits = self.offset is not None and 1 <= self.offset <= self.behaviour.steps
            self._expect("offset", fits, f"1 to {self.behaviour.steps} environment steps (behaviour.steps)")
        else:
            self._expect("offset", self.offset is None, f"none with sampler {self.sampler}")
        if self.sampler == "stitched" and self.behaviour.episodes_per_layout < 2:
            raise ConfigError(
                f"protocol {self.name!r}, behaviour.episodes_per_layout: found {self.behaviour.episodes_per_layout}, "
                "expected at least 2 with sampler stitched"
            )

    def _expect(self, key: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(f"protocol {self.name!r}, {key}: found {getattr(self, key)!r}, expected {expected}")

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of all fields: two reports with the same hash solved the same tasks."""
        values = asdict(self)
        if self.distractors is None:
            del values["distractors"]  # the plain room's protocols are older than distractors, and keep their hashes
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_protocol(name: str | Path) -> PlanningProtocol:
    """Read a protocol from a YAML file, or by name, such as `two_room/offset25`.

    A file may pin the `hash` that it was published with: editing it without a new one is then an error.

    Raises: ConfigError for a file that is missing or not YAML, for a key that is unknown, missing or mistyped, and for
        a pinned hash that is not the file's.
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
    pinned = values.pop("hash", None) if isinstance(values, dict) else None
    protocol = PlanningProtocol(**_checked(values, PlanningProtocol, f"protocol {path}"))
    if pinned is not None and pinned != protocol.hash:
        raise ConfigError(
            f"protocol {path}, hash: found {pinned!r}, expected {protocol.hash!r}: the file was changed since it was "
            "published. Give it another name or version, and that hash"
        )
    return protocol


def _checked(values: Any, kind: type, place: str) -> dict[str, Any]:
    """The fields of `kind` in `values`, with types checked; nested settings are built."""
    values = _keys(values, place)
    types = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{place}: found unknown key {key!r}, nearest known key is {near!r}")
    found = {key: _value(value, types[key], f"{place}, {key}") for key, value in values.items()}
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in found]
    if missing:
        raise ConfigError(f"{place}: found no {', '.join(missing)}, expected every required key")
    return found


def _keys(values: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: found {type(values).__name__}, expected keys and values")
    return values


def _value(value: Any, kind: Any, place: str) -> Any:
    if kind is BehaviourSettings:
        return BehaviourSettings(**_checked(value, BehaviourSettings, place))
    if kind == Distractors | None:
        return None if value is None else decode_config(Distractors, _keys(value, place), place)
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{place}: found {value!r}, expected a list of names")
        return tuple(value)
    decimal = kind in (float, float | None)
    wanted = float | int if decimal else kind
    if value is None and kind in (float | None, int | None):
        return None
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{place}: found {value!r}, expected {getattr(kind, '__name__', str(kind))}")
    return float(value) if decimal else value
