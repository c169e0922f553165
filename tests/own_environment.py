"""Pythons that have a package whose pins exclude ours."""

from __future__ import annotations

import os
import subprocess
import venv

import pytest


def python_with(what: str, variable: str, requirements: list[str], temporary: pytest.TempPathFactory) -> str:
    """The Python that an environment variable names; with 'install' a new one in a temporary folder.

    Skips the test where the variable is not set.
    """
    chosen = os.environ.get(variable)
    if not chosen:
        pytest.skip(f"no Python with {what} (set {variable} to one, or to 'install')")
    if chosen != "install":
        return chosen
    home = temporary.mktemp("environment")
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    return python
