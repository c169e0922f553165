"""Open a data set by what is at its path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jepa_actions.data.folder import VideoFolder, describe, video_files
from jepa_actions.data.lerobot import LeRobotV3
from jepa_actions.data.types import VideoDataset
from jepa_actions.errors import DataError


def load_dataset(
    path: str | Path, *, cameras: Sequence[str] | None = None, image_size: tuple[int, int] | None = None
) -> VideoDataset:
    """A LeRobot v3.0 folder, a folder of videos, or the id of a LeRobot data set on the Hugging Face Hub.

    `cameras` picks video features (default all), `image_size` (H, W) resizes on decode. Raises DataError saying what
    was found where it is none of these, and for `env:` names, which only training and evaluation can make.
    """
    name = str(path)
    if name.startswith("env:"):
        raise DataError(
            f"{name}: an environment, which training and evaluation resolve; expected a folder or a Hub id here"
        )
    root = Path(path)
    if root.is_file():
        raise DataError(f"{name}: a file, expected a LeRobot data set or a folder of videos")
    if not root.is_dir() or (root / "meta").is_dir():
        return LeRobotV3(path, cameras=cameras, image_size=image_size)
    if not video_files(root):
        raise DataError(
            f"{name}: neither meta/info.json of a LeRobot v3.0 data set nor a video in it, found {describe(root)}"
        )
    folder = VideoFolder(root, image_size=image_size)
    for camera in cameras or ():
        folder.image_size(camera)
    return folder
