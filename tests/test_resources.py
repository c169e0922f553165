"""Recipes and protocols by name in a checkout (the wheel's side is in test_wheel)."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepa_actions import resources
from jepa_actions.errors import ConfigError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("recipes/train.py", "recipes/vjepa/two_room.yaml", "eval/protocols/two_room/offset25.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "jepa_actions")
    return tmp_path


@pytest.mark.parametrize("name", ["vjepa/two_room", "vjepa/two_room.yaml"])
def test_found_with_or_without_suffix(checkout: Path, name: str):
    assert resources.recipe_path(name) == checkout / "recipes/vjepa/two_room.yaml"
    assert resources.protocol_path("two_room/offset25") == checkout / "eval/protocols/two_room/offset25.yaml"
    assert resources.train_script() == checkout / "recipes/train.py"
    assert resources.protocol_names() == ("two_room/offset25",)


@pytest.mark.parametrize("name", ["vjepa/tworoom", "../recipes/vjepa/two_room", "/etc/hostname", ""])
def test_an_unknown_name_lists_the_known_ones(checkout: Path, name: str):
    with pytest.raises(ConfigError, match=r"^no recipe named '.*'; (did you mean '.*'\? )?known: vjepa/two_room$"):
        resources.recipe_path(name)


def test_an_installation_without_them_says_so(checkout: Path):
    (checkout / "pyproject.toml").unlink()
    with pytest.raises(ConfigError, match="known: none"):
        resources.protocol_path("two_room/offset25")
    with pytest.raises(ConfigError, match="the training script is missing"):
        resources.train_script()
