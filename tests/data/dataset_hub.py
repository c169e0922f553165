"""The Hub of the tests (`local_hub.py`) with one data set, for `datasets` to stream from.

Run it as a script with a folder and an id: it serves the folder's files until its standard input closes and prints its
port first. Clients set HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from local_hub import main

if __name__ == "__main__":
    sys.argv[2] = f"datasets/{sys.argv[2]}"
    main()
