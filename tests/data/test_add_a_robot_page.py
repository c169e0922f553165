"""The page that says how to bring one's own robot runs as it is written."""

import re
from pathlib import Path

from lerobot_writer import write_lerobot

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_a_robot.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    write_lerobot(tmp_path / "my_robot", lengths=(30, 24))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(blocks[0], str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "my_robot: 2 episodes, 54 frames at 10 fps" in printed
    assert "observation.images.wrist (8, 4, 3, 64, 96)" in printed
    assert names["batch"].actions.shape == (8, 3, 6)
    assert names["batch"].action_mask.all()
