"""The annotations a configuration may use: how they come apart, and how errors and the help name them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import draccus

Key = tuple[str, ...]

TYPE_KEY = "type"
PLAIN: dict[Any, str] = {bool: "bool", int: "int", float: "float", str: "text", Path: "path"}


def fields_of(cls: type[Any]) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """The keys of a dataclass with their resolved annotations, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: (hints[field.name], field) for field in dataclasses.fields(cls) if field.init}


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default value, or `dataclasses.MISSING`."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself alone."""
    union = get_origin(annotation) in (typing.Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)


def is_choice(annotation: Any) -> bool:
    """Whether `type:` picks the class: a direct subclass of `draccus.ChoiceRegistry`."""
    return isinstance(annotation, type) and draccus.ChoiceRegistry in annotation.__bases__


def is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def has_keys(annotation: Any) -> bool:
    """Whether the value is a mapping with keys of its own: a dataclass or a choice of dataclasses."""
    return is_choice(annotation) or (isinstance(annotation, type) and dataclasses.is_dataclass(annotation))


def type_name(annotation: Any) -> str:
    """An annotation in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if annotation is Any:
        return "anything"
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is list or (origin is tuple and args[-1] is Ellipsis):
        return f"list of {type_name(args[0])}"
    if origin is tuple:
        return f"[{', '.join(map(type_name, args))}]"
    if len(members(annotation)) > 1:
        return " or ".join(map(type_name, members(annotation)))
    if is_enum(annotation):
        return " or ".join(annotation.__members__)
    return "mapping of keys"


def found(value: Any) -> str:
    """A value in words, in one short line."""
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value))}"[:80] if value else "an empty mapping"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(str(value)) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def known_keys(annotation: Any, prefix: Key = (), above: tuple[Any, ...] = ()) -> list[str]:
    """Every dotted key below an annotation; `<name>` stands for the entries of a dictionary."""
    keys: list[str] = []
    for member in members(annotation):
        inside = (*above, member)
        if member in above:
            continue
        if get_origin(member) is dict:
            keys += known_keys(get_args(member)[1], (*prefix, "<name>"), inside)
        elif is_choice(member):
            keys.append(".".join((*prefix, TYPE_KEY)))
            keys += [k for choice in member.get_known_choices().values() for k in known_keys(choice, prefix, inside)]
        elif has_keys(member):
            for name, (inner, _) in fields_of(member).items():
                keys += known_keys(inner, (*prefix, name), inside) or [".".join((*prefix, name))]
    return list(dict.fromkeys(keys))
