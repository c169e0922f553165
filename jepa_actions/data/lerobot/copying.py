"""Any data set, written as a LeRobot one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jepa_actions.data.lerobot.meta import read_info, read_json
from jepa_actions.data.lerobot.parts import Version
from jepa_actions.data.lerobot.video_writer import Codec
from jepa_actions.data.lerobot.writer import LeRobotWriter
from jepa_actions.data.types import VideoDataset


def copy_dataset(
    dataset: VideoDataset,
    root: str | Path,
    *,
    version: Version = "v3.0",
    discrete: Sequence[int] | None = None,
    robot_type: str | None = None,
    codec: Codec = "h264",
    gop: int = 2,
    crf: int | None = None,
    data_mb: float = 100,
    video_mb: float = 200,
    chunk_files: int = 1000,
    at_once: int = 64,
) -> None:
    """Write any data set as a LeRobot one. Frames are encoded anew, `at_once` of them in memory.

    Everything an `Episode` holds is kept, provenance included; columns that it does not hold are not. Of a LeRobot data
    set also robot type, and how many values discrete actions have or between which bounds others lie.
    """
    said = _said(dataset)
    writer = LeRobotWriter(
        root,
        fps=dataset.fps,
        cameras={camera: dataset.image_size(camera) for camera in dataset.cameras},
        action_names=dataset.action_names,
        proprio_names=dataset.proprio_names,
        discrete=said["discrete"] if discrete is None else discrete,
        action_bounds=said["bounds"],
        robot_type=said["robot_type"] if robot_type is None else robot_type,
        version=version,
        codec=codec,
        gop=gop,
        crf=crf,
        data_mb=data_mb,
        video_mb=video_mb,
        chunk_files=chunk_files,
    )
    try:
        for i, length in enumerate(dataset.lengths().tolist()):
            episode = writer.begin()
            for first in range(0, length, at_once):
                frames = np.arange(first, min(first + at_once, length))[None]
                clips = dataset.read_clips(np.array([i]), frames)
                for k in range(frames.shape[1]):
                    episode.add_frame({camera: clip[0, k] for camera, clip in clips.items()})
            episode.finish(dataset.episode(i))
        writer.finalize()
    except BaseException:
        writer.abandon()  # half a copy would pass for a whole one
        raise


def _said(dataset: VideoDataset) -> dict[str, Any]:
    """What the `meta/info.json` of a LeRobot data set says beside what every data set does; all `None` for others, and
    for views, which may have changed the actions."""
    said: dict[str, Any] = {"robot_type": None, "discrete": None, "bounds": None}
    root = getattr(dataset, "root", None)
    if not isinstance(root, Path) or not (root / "meta" / "info.json").is_file() or hasattr(dataset, "dataset"):
        return said
    robot = read_json(root / "meta" / "info.json").get("robot_type")
    said["robot_type"] = robot if isinstance(robot, str) else None
    info = read_info(root)
    names = info.names("action") if "action" in info.features else None
    if names is None or dataset.action_names != names:
        return said
    width = len(names)
    values = np.atleast_1d(info.note("action", "discrete"))
    if values.dtype.kind == "i" and values.shape == (width,) and values.min() > 0:
        said["discrete"] = values.tolist()
    low, high = (np.atleast_1d(info.note("action", key)) for key in ("low", "high"))
    if all(side.dtype.kind in "if" and side.shape == (width,) for side in (low, high)):
        said["bounds"] = (low.tolist(), high.tolist())
    return said
