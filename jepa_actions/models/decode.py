"""Configuration dataclasses from parsed JSON, strictly."""

import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from jepa_actions.errors import CheckpointError, JepaActionsError
from jepa_actions.hub.files import shown

T = TypeVar("T")


def decode(cls: type[T], data: object, where: str, *, partial: bool = False) -> T:
    """A (nested) configuration dataclass from parsed JSON, strictly: no unknown, missing or mistyped field.

    With `partial` a field that is missing takes its default, as it does in a recipe: what is decoded was written by a
    release that may not have known the field.
    """
    if not isinstance(data, dict):
        raise CheckpointError(f"{where}: expected an object, found {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    members = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in members]
    needed = [
        field.name
        for field in members
        if not partial or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
    ]
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(str(key)[:64], names, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise CheckpointError(f"{where}: unknown field {shown(key)}{hint}")
    for name in needed:
        if name not in data:
            raise CheckpointError(f"{where}: field {name!r} is missing")
    try:
        return cls(
            **{name: _value(hints[name], data[name], f"{where}.{name}", partial) for name in names if name in data}
        )
    except CheckpointError:
        raise
    except (JepaActionsError, ArithmeticError) as error:  # a check of its own may divide by a field
        raise CheckpointError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str, partial: bool) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where, partial=partial)
    if origin is typing.Literal:
        if not isinstance(value, (str, int)) or value not in typing.get_args(hint):
            raise CheckpointError(f"{where}: expected one of {typing.get_args(hint)}, found {shown(value)}")
        return value
    if origin is tuple and isinstance(value, list):
        kinds = typing.get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_value(kinds[0], item, where, partial) for item in value)
        if len(kinds) == len(value):
            return tuple(_value(kind, item, where, partial) for kind, item in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(hint)
        if value is None and type(None) in kinds:
            return None
        return _value(next(kind for kind in kinds if kind is not type(None)), value, where, partial)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise CheckpointError(f"{where}: {shown(value)} is too large for a number") from error
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise CheckpointError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {shown(value)}")
