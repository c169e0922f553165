"""Without MuJoCo, or with one of another major version: one line that says what to install."""

import subprocess
import sys

import pytest

HIDDEN = """
import sys, importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'mujoco': raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
"""
NEWER = """
import sys, types
fake = types.ModuleType('mujoco'); fake.__version__ = '4.0.0'; fake.__path__ = []
rollout = types.ModuleType('mujoco.rollout'); rollout.rollout = None
sys.modules.update({'mujoco': fake, 'mujoco.rollout': rollout})
"""
TRY = """
from jepa_actions.envs.reacher import Reacher
from jepa_actions.errors import ConfigError
try:
    Reacher()
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("setting", "said"), [(HIDDEN, "mujoco is not installed"), (NEWER, "found mujoco 4.0.0, expected 3.17")]
)
def test_the_error_names_the_extra(setting: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", setting + TRY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "pip install 'jepa-actions[mujoco]'" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
