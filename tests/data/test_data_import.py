"""The data room imports without its readers' libraries: they are needed only by who reads such files."""

import subprocess
import sys

CODE = """
import sys
for name in ("av", "pyarrow", "pandas", "datasets", "huggingface_hub"):
    sys.modules[name] = None
import jepa_actions.data as data
assert all(hasattr(data, name) for name in data.__all__)
try:
    data.VideoFile(sys.executable)
except ImportError:
    print("only reading needs them")
"""


def test_import_needs_no_reader():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "only reading needs them", done.stderr
