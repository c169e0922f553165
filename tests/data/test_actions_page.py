"""The page about actions runs as it is written, and what it says of them is so."""

import re
from pathlib import Path

import torch

from jepa_actions.data.actions.pose import SUFFIXES
from jepa_actions.data.actions.rotation import WIDTH

PAGE = Path(__file__).resolve().parents[2] / "docs" / "actions.md"


def test_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    names = {}
    torch.manual_seed(0)
    exec(compile(blocks[0], str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "('x', 'y', 'z', 'rx', 'ry', 'rz', 'gripper')" in printed
    assert "18 numbers; one-hots at ((6, 3), (15, 3))" in printed
    assert "commands (5, 2, 8)" in printed
    quaternions = names["commands"][..., 3:7]
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(5, 2))


def test_every_form_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    for form, width in WIDTH.items():
        assert f"| `{form}` | {width} |" in text
    for change in SUFFIXES:
        assert f"`{change}`" in text
