import re
from dataclasses import fields
from pathlib import Path

import pytest

from jepa_actions import objectives
from jepa_actions.training import ObjectivesConfig
from jepa_actions.training.build import NEEDS_ACTIONS
from jepa_actions.training.module import OBJECTIVES

PAGE = Path(__file__).parents[2] / "docs" / "add_an_objective.md"


def test_the_page_runs():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {"__name__": "add_an_objective"})


def test_every_term_of_a_recipe_is_in_the_table_and_has_what_every_term_has():
    """What the page says holds for the terms there are."""
    assert set(OBJECTIVES) == {field.name for field in fields(ObjectivesConfig)}
    assert set(NEEDS_ACTIONS) <= set(OBJECTIVES)
    for build in OBJECTIVES.values():
        config = next(value for key, value in build.__init__.__annotations__.items() if key == "config")
        assert {"weight", "start", "stop"} <= {field.name for field in fields(config)}
        assert {build.__name__, config.__name__} <= set(objectives.__all__)


@pytest.mark.parametrize("place", re.findall(r"`((?:training|objectives)/\w+\.py)`", PAGE.read_text()))
def test_the_files_it_names_exist(place):
    assert (PAGE.parents[1] / "jepa_actions" / place).is_file()
