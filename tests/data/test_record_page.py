"""The page about recording runs as it is written."""

import re
from pathlib import Path

from jepa_actions.data.open import load_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "record.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "105 (" in capsys.readouterr().out  # the seed of the last episode
    assert len(names["dataset"]) == 6
    assert names["dataset"].episode(0).text == "go to the right room"
    assert load_dataset(tmp_path / "arm_v21").lengths().tolist() == [15, 15]
