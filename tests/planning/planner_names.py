"""Every planner by name, at a small budget; `cmaes` only where its library is installed."""

import importlib.util

import pytest

from jepa_actions.planning import PLANNERS

MISSING = importlib.util.find_spec("cmaes") is None
NEEDS_CMAES = pytest.mark.skipif(MISSING, reason="the cmaes library is not installed")
NAMES = [pytest.param(name, marks=NEEDS_CMAES) if name == "cmaes" else name for name in PLANNERS]
SAMPLING = ["random", "cem", "icem", "mppi", "mppi_classical"]
REFITTING = SAMPLING[1:]
