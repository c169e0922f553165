"""What a model card takes from evaluation reports, checked: a number without its floors and its origin is an error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import Control

Numbers = dict[str, float]
SUCCESS, END, MILLISECONDS = "success_rate", "success_rate_end", "ms_per_decision_p50"
# Which command makes a report on data, by a number that it alone has.
MADE_BY = {
    "r2_mean": "inverse",
    "rmse_px_mean": "probe",
    "latent_error": "rollout",
    "spearman": "distance",
    "effective_rank_of_targets": "masked",
}


@dataclass(frozen=True)
class Score:
    """One number of a model: by a way to decide, or of a metric."""

    label: str  # PLANNER[:key=value,...], or the metric's name
    metric: str
    value: float
    interval: tuple[float, float] | None  # 95 %
    floors: Numbers  # of the same metric
    beside: Numbers  # more numbers of the same way to decide


@dataclass(frozen=True)
class Scored:
    """One report, checked."""

    file: str
    subject: str  # the protocol's name, or the data
    protocol_hash: str | None  # none on data
    version: int | None  # of the protocol
    scores: tuple[Score, ...]
    floors: dict[str, Numbers]
    oracle: Numbers | None
    episodes: int
    seeds: int
    commit: str
    hardware: str
    command: str | None  # which of `eval/*.py` makes it; none where that is not known
    controls: tuple[str, ...]  # in words, for that command

    @property
    def setting(self) -> tuple[Any, ...]:
        """Scores of reports that share it stand in one table."""
        floors = {name: numbers.get(SUCCESS) for name, numbers in self.floors.items()}
        return (self.subject, self.protocol_hash, self.episodes, self.seeds, self.commit, str(floors))


class Fields:
    """Values of a report by their keys; one that is missing or of another kind is named in the error."""

    def __init__(self, file: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{file}: found {type(values).__name__}, expected the object of a report")
        self.file, self._values = file, values

    def wrong(self, *keys: str, expected: str) -> ConfigError:
        """The error for a field."""
        found = self._get(keys)
        shown = "none" if found is None else " ".join(repr(found).split())[:60]
        return ConfigError(f"{self.file}: {'.'.join(keys)}: found {shown}, expected {expected}")

    def has(self, *keys: str) -> bool:
        """Whether there is something else than null."""
        return self._get(keys) is not None

    def text(self, *keys: str) -> str:
        """Words."""
        found = self._get(keys)
        if not isinstance(found, str) or not found.strip():
            raise self.wrong(*keys, expected="text")
        return found

    def count(self, *keys: str) -> int:
        """An integer of at least 1."""
        found = self._get(keys)
        if type(found) is not int or found < 1:
            raise self.wrong(*keys, expected="an integer of at least 1")
        return found

    def number(self, *keys: str) -> float:
        """A finite number."""
        found = self._get(keys)
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise self.wrong(*keys, expected="a finite number")
        return float(found)

    def share(self, *keys: str) -> float:
        """A number from 0 to 1."""
        found = self.number(*keys)
        if not 0 <= found <= 1:
            raise self.wrong(*keys, expected="a share, from 0 to 1")
        return found

    def group(self, *keys: str) -> Mapping[str, Any]:
        """An object that is not empty."""
        found = self._get(keys)
        if not isinstance(found, Mapping) or not found:
            raise self.wrong(*keys, expected="an object with at least one entry")
        return found

    def interval(self, *keys: str, value: float) -> tuple[float, float]:
        """Two ends around a value."""
        found = self._get(keys)
        if isinstance(found, list | tuple) and len(found) == 2:
            low, high = self.number(*keys, "0"), self.number(*keys, "1")
            if low <= value <= high:
                return low, high
        raise self.wrong(*keys, expected=f"the two ends of an interval around {value:g}")

    def _get(self, keys: Sequence[str]) -> Any:
        found: Any = self._values
        for key in keys:
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list | tuple) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found


def read_scores(file: str, report: Any, model: Any) -> Scored:
    """A report of `eval/planning.py` (one way to decide, or several), or of an evaluation on data, checked.

    Arguments:
        file: what an error names, and the card shows.
        report: the parsed JSON.
        model: what it is of.

    Raises: ConfigError naming the file and the field: a planning report must have success with its interval, floors,
        protocol and protocol hash, tasks and seeds; one on data must have floors and say which data; all must have
        commit and hardware.
    """
    fields = Fields(file, report)
    if not fields.has("protocol") and not fields.has("data"):
        raise fields.wrong("protocol", expected="a protocol's name, with its hash; or data, for an evaluation on data")
    on_data = not fields.has("protocol")
    fields.group("metrics")
    floors = {name: _numbers(fields, "floors", name) for name in fields.group("floors")}
    found = Scored(
        file=file,
        subject=fields.text("data" if on_data else "protocol"),
        protocol_hash=None if on_data else fields.text("protocol_hash"),
        version=fields.count("protocol_version") if fields.has("protocol_version") else None,
        scores=(),
        floors=floors,
        oracle=_numbers(fields, "oracle") if fields.has("oracle") else None,
        episodes=fields.count("episodes"),
        seeds=fields.count("seeds"),
        commit=fields.text("commit"),
        hardware=_hardware(fields),
        command=_made_by(fields, on_data),
        controls=(),
    )
    return _on_data(fields, found, model) if on_data else _planning(fields, found, model)


def with_untrained(scored: Sequence[Scored], file: str, report: Any, model: Any) -> list[Scored]:
    """Reports with one more floor: the same form with fresh weights, played on the same tasks.

    Raises: ConfigError for a report of other tasks than all of `scored`, or as `read_scores`.
    """
    floor = read_scores(file, report, model)
    if len(floor.scores) != 1:
        raise ConfigError(f"{file}: control: found {len(floor.scores)} ways to decide, expected the report of one")
    same = [floor.protocol_hash == one.protocol_hash and floor.episodes == one.episodes for one in scored]
    if floor.protocol_hash is None or not any(same):
        raise ConfigError(
            f"{file}: protocol_hash: found {floor.protocol_hash}, {floor.episodes} tasks; expected those of "
            f"{', '.join(one.file for one in scored)}"
        )
    (score,) = floor.scores
    numbers = {SUCCESS: score.value, **{key: score.beside[key] for key in (END,) if key in score.beside}}
    name = f"untrained, {score.label}"
    return [
        replace(one, floors={**one.floors, name: numbers}) if matches else one
        for one, matches in zip(scored, same, strict=True)
    ]


def control_words(described: Mapping[str, Any], model: Any) -> str:
    """`PLANNER[:key=value,...]` that `parse_control` reads back to what a report of a model describes.

    Raises: TypeError, ValueError or AttributeError for a description that is none.
    """
    given = {key: value for key, value in described.items() if key != "history"}  # the model's, not the control's
    control = Control(**given)
    plain = Control(planner=control.planner).resolved(model).describe()
    changed = {key: value for key, value in control.describe().items() if key in given and value != plain[key]}
    words = [f"{key}={_word(value)}" for key, value in (control.settings | changed).items() if key != "settings"]
    return ":".join(filter(None, (control.planner, ",".join(words))))


def _planning(fields: Fields, found: Scored, model: Any) -> Scored:
    """Success of one way to decide, or of each of several."""
    floors = {name: fields.share("floors", name, SUCCESS) for name in found.floors}
    if found.oracle is not None:
        fields.share("oracle", SUCCESS)
    several = not fields.has("metrics", SUCCESS) and fields.has("controls")
    scores, controls = [], []
    for inside in [(name,) for name in fields.group("metrics")] if several else [()]:
        value = fields.share("metrics", *inside, SUCCESS)
        words = _words(fields, model, "controls", *inside) if several else _words(fields, model, "control")
        keys = [key for key in (END, MILLISECONDS) if fields.has("metrics", *inside, key)]
        beside = {key: fields.number("metrics", *inside, key) for key in keys}
        interval = fields.interval("ci95", *inside, SUCCESS, value=value)
        scores.append(Score(inside[0] if inside else words, SUCCESS, value, interval, floors, beside))
        controls.append(words)
    return replace(found, scores=tuple(scores), controls=tuple(controls))


def _made_by(fields: Fields, on_data: bool) -> str | None:
    if not on_data or fields.has("control"):
        return "planning"
    return next((name for key, name in MADE_BY.items() if fields.has("metrics", key)), None)


def _words(fields: Fields, model: Any, *keys: str) -> str:
    try:
        return control_words(fields.group(*keys), model)
    except (TypeError, ValueError, AttributeError) as error:
        raise fields.wrong(*keys, expected="a way to decide, as evaluate_planning describes it") from error


def _on_data(fields: Fields, found: Scored, model: Any) -> Scored:
    """Every metric that has a floor; of numbers by horizon the furthest."""
    metrics = _flat(fields, "metrics")
    references = {name: _flat(fields, "references", name) for name in _names(fields, "references")}
    scores = []
    for name, (keys, value) in metrics.items():
        floors = {floor: numbers[name] for floor, numbers in found.floors.items() if name in numbers}
        if not floors:
            continue
        interval = fields.interval("ci95", *keys, value=value) if fields.has("ci95", *keys) else None
        beside = {key: numbers[name][1] for key, numbers in references.items() if name in numbers}
        scores.append(Score(name, name, value, interval, floors, beside))
    if not scores:
        raise fields.wrong("floors", expected=f"the metrics of the model: {', '.join(metrics)}")
    controls = (_words(fields, model, "control"),) if fields.has("control") else ()
    return replace(found, scores=tuple(scores), controls=controls)


def _names(fields: Fields, key: str) -> list[str]:
    return list(fields.group(key)) if fields.has(key) else []


def _flat(fields: Fields, *path: str) -> dict[str, tuple[tuple[str, ...], float]]:
    """Numbers below a field by dotted name, with their keys; of those counted by a horizon, the furthest."""
    found: dict[str, tuple[tuple[str, ...], float]] = {}
    inner = fields.group(*path)
    keys = [max(inner, key=int)] if all(key.isdecimal() for key in inner) else list(inner)
    for key in keys:
        if isinstance(inner[key], Mapping):
            deeper = _flat(fields, *path, key)
            found |= {f"{key}.{name}": ((key, *keys), value) for name, (keys, value) in deeper.items()}
        else:
            found[key] = ((key,), fields.number(*path, key))
    return found


def _numbers(fields: Fields, *path: str) -> Numbers:
    return {name: value for name, (_, value) in _flat(fields, *path).items()}


def _hardware(fields: Fields) -> str:
    named = [str(fields.group("hardware").get(key, "")) for key in ("gpu", "cpu")]
    return ", ".join([*filter(None, named), f"{fields.count('hardware', 'cores')} cores"])


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
