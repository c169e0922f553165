"""The page about sharing runs as it is written, and its tables say what the code does."""

import re
from pathlib import Path

from tiny_world import tiny_world

from jepa_actions.hub import MAX_JSON
from jepa_actions.hub.files import MAX_PARTS
from jepa_actions.models.card_file import MAX_FRONT_MATTER
from jepa_actions.models.golden import TOLERANCE, VALUES
from jepa_actions.models.migrations import MIGRATIONS
from jepa_actions.models.saved_codec import MAX_DIMENSIONS, MAX_WIDTH
from jepa_actions.models.tensor_file import MAX_TENSORS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "share.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    tiny_world().save_pretrained("my_model")
    exec(compile(block, "share.md", "exec"), {})
    assert capsys.readouterr().out == "True {'z': 0.0, 'next': 0.0, 'inverse': 0.0}\n"
    files = set(re.findall(r"^\| `([\w.]+)` \|", PAGE, flags=re.MULTILINE))
    assert files == {path.name for path in (tmp_path / "shared").iterdir()}


def test_the_limits_are_those_of_the_code():
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE, flags=re.MULTILINE))
    assert (
        f"{MAX_JSON >> 20} MiB and {MAX_PARTS} lists and objects"
        in rows["JSON (`config.json`, index, checksums, a safetensors header)"]
    )
    assert str(MAX_TENSORS) in rows["tensors"]
    assert rows["a raw action; a model action"] == f"{MAX_DIMENSIONS} dimensions; {MAX_WIDTH} numbers"
    assert f"{MAX_FRONT_MATTER >> 10} KiB" in rows["front matter of the card"]
    assert f"the tolerance is {TOLERANCE:g}" in PAGE
    assert f"at most {VALUES} values" in PAGE


def test_the_migrations_are_those_of_the_code():
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|$", PAGE, flags=re.MULTILINE)
    assert [(int(to), name) for to, name in rows] == [(step.to, step.name) for step in MIGRATIONS]
