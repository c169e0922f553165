"""The page on where data may come from runs as it is written."""

import json
import re
from pathlib import Path

import numpy as np
from lerobot_writer import write_video

from jepa_actions.data.sources.row_labels import FIELDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data_sources.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "my_videos"
    for name, count in (("a.mp4", 14), ("b.mp4", 11)):
        write_video(folder / name, range(20, 20 + 5 * count, 5), 10, (64, 96))
    row = {"file_name": "a.mp4", "action": np.eye(14, 2).tolist(), "text": "open the drawer"}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    names = {}
    code = blocks("python")
    assert len(code) == 2
    for block in code:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "2 videos, [14, 11] frames, actions ('action_0', 'action_1')" in printed
    assert re.search(r"clips with actions: [1-7] of 8", printed)
    assert printed.count("torch.Size([4, 3, 3, 32, 48])") == 2


def test_the_lines_of_labels_are_read_as_they_are_written(tmp_path):
    from jepa_actions.data import Provenance, VideoFolder

    for name in ("a.mp4", "more/b.mp4", "more/c.mp4"):
        write_video(tmp_path / name, [20, 40, 60], 10, (32, 32))
    (tmp_path / "metadata.jsonl").write_text(blocks("json")[0])
    data = VideoFolder(tmp_path)
    assert [data.episode(i).labelled().tolist() for i in range(3)] == [[True, True], [True, False], [True, True]]
    assert data.rates[1] == 15
    assert data.episode(2).origins().tolist() == [Provenance.PSEUDO] * 2


def test_every_key_is_in_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for names in FIELDS.values() for name in names if f"`{name}`" not in text] == []
