import re
from pathlib import Path

import pytest


def test_the_page_runs(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mujoco", reason="Reacher needs mujoco (pip install jepa-actions[mujoco])")
    page = Path(__file__).parents[2] / "docs" / "planning.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(page.parents[1])
    space: dict[str, object] = {"__name__": "planning_page"}
    exec(compile(block, str(page), "exec"), space)
    actions, plan = space["actions"], space["plan"]
    assert tuple(actions.shape) == (2, 5, 2)
    assert plan.timed_out or plan.evaluations >= 1
