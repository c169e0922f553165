"""The front matter of a model folder's `README.md`, looked at without building what it stands for."""

import os
from pathlib import Path

from jepa_actions.errors import CheckpointError
from jepa_actions.hub.files import CARD, read_bytes

MAX_CARD = 4 << 20  # bytes
MAX_FRONT_MATTER = 256 << 10
_DEPTH = 32


def check_card(folder: Path) -> None:
    """Raise CheckpointError for a card that a reader of YAML should not be given.

    That is front matter which is no YAML, of more than 256 KiB or 32 levels, with anchors (from which ten lines make
    a billion) or with tags (which ask for objects of Python). A folder without card or front matter is fine.
    """
    if not os.path.lexists(folder / CARD):
        return
    path = folder / CARD
    try:
        text = read_bytes(folder, CARD, MAX_CARD).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise CheckpointError(f"{path}: front matter begins with '---' and never ends")
    front = "\n".join(lines[1:end])
    if len(front) > MAX_FRONT_MATTER:
        raise CheckpointError(f"{path}: front matter of {len(front)} characters, expected at most {MAX_FRONT_MATTER}")
    _check_events(front, path)


def _check_events(front: str, path: Path) -> None:
    import yaml

    depth = 0
    try:
        for event in yaml.parse(front, Loader=yaml.SafeLoader):  # a stream of events: nothing is built
            where = f"{path}: front matter, line {event.start_mark.line + 2 if event.start_mark else 1}"
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise CheckpointError(f"{where}: an anchor or alias, expected none in a card")
            tag = getattr(event, "tag", None)
            if (tag and not tag.startswith("tag:yaml.org,2002:")) or (tag and ":python" in tag):
                raise CheckpointError(f"{where}: the tag {tag!r:.60}, expected none in a card")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH:
                raise CheckpointError(f"{where}: more than {_DEPTH} levels deep")
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: front matter is not YAML ({' '.join(str(error).split()):.120})") from error
