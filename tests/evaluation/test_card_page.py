import re
from pathlib import Path

import pytest


def test_the_page_runs(monkeypatch: pytest.MonkeyPatch):
    page = Path(__file__).parents[2] / "docs" / "model_card.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(page.parents[1])
    space: dict[str, object] = {"__name__": "card_page"}
    exec(compile(block, str(page), "exec"), space)
    assert "It has seen one arm." in str(space["text"])
    assert "| floor `random` |" in str(space["text"])
