"""A folder of video files without actions: one file is one episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.types import Episode, check_clips
from jepa_actions.data.video import VideoFile, gather_clips
from jepa_actions.errors import DataError

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "mxf", "nut", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)


def video_files(folder: Path) -> list[Path]:
    """The video files directly inside `folder`, by name, hidden ones left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    )


def describe(folder: Path) -> str:
    """What a folder holds, for an error message."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


class VideoFolder:
    """The videos directly inside `root`, sorted by name, as episodes of one camera called "video".

    `image_size` (H, W) resizes on decode without keeping the aspect; without it all videos must have one size. `rates`
    are the files' own average frame rates and `variable_rate` says which of them vary inside; `fps` is the median rate.
    Raises DataError where the folder holds no video, or a file cannot be decoded.
    """

    cameras: tuple[str, ...] = ("video",)
    action_names: tuple[str, ...] | None = None
    proprio_names: tuple[str, ...] | None = None

    def __init__(self, root: str | Path, *, image_size: tuple[int, int] | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder, expected a folder of videos")
        paths = video_files(self.root)
        if not paths:
            raise DataError(
                f"{self.root}: no video in it, found {describe(self.root)}; expected files such as .mp4 or .mkv"
            )
        self.name = self.root.resolve().name
        self.files = tuple(VideoFile(path, image_size=image_size) for path in paths)
        first = self.files[0]
        for file in self.files[1:]:
            if file.image_size != first.image_size:
                raise DataError(
                    f"{file.path}: frames of {file.image_size}, expected {first.image_size} as in "
                    f"{first.path.name}; set image_size"
                )
        self.rates = tuple(file.fps for file in self.files)
        self.variable_rate = tuple(file.variable_rate for file in self.files)
        self.fps = float(np.median(self.rates))

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of the frames."""
        if camera not in self.cameras:
            raise DataError(f"{self.root}: no camera {camera!r}, expected {', '.join(self.cameras)}")
        return self.files[0].image_size

    def __len__(self) -> int:
        return len(self.files)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per video."""
        return np.array([len(file) for file in self.files], dtype=np.int64)

    def episode(self, i: int) -> Episode:
        """Video `i`: its length, no labels."""
        return Episode(index=i, length=len(self.files[i]), dataset=self.name)

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named videos."""
        check_clips(self.lengths(), episodes, frames, self.name)
        return {"video": gather_clips([self.files[e] for e in episodes], frames)}
