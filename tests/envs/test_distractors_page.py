"""The page on distractors runs, and knows every key."""

import re
from dataclasses import fields
from pathlib import Path

from jepa_actions.envs import Distractors

PAGE = Path(__file__).parents[2] / "docs" / "distractors.md"


def test_the_page_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    space: dict[str, object] = {"__name__": "distractors_page"}
    exec(compile(block, str(PAGE), "exec"), space)
    assert tuple(space["video"].shape) == (2, 21, 3, 64, 64)  # type: ignore[attr-defined]


def test_the_page_names_every_key_and_no_other() -> None:
    table = PAGE.read_text().split("| key | meaning |")[1].split("\n\n")[0]
    named = {word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {field.name for field in fields(Distractors)}
