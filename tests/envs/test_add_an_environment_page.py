"""The page that says how to add an environment runs as it is written, and its example keeps the page's own rules."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_an_environment.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks[0], str(PAGE), "exec", dont_inherit=True), names)
    assert "frames (64, 121, 3, 32, 32) actions (64, 120, 2)" in capsys.readouterr().out
    state, config = names["state"], names["config"]
    assert state.position.min() >= 0
    assert state.position.max() <= 31
    alone = names["PuckState"](state.position[5:6], state.velocity[5:6])
    assert torch.equal(names["puck_render"](alone, config)[0], names["puck_render"](state, config)[5])


def test_every_file_the_page_names_exists() -> None:
    root = PAGE.parents[1]
    for name in re.findall(r"`(envs/\w+\.py|training/\w+\.py)`", PAGE.read_text(encoding="utf-8")):
        assert (root / "jepa_actions" / name).exists(), name
