"""Recipes and protocols by name, from a checkout of the repository or from an installed wheel.

In the repository they lie at the top (`recipes/`, `eval/protocols/`); the wheel carries them as `jepa_actions/_recipes`
and `jepa_actions/_protocols`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from jepa_actions.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def _folder(in_checkout: str, in_wheel: str) -> Path:
    checkout = _PACKAGE.parent
    return checkout / in_checkout if (checkout / "pyproject.toml").is_file() else _PACKAGE / in_wheel


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")))


def _find(kind: str, folder: Path, name: str) -> Path:
    known = _names(folder)
    bare = name.removesuffix(".yaml")
    if bare in known:
        return folder / f"{bare}.yaml"
    near = difflib.get_close_matches(bare, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"no {kind} named {name!r}; {hint}known: {', '.join(known) or 'none'}")


def recipe_names() -> tuple[str, ...]:
    """The names that `recipe_path` accepts, sorted, such as `vjepa/two_room`."""
    return _names(_folder("recipes", "_recipes"))


def protocol_names() -> tuple[str, ...]:
    """The names that `protocol_path` accepts, sorted, such as `two_room/offset25`."""
    return _names(_folder("eval/protocols", "_protocols"))


def recipe_path(name: str) -> Path:
    """The YAML file of a recipe.

    Args:
        name: path below `recipes/`, with or without `.yaml`.

    Raises:
        ConfigError: there is no such recipe; the message lists the known names.
    """
    return _find("recipe", _folder("recipes", "_recipes"), name)


def protocol_path(name: str) -> Path:
    """The YAML file of an evaluation protocol.

    Args:
        name: path below `eval/protocols/`, with or without `.yaml`.

    Raises:
        ConfigError: there is no such protocol; the message lists the known names.
    """
    return _find("protocol", _folder("eval/protocols", "_protocols"), name)


def train_script() -> Path:
    """`recipes/train.py`, for `accelerate launch`.

    Raises:
        ConfigError: the installation does not carry it.
    """
    path = _folder("recipes", "_recipes") / "train.py"
    if not path.is_file():
        raise ConfigError(f"{path}: the training script is missing from this installation")
    return path


def result_path(name: str) -> Path:
    """A committed result that the package shows, such as `two_room_terms.json`.

    Raises:
        ConfigError: the installation does not carry it.
    """
    path = _folder("eval/results", "_results") / name
    if not path.is_file():
        raise ConfigError(f"{path}: this result is missing from this installation")
    return path
