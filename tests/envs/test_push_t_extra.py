"""Without gym-pusht: one line that says what to install."""

import subprocess
import sys

CODE = """
import sys, importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('gym_pusht', 'pymunk'): raise ModuleNotFoundError(f'No module named {name!r}')
sys.meta_path.insert(0, Hide())
from jepa_actions.envs.push_t import PushT
from jepa_actions.errors import ConfigError
try:
    PushT()
except ConfigError as error:
    print(error)
"""


def test_the_error_names_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "No module named 'pymunk' (pip install 'jepa-actions[push_t]')" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
