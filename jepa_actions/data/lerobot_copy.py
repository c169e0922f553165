"""Any data set, written as a LeRobot one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jepa_actions.data.lerobot_parts import Version
from jepa_actions.data.lerobot_writer import LeRobotWriter
from jepa_actions.data.types import VideoDataset
from jepa_actions.data.video_writer import Codec


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

    Everything an `Episode` holds is kept, provenance included; columns that it does not hold are not.
    """
    writer = LeRobotWriter(
        root,
        fps=dataset.fps,
        cameras={camera: dataset.image_size(camera) for camera in dataset.cameras},
        action_names=dataset.action_names,
        proprio_names=dataset.proprio_names,
        discrete=discrete,
        robot_type=robot_type,
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
