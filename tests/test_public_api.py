"""`jepa_actions.__all__` is the public API; importing the package costs nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jepa_actions

REPOSITORY = Path(__file__).resolve().parent.parent
PROMISED = {"WorldModel", "InverseHead", "load_dataset", "plan"}
README_BLOCKS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("name", jepa_actions.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(jepa_actions, name)
    assert callable(thing)
    assert thing.__doc__
    assert thing.__module__.startswith(jepa_actions._HOMES[name])
    space: dict[str, object] = {}
    exec(f"from jepa_actions import {name}", space)
    assert space[name] is thing


def test_the_promised_names_are_public():
    assert set(jepa_actions.__all__) >= PROMISED
    assert set(jepa_actions.__all__) == set(jepa_actions._HOMES)
    assert re.fullmatch(r"\d+\.\d+\.\d+", jepa_actions.__version__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'jepa_actions' has no attribute 'WorldModle'"):
        _ = jepa_actions.WorldModle
    with pytest.raises(ImportError):
        exec("from jepa_actions import WorldModle")


def run(script: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_or_the_command_imports_nothing_heavy():
    script = """
import json, sys
import jepa_actions, jepa_actions.cli
alone = [name for name in ("torch", "numpy", "av", "datasets", "matplotlib", "transformers") if name in sys.modules]
from jepa_actions import *
both = [name for name in ("av", "datasets", "matplotlib", "transformers") if name in sys.modules]
print(json.dumps([alone, both]))
"""
    assert json.loads(run(script, REPOSITORY)) == [[], []]


def test_the_readme_has_its_example():
    assert README_BLOCKS
    assert all(compile(block, "README.md", "exec") for block in README_BLOCKS)


@pytest.mark.skipif(not (REPOSITORY / "checkpoints/two_room").is_dir(), reason="no released checkpoint in this tree")
def test_the_readme_s_example_runs():
    printed = run(README_BLOCKS[0], REPOSITORY)
    rows = json.loads(printed)
    assert rows
    assert all(len(row) == 2 for row in rows)
