"""A mapping against the dataclass it should fill: unknown and missing keys, wrong types, partly given defaults.

`draccus.decode` alone takes null for an int, True for 1, splits text into the items of a tuple, resets the other keys
of a default instance when one of them is given, and hides why a constructor refused. So values are checked here first.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import draccus
import yaml

from jepa_actions.config_types import (
    PLAIN,
    TYPE_KEY,
    Key,
    default_of,
    fields_of,
    found,
    has_keys,
    is_choice,
    is_enum,
    known_keys,
    members,
    type_name,
)
from jepa_actions.config_yaml import parse_yaml
from jepa_actions.errors import ConfigError, JepaActionsError

T = TypeVar("T")

COMMAND_LINE = "command line"


class CommandLineText(str):
    """A value as it was typed; what it means depends on the annotation of its key."""

    def parsed(self, path: Key) -> Any:
        try:
            return parse_yaml(self)
        except yaml.YAMLError as error:
            raise ConfigError(f"{COMMAND_LINE}: {'.'.join(path)}: {str(self)!r} is not valid YAML: {error}") from error

    def typed(self, annotation: Any, path: Key) -> Any:
        """The YAML value, or the text as it stands where text is wanted: `--name 007`, `--scan-lag -8:8`."""
        kinds = members(annotation)
        words = [option for kind in kinds if get_origin(kind) is Literal for option in get_args(kind)]
        if str(self) in words:
            return str(self)
        if not any(kind in (str, Path) or is_enum(kind) for kind in kinds):
            return self.parsed(path)
        try:
            value = parse_yaml(self)
        except yaml.YAMLError:
            return str(self)
        return value if isinstance(value, str) or (value is None and type(None) in kinds) else str(self)


class Partial(dict[str, Any]):
    """A mapping that only options below it created: it changes the default instead of replacing it."""


@dataclass(frozen=True)
class Given:
    """A mapping with its source. `overridden` holds the paths that the command line set."""

    mapping: dict[str, Any]
    place: str
    overridden: tuple[Key, ...]

    def origin(self, path: Key) -> str:
        """The command line where an option set this key, one above it or one below it; else the file."""
        here = _underscored(path)
        keys = map(_underscored, self.overridden)
        return COMMAND_LINE if any(here[: len(key)] == key or key[: len(here)] == here for key in keys) else self.place

    def error(self, path: Key, message: str) -> ConfigError:
        where = f"{'.'.join(path)}: " if path else ""
        return ConfigError(f"{self.origin(path)}: {where}{message}")


def nearest(name: str, known: Iterable[Any]) -> str:
    """`, did you mean X?` or nothing."""
    near = difflib.get_close_matches(name.replace("-", "_"), [str(k) for k in known], n=1)
    return f", did you mean {near[0]}?" if near else ""


class Schema(Generic[T]):
    """Fills one dataclass.

    Attributes:
        fields: name to (annotation, dataclass field).
    """

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        self.fields = fields_of(cls)

    def decode(self, given: Given) -> T:
        """Checks a mapping key by key and builds the instance.

        Raises:
            ConfigError: one line with the source, the key, what was found and what was expected.
            TypeError: the dataclass uses an annotation that a configuration cannot hold (a mistake in the code).
        """
        checked = self._check(self.cls, given.mapping, (), given, None)
        decoded: T = draccus.decode(self.cls, checked)
        return decoded

    def _check(
        self, annotation: Any, value: Any, path: Key, given: Given, default: Any, wrong: ConfigError | None = None
    ) -> Any:
        """The value in the plain form that draccus decodes without loss."""
        if isinstance(value, CommandLineText):
            value = value.typed(annotation, path)
        origin, args = get_origin(annotation), get_args(annotation)
        wrong = wrong or given.error(path, f"expected {type_name(annotation)}, found {found(value)}")
        if annotation is Any:
            return _plain(value, path)
        if len(members(annotation)) > 1:
            return self._union(annotation, value, path, given, default, wrong)
        if annotation in PLAIN:
            return _scalar(annotation, value, wrong)
        if origin is Literal or is_enum(annotation):
            options = args if origin is Literal else tuple(annotation.__members__)
            if not _among(value, options):
                raise wrong
            return value
        if origin in (list, tuple):
            return self._items(annotation, value, path, given, wrong)
        if origin is not dict and not has_keys(annotation):
            raise TypeError(f"{self.cls.__name__}: {'.'.join(path)}: a configuration cannot hold {annotation}")
        if not isinstance(value, Mapping):
            raise wrong
        if origin is dict:
            return self._dict(args[1], value, path, given, default)
        if is_choice(annotation):
            return self._choice(annotation, value, path, given, default)
        return self._dataclass(annotation, value, path, given, default)

    def _union(self, annotation: Any, value: Any, path: Key, given: Given, default: Any, wrong: ConfigError) -> Any:
        kinds = members(annotation)
        literals = [option for kind in kinds if get_origin(kind) is Literal for option in get_args(kind)]
        others = [kind for kind in kinds if kind is not type(None) and get_origin(kind) is not Literal]
        if len(others) > 1:  # draccus would try them in turn and take a list for text
            raise TypeError(f"{self.cls.__name__}: {'.'.join(path)}: a configuration cannot tell apart {annotation}")
        if (value is None and type(None) in kinds) or _among(value, literals):
            return value
        if not others:
            raise wrong
        return self._check(others[0], value, path, given, default, wrong)

    def _items(self, annotation: Any, value: Any, path: Key, given: Given, wrong: ConfigError) -> list[Any]:
        args = get_args(annotation)
        if not isinstance(value, list):
            raise wrong
        if get_origin(annotation) is list or args[-1] is Ellipsis:
            kinds = [args[0]] * len(value)
        elif len(args) == len(value):
            kinds = list(args)
        else:
            raise given.error(path, f"expected {len(args)} items, found {len(value)}: {found(value)}")
        pairs = enumerate(zip(kinds, value, strict=True))
        return [self._check(kind, item, (*path, str(i)), given, None) for i, (kind, item) in pairs]

    def _dict(self, annotation: Any, value: Mapping[Any, Any], path: Key, given: Given, default: Any) -> dict[str, Any]:
        entries = default if isinstance(default, dict) else {}
        kept = entries if isinstance(value, Partial) else {}
        checked = {key: draccus.encode(entry, annotation) for key, entry in kept.items()}
        nullable = annotation is Any or type(None) in members(annotation)
        for key, entry in value.items():
            if not isinstance(key, str):
                raise given.error(path, f"expected text as the name of an entry, found {found(key)}")
            here = (*path, key)
            if isinstance(entry, CommandLineText) and not nullable and entry.typed(annotation | None, here) is None:
                entry = None
            if entry is None and not nullable:
                checked.pop(key, None)
            else:
                checked[key] = self._check(annotation, entry, here, given, entries.get(key))
        return checked

    def _choice(self, base: Any, value: Mapping[Any, Any], path: Key, given: Given, default: Any) -> dict[str, Any]:
        known: dict[str, Any] = base.get_known_choices()
        names = ", ".join(sorted(known)) or "none"
        fallback = base.default_choice_name() if default is None else base.get_choice_name(type(default))
        name = value.get(TYPE_KEY, fallback)
        here = (*path, TYPE_KEY)
        if name is None:
            raise given.error(here, f"missing, expected one of {names}")
        if not isinstance(name, str) or name not in known:
            raise given.error(here, f"unknown type {found(name)}{nearest(str(name), known)}; known: {names}")
        rest = {key: entry for key, entry in value.items() if key != TYPE_KEY}
        same = default if name == fallback else None
        checked = self._dataclass(known[name], rest, path, given, same, of_type=f" of type {name}")
        return {TYPE_KEY: str(name), **checked}

    def _dataclass(
        self, cls: type[Any], value: Mapping[Any, Any], path: Key, given: Given, default: Any, of_type: str = ""
    ) -> dict[str, Any]:
        fields = fields_of(cls)
        checked: dict[str, Any] = {}
        if default is not None:
            checked = {name: draccus.encode(getattr(default, name), kind) for name, (kind, _) in fields.items()}
        seen: dict[str, Any] = {}
        for key, entry in value.items():
            name = str(key).replace("-", "_")
            here = (*path, name)
            if name not in fields:
                raise self._unknown(cls, str(key), path, given, of_type)
            if name in seen:
                raise given.error(here, f"is given twice, as {seen[name]} and as {key}")
            seen[name] = key
            annotation, field = fields[name]
            inner = default_of(field) if default is None else getattr(default, name)
            checked[name] = self._check(annotation, entry, here, given, None if inner is dataclasses.MISSING else inner)
        for name, (annotation, field) in fields.items():
            if name not in checked and default_of(field) is dataclasses.MISSING:
                key = ".".join((*path, name))
                expected = f"expected {type_name(annotation)} in the file or as --{key}"
                raise ConfigError(f"{given.place}: missing key {key}{of_type}, {expected}")
        self._try_build(cls, checked, path, given)
        return checked

    def _unknown(self, cls: type[Any], name: str, path: Key, given: Given, of_type: str) -> ConfigError:
        prefix = "".join(f"{part}." for part in path)
        siblings = [prefix + known for known in fields_of(cls)]
        hint = nearest(prefix + name, siblings)
        if not hint:  # perhaps a right name in a wrong place
            leaves = {key.rpartition(".")[2]: key for key in reversed(known_keys(self.cls))}
            near = difflib.get_close_matches(name.replace("-", "_"), leaves, n=1)
            hint = f", did you mean {leaves[near[0]]}?" if near else f"; known: {', '.join(siblings) or 'none'}"
        return ConfigError(f"{given.origin((*path, name))}: unknown key {prefix}{name}{of_type}{hint}")

    def _try_build(self, cls: type[Any], checked: dict[str, Any], path: Key, given: Given) -> None:
        """Says what a constructor refuses while it is known which mapping it was given."""
        try:
            draccus.decode(cls, checked)
        except (draccus.ParsingError, JepaActionsError) as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise given.error(path, " ".join(str(cause).split())) from error


def _underscored(path: Key) -> Key:
    return tuple(part.replace("-", "_") for part in path)


def _among(value: Any, options: Iterable[Any]) -> bool:
    return any(value == option and type(value) is type(option) for option in options)


def _scalar(kind: Any, value: Any, wrong: ConfigError) -> Any:
    accepted: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (float, int), str: (str,), Path: (str,)}
    fits = isinstance(value, accepted[kind]) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise wrong
    return float(value) if kind is float else value


def _plain(value: Any, path: Key) -> Any:
    """A value of any type, with what was typed below it as YAML."""
    if isinstance(value, CommandLineText):
        return value.parsed(path)
    if isinstance(value, Mapping):
        return {key: _plain(entry, (*path, str(key))) for key, entry in value.items()}
    return value
