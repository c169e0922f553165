"""A tiny LeRobot data set, made once; tests that damage it copy it first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lerobot_writer import write_lerobot


@pytest.fixture(scope="session")
def tiny_robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of 12 and 9 frames, two cameras. Read only."""
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "tiny_robot")


@pytest.fixture
def robot(tiny_robot: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_robot, tmp_path / "robot"))
