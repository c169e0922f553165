"""Pictures that say which camera, episode and frame they are, with edges and colours that survive compression."""

from __future__ import annotations

import numpy as np

from jepa_actions.data.types import Episode


def movie(length: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """(T, 3, H, W) uint8: a brighter square that moves over a slope; its blue tells the episode."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    frames = np.zeros((length, 3, height, width), np.uint8)
    frames[:, 0] = 30 + x * 120 // width
    frames[:, 1] = 30 + y * 120 // height
    frames[:, 2] = 40 + 20 * seed % 120
    side = height // 3
    for t in range(length):
        left, top = (5 * t + 8 * seed) % (width - side), 3 * t % (height - side)
        frames[t, :, top : top + side, left : left + side] += 80
    return frames


def labels(length: int, seed: int, **more: object) -> Episode:
    """Random actions (2), proprio (3), rewards and simulator state (2) of an episode."""
    rng = np.random.default_rng(seed)
    fields = {
        "actions": rng.normal(size=(length - 1, 2)).astype(np.float32),
        "proprio": rng.normal(size=(length, 3)).astype(np.float32),
        "rewards": rng.normal(size=length - 1).astype(np.float32),
        "simulator_state": rng.normal(size=(length, 2)),
        "text": f"task {seed % 2}",
        "seed": 100 + seed,
    }
    return Episode(seed, length, **(fields | more))
