"""The page on few and inferred labels runs as it is written."""

import re
from pathlib import Path

import numpy as np
from lerobot_writer import write_lerobot

PAGE = Path(__file__).resolve().parents[2] / "docs" / "labels.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    lengths = (6, 9, 8)
    rows = np.full((sum(lengths), 2), 0.5, np.float32)
    facts = {"names": ["dx", "dy"], "info": {"provenance": "pseudo", "model": "me/head"}}
    valid = [np.ones(n) for n in lengths]
    valid[0][1:3] = 0
    write_lerobot(tmp_path / "my_robot", lengths=lengths, action_valid=valid, extra={"pseudo_action": (rows, facts)})
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "100% known; provenance [0, 1, 1, 0, 0]; inferred by me/head" in printed
    assert printed.count("True") == 1 + 4  # one episode of three, half the clips of a batch
