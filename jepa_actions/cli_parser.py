"""Options of one command of `jepa-actions`."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from jepa_actions.config import load_config
from jepa_actions.errors import ConfigError

if TYPE_CHECKING:
    from jepa_actions.envs.two_room_distractors import Distractors


class Parser(argparse.ArgumentParser):
    """Options of one command; a mistake is one line, as everywhere, not a page of usage."""

    def __init__(self, prog: str, description: str | None = None, *, add_help: bool = True) -> None:
        super().__init__(prog=prog, allow_abbrev=False, description=description, add_help=add_help)

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split()
        near = difflib.get_close_matches(unknown[0], known, 1) if message.startswith("unrecognized") else []
        raise ConfigError(f"{self.prog}: {message}{f', did you mean {near[0]}?' if near else ''}")


def take_distractors(argv: Sequence[str]) -> tuple[list[str], "Distractors | None"]:
    """Remove `--env.KEY VALUE` and `--env.KEY=VALUE` from the words of a command; None where there are none.

    Raises ConfigError for a key or value that `Distractors` does not have.
    """
    rest: list[str] = []
    found: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--env."):
            rest.append(word)
            continue
        found.append(word)
        if "=" not in word and words:
            found.append(words.pop(0))
    if not found:
        return rest, None
    from jepa_actions.envs.two_room_distractors import Distractors  # not before: it imports torch

    @dataclass(frozen=True)
    class Room:
        env: Distractors = field(default_factory=Distractors)

    return rest, load_config(Room, found).env
