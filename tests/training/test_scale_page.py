"""The page about several processes and large models: its code runs, and its table is what the code computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jepa_actions.training import OptimConfig, TrainConfig
from jepa_actions.training.module import OBJECTIVES
from jepa_actions.training.processes import MEANS_OVER_CLIPS, WHOLE

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
TEXT = PAGE.read_text()
MEMORY, DAYS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_memory_report_runs(capsys):
    exec(compile(MEMORY, str(PAGE), "exec"), {"__name__": "scale"})
    assert re.search(r"memory .* MiB: weights .* \(cpu\)", capsys.readouterr().out)


def test_the_table_is_what_is_computed(capsys):
    exec(compile(DAYS, str(PAGE), "exec"), {"__name__": "scale"})
    computed = re.findall(r"(\d+) x (\w+) .*?, ([\d.]+) GiB with (\d+) clips .*?([\d.]+) days", capsys.readouterr().out)
    written = re.findall(r"\| (\d+) (\w+).*?\| (\d+) \(.*?\| ([\d.]+) GiB \| ([\d.]+) \|", TEXT)
    assert len(computed) == len(written) == 4
    assert sorted((n, gpu, clips, days) for n, gpu, _, clips, days in computed) == sorted(
        (n, gpu, clips, days) for n, gpu, clips, _, days in written
    )
    found = sorted((n, gpu, clips, float(gib)) for n, gpu, gib, clips, _ in computed)
    for (*_, gib), (*_, said) in zip(found, sorted((n, g, c, float(m)) for n, g, c, m, _ in written), strict=True):
        assert said == pytest.approx(gib, rel=0.05)


def test_the_files_and_keys_it_names_exist():
    for name in re.findall(r"(?:recipes/launch|eval)/[\w.]+", TEXT):
        if name != "eval/results":
            assert (PAGE.parents[1] / name).exists(), name
    for key in re.findall(r"`train\.(\w+)", TEXT):
        assert key in OptimConfig.__dataclass_fields__, key
    assert "objectives" in TrainConfig.__dataclass_fields__


def test_every_objective_is_exact_in_parts_or_has_a_reason():
    assert set(MEANS_OVER_CLIPS) | set(WHOLE) == set(OBJECTIVES)
