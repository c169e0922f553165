"""The help text of a configuration: every key with its type, its default and the comment beside it in the source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import Any, get_args, get_origin

import draccus

from jepa_actions.config_types import TYPE_KEY, default_of, fields_of, has_keys, is_choice, members, type_name

_WIDTH = 120


def help_text(cls: type[Any], prog: str) -> str:
    """All keys of `cls`, one block each, in the order of the source."""
    lines = [f"usage: {prog} [--config FILE.yaml] [--preset NAME] [--KEY VALUE ...]", ""]
    if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("):  # not the signature that dataclass writes
        lines += [inspect.cleandoc(cls.__doc__), ""]
    return "\n".join(lines + _keys(cls, "", (), None))


def _keys(cls: type[Any], prefix: str, above: tuple[Any, ...], instance: Any) -> list[str]:
    lines: list[str] = []
    comments = field_comments(cls)
    for name, (annotation, field) in fields_of(cls).items():
        default = default_of(field) if instance is None else getattr(instance, name)
        lines += _key(annotation, prefix + name, default, comments.get(name, ""), (*above, cls))
    return lines


def _key(annotation: Any, key: str, default: Any, comment: str, above: tuple[Any, ...]) -> list[str]:
    about = textwrap.wrap(comment, _WIDTH, initial_indent="        ", subsequent_indent="        ")
    for member in members(annotation):
        if get_origin(member) is dict and has_keys(get_args(member)[1]):
            lines = [f"  --{key}  mapping{_default(annotation, default, short=True)}", *about]
            return lines + _key(get_args(member)[1], f"{key}.<name>", dataclasses.MISSING, "", above)
        if has_keys(member) and member not in above:
            return _group(member, key, default, about, above, optional=len(members(annotation)) > 1)
    return [f"  --{key}  {type_name(annotation)}{_default(annotation, default)}", *about]


def _group(member: Any, key: str, default: Any, about: list[str], above: tuple[Any, ...], optional: bool) -> list[str]:
    note = f"  mapping{' or null' if optional else ''}"
    instance = default if dataclasses.is_dataclass(default) else None
    if not is_choice(member):
        lines = [f"  --{key}{note}", *about] if about or optional else []
        return lines + _keys(member, f"{key}.", above, instance)
    choices = member.get_known_choices()
    picked = f", default {member.get_choice_name(type(instance))}" if instance is not None else ""
    lines = [f"  --{key}.{TYPE_KEY}  {' or '.join(sorted(choices))}{picked}", *about]
    for name, choice in sorted(choices.items()):
        own = instance if type(instance) is choice else None
        keys = _keys(choice, f"{key}.", (*above, member), own)
        lines += [f"    with {TYPE_KEY} {name}:", *(f"  {line}" for line in keys)] if keys else []
    return lines


def _default(annotation: Any, default: Any, short: bool = False) -> str:
    if default is dataclasses.MISSING:
        return ", required" if not short else ""
    value = draccus.encode(default, annotation)
    if short:
        return f", default entries {', '.join(value)}" if value else ""
    return f", default {'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def field_comments(cls: type[Any]) -> dict[str, str]:
    """The comment of each field, inherited ones too: behind it, above it, or the text literal below it.

    A class whose source cannot be read (made at run time) has none.
    """
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            comments.update(_own_comments(base))
    return comments


def _own_comments(cls: type[Any]) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    lines = source.splitlines()
    body = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)).body
    comments: dict[str, str] = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.end_lineno is None:
            continue
        behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
        above: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("#"):
                break
            above.insert(0, line.strip().lstrip("# "))
        below = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            below = " ".join(str(following.value.value).split())
        comments[node.target.id] = behind.lstrip("# ") or " ".join(above) or below
    return comments
