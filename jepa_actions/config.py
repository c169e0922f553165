"""Typed configuration: a dataclass, a YAML file on top of it, the command line on top of both.

    train.py --config recipe.yaml --preset gpu --optim.lr 1e-3 --objectives.masked.weight=0.5 --train.clip null

The dataclass lies next to what it configures. It may hold bool, int, float, str, Path, Literal, Enum, Any, dataclasses,
`draccus.ChoiceRegistry` bases (picked by `type:`), dict[str, X], list[X], tuple[X, ...], tuple[X, Y], `X | None` and
`X | Literal[...]`. draccus decodes; the merge is here; `config_schema` makes every mistake one line with place and key.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import draccus
import yaml

from jepa_actions.config_schema import COMMAND_LINE, CommandLineText, Given, Partial, Schema, nearest
from jepa_actions.config_types import Key
from jepa_actions.config_yaml import parse_yaml
from jepa_actions.errors import ConfigError

T = TypeVar("T")

_PRESETS = "presets"


def load_config(cls: type[T], argv: Sequence[str], *, prog: str = "") -> T:
    """A configuration from `--config FILE.yaml`, `--preset NAME` and `--a.b value` or `--a.b=value` options.

    Keys are dotted; dashes and underscores are equal. Values are YAML 1.2 (`null`, `[1, 2]`, `-3`); a later option
    wins. A mapping for a dataclass changes its default key by key; a dictionary in the file replaces its default, an
    option below it changes one entry, and null removes one (`--objectives.masked null`). `presets: {gpu: {...}}` in the
    file holds sections that `--preset gpu` merges before the options. `--help` prints every key and exits.

    Args:
        cls: the dataclass to fill.
        argv: the options, without the program's name.
        prog: the command as the help shows it; the running script by default.

    Raises:
        ConfigError: one line that names the file or the command line, the key, what was found and what was expected.
    """
    if any(token in ("--help", "-h") for token in argv):
        _print_help(cls, prog or Path(sys.argv[0]).name)
    schema = Schema(cls)
    options = _options(argv)
    file, preset = _reserved(options, schema, "config"), _reserved(options, schema, "preset")
    mapping = read_yaml(file) if file is not None else {}
    place = COMMAND_LINE if file is None else file
    if _PRESETS not in schema.fields:
        presets = mapping.pop(_PRESETS, None)
        if preset is not None:
            _merge(mapping, _preset(presets, preset, place))
    overridden = [_override(mapping, key, value) for key, value in options]
    return schema.decode(Given(mapping, place, tuple(overridden)))


def decode_config(cls: type[T], mapping: Mapping[str, Any], place: str | Path) -> T:
    """A configuration from a mapping that was read elsewhere, checked as `load_config` checks a file.

    Args:
        place: what an error names as the source, usually the file.

    Raises:
        ConfigError: as `load_config`.
    """
    return Schema(cls).decode(Given(dict(mapping), str(place), ()))


def dump_config(config: Any) -> dict[str, Any]:
    """The configuration as plain values for JSON or YAML; `decode_config` reads it back to an equal instance."""
    encoded: dict[str, Any] = draccus.encode(config)
    return encoded


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file, empty for an empty file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, holds a key twice, or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(value).__name__}")
    return value


def _options(argv: Sequence[str]) -> list[tuple[str, CommandLineText]]:
    """Pairs of key and value; a value may begin with one minus."""
    options: list[tuple[str, CommandLineText]] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if not token.startswith("--") or token == "--":
            raise ConfigError(f"{COMMAND_LINE}: found {token!r}, expected --key value")
        key, equals, value = token[2:].partition("=")
        if not equals:
            if not tokens or (tokens[0].startswith("--") and len(tokens[0]) > 2):
                raise ConfigError(f"{COMMAND_LINE}: --{key} needs a value (--{key} true for a switch)")
            value = tokens.pop(0)
        if not all(key.split(".")):
            raise ConfigError(f"{COMMAND_LINE}: --{key} is not a dotted key")
        options.append((key, CommandLineText(value)))
    return options


def _reserved(options: list[tuple[str, CommandLineText]], schema: Schema[Any], name: str) -> str | None:
    """Takes `--config` or `--preset` out of the options, unless the dataclass has a key of that name."""
    if name in schema.fields:
        return None
    found = [str(value) for key, value in options if key == name]
    if len(found) > 1:
        raise ConfigError(f"{COMMAND_LINE}: --{name} is given {len(found)} times, expected once")
    options[:] = [(key, value) for key, value in options if key != name]
    return found[0] if found else None


def _preset(presets: Any, name: str, place: str) -> dict[str, Any]:
    known = presets if isinstance(presets, dict) else {}
    section = known.get(name, {}) if name in known else None
    if section is None:
        raise ConfigError(
            f"{place}: no preset {name!r}{nearest(name, known)}; known: {', '.join(map(str, known)) or 'none'}"
        )
    if not isinstance(section, dict):
        raise ConfigError(f"{place}: {_PRESETS}.{name}: expected a mapping of keys, found {type(section).__name__}")
    return section


def _spelling(mapping: Mapping[Any, Any], part: str) -> str:
    """The key of the mapping that equals `part` up to dashes and underscores, else `part` itself."""
    same = [key for key in mapping if isinstance(key, str) and key.replace("-", "_") == part.replace("-", "_")]
    return same[0] if same else part


def _merge(base: dict[str, Any], above: Mapping[str, Any]) -> None:
    for raw_key, value in above.items():
        key = _spelling(base, raw_key) if isinstance(raw_key, str) else raw_key
        below = base.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            base[key] = below = dict(below)  # a YAML alias may share it with another key
            _merge(below, value)
        else:
            base[key] = value


def _override(mapping: dict[str, Any], dotted: str, value: CommandLineText) -> Key:
    """Sets one key in place and returns its path."""
    path: Key = ()
    node = mapping
    parts = dotted.split(".")
    for part in parts[:-1]:
        key = _spelling(node, part)
        path = (*path, key)
        child = node.get(key)
        if isinstance(child, CommandLineText):
            child = child.parsed(path)
        if child is None:
            child = {} if key in node else Partial()
        if not isinstance(child, dict):
            raise ConfigError(f"{COMMAND_LINE}: --{dotted}: {'.'.join(path)} is {child!r}, not a mapping of keys")
        node[key] = node = type(child)(child)  # a copy: a YAML alias may share it with another key
    last = _spelling(node, parts[-1])
    node[last] = value
    return (*path, last)


def _print_help(cls: type[Any], prog: str) -> NoReturn:
    from jepa_actions.config_help import help_text

    print(help_text(cls, prog))
    raise SystemExit(0)
