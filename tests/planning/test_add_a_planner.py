import re
from pathlib import Path


def test_the_page_runs():
    page = Path(__file__).parents[2] / "docs" / "add_a_planner.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    exec(compile(block, str(page), "exec"), {"__name__": "add_a_planner"})
