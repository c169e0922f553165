import re
from dataclasses import replace
from pathlib import Path

from tiny_world import tiny_recipe

from jepa_actions.training import health as rules
from jepa_actions.training import train
from jepa_actions.training.metric_log import append_row

PAGE = Path(__file__).parents[2] / "docs" / "watch.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(replace(tiny_recipe(Path("runs"), steps=2, checkpoint_every=0), name="two_room"), quiet=True)
    append_row(Path("runs/two_room/events.jsonl"), {"step": 2, "event": "collapse", "what": "all one", "try": "less"})
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {"__name__": "watch_page"})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"two_room: finished, step 2 of 2, loss [\d.]+", printed[0])
    assert printed[1] == "step 2: collapse, all one; less"


def test_the_figures_of_the_page_are_those_of_the_rules():
    text = PAGE.read_text()
    assert f"below {rules.LOW_RANK}" in text
    assert f"less than {rules.FLAT:.1%}".replace("%", " %") in text
    assert f"running median ({rules.MEMORY} rows) by {rules.LOSS_RISE} times" in text
    assert f"norm is {rules.NORM_RISE:.0f} times its median" in text
    assert f"more than {rules.STARVED:.0%}".replace("%", " %") in text
    assert (rules.LOW_RANK_SHARE, rules.FLAT_SHARE, rules.LOSS_LOST, rules.HEALED) == (0.1, 0.1, 0.5, 3)
    assert rules.PATIENCE == {"collapse": 2, "divergence": 1, "starvation": 2}
