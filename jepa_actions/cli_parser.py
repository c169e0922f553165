"""Options of one command of `jepa-actions`."""

import argparse
import difflib
from typing import NoReturn

from jepa_actions.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Options of one command; a mistake is one line, as everywhere, not a page of usage."""

    def __init__(self, prog: str, description: str | None = None) -> None:
        super().__init__(prog=prog, allow_abbrev=False, description=description)

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split()
        near = difflib.get_close_matches(unknown[0], known, 1) if message.startswith("unrecognized") else []
        raise ConfigError(f"{self.prog}: {message}{f', did you mean {near[0]}?' if near else ''}")
