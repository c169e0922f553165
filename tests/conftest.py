"""Fixtures for every test. Torch threads and the caches' places stay as the user has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings: `JEPA_ACTIONS_DATA`, by default `../shared/data` beside the repository."""
    folder = Path(os.environ.get("JEPA_ACTIONS_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set JEPA_ACTIONS_DATA)")
    return folder.resolve()


@pytest.fixture
def seed() -> int:
    """Seeds torch's and numpy's global generators for code that has no other source, and returns the seed."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    return 0
