"""Run by a Python that has lerobot 0.4.4: every item that `LeRobotDataset` gives, into a file of arrays.

lerobot_items.py ROOT OUT [DELTAS]; DELTAS is JSON, the package's `delta_timestamps`.
lerobot_items.py --convert ROOT: the package's own converter from v2.1 to v3.0, in place, without a network.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np


def main() -> None:
    """What the arguments ask for."""
    assert version("lerobot") == "0.4.4", version("lerobot")
    if sys.argv[1] == "--convert":
        from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset

        root = Path(sys.argv[2])
        convert_dataset(root.name, root=root.parent, push_to_hub=False)
        return
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root, out, deltas = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
    dataset = LeRobotDataset("test/set", root=root, video_backend="pyav", delta_timestamps=deltas)
    rows: dict[str, list[np.ndarray]] = {}
    for i in range(len(dataset)):
        for name, value in dataset[i].items():
            array = np.asarray(value if isinstance(value, str) else value.numpy())
            if name in dataset.meta.video_keys:
                array = np.rint(array * 255).astype(np.uint8)  # the package gives floats
            rows.setdefault(name, []).append(array)
    actions = [name for name in dataset.meta.features if name.startswith("action")]
    np.savez(
        out,
        episodes=dataset.meta.total_episodes,
        policy_actions=np.array(actions),
        **{k: np.stack(v) for k, v in rows.items()},
    )


if __name__ == "__main__":
    main()
