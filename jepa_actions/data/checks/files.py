"""Which files an episode is in, where a reader tells, and which episodes a damaged file concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jepa_actions.data.problems import Problem
from jepa_actions.data.sources.folder import video_files
from jepa_actions.data.types import VideoDataset
from jepa_actions.data.video.file import VideoFile
from jepa_actions.errors import JepaActionsError

PARTS = ("meta/", "data/", "videos/")  # where a LeRobot reader looks; a file beside them does no harm

SEALED = ("checksum", "missing", "extra")  # kinds that only checksums can tell of with certainty
CHUNK = 32  # frames decoded at a time


class Place:
    """The files of a data set's episodes, relative to its root; "" where the reader does not tell."""

    def __init__(self, dataset: VideoDataset | None) -> None:
        self.dataset = dataset
        self._labels = getattr(dataset, "label_file", None)
        self._videos = getattr(dataset, "videos", {})  # of a folder: files by camera
        self._root = getattr(dataset, "root", None)
        self._video = getattr(dataset, "video_file", None)

    def labels(self, i: int) -> str:
        """The file of an episode's labels; in a folder of videos its first video."""
        if self._labels is None and self._videos:
            return self.video(i, next(iter(self._videos)))
        return "" if self._labels is None else str(self._labels(i))

    def video(self, i: int, camera: str) -> str:
        """The file of an episode's frames; that of its labels where pictures are in it."""
        if self._video is None and self._root is not None and camera in self._videos:
            return str(self._videos[camera][i].path.relative_to(self._root).as_posix())
        if self._video is None:
            return ""
        try:
            return str(self._video(i, camera))
        except KeyError:
            return self.labels(i)

    def joined(self, files: Sequence[Problem], told: Sequence[Problem]) -> list[Problem]:
        """Problems of whole files against their checksums, with those that the reader told.

        A file's are said of the episodes that are in it. What the reader says of presence and checksums is left out: it
        looks where damaged metadata send it. A file where no reader looks is a warning.
        """
        members: dict[str, list[int]] = {}
        if any(problem.file for problem in files) and self.dataset is not None:
            for i in range(len(self.dataset)):
                for file in {self.labels(i), *(self.video(i, camera) for camera in self.dataset.cameras)}:
                    members.setdefault(file, []).append(i)
        wrong = {problem.file for problem in files}
        found = [p for p in told if p.file in wrong or p.kind not in SEALED]
        found = [p for p in found if p.kind not in SEALED or p.file not in members]
        for problem in files:
            if problem.kind == "extra" and not problem.file.startswith(PARTS):
                found.append(replace(problem, fatal=False))
            elif problem.file in members:
                found += [replace(problem, episode=i) for i in members[problem.file]]
            elif problem not in found:
                found.append(problem)
        return found


def unopened(
    root: Path, message: str, cameras: Sequence[str] | None, image_size: tuple[int, int] | None
) -> list[Problem]:
    """Why a data set does not open: in a folder of videos every file that does not decode, else the reader's words."""
    found = []
    if root.is_dir() and not (root / "meta").is_dir():
        for folder in [root / camera for camera in cameras or ()] or [root]:
            for i, path in enumerate(video_files(folder)):
                fault = _undecodable(path, image_size)
                if fault is not None:
                    name = path.relative_to(root).as_posix()
                    found.append(Problem(i, name, "", fault, True, "unreadable"))
    said = any(problem.message == message for problem in found)
    return found if said else [Problem(None, "", "", message, True, "unreadable"), *found]


def _undecodable(path: Path, image_size: tuple[int, int] | None) -> str | None:
    try:
        video = VideoFile(path, image_size=image_size)
        for start in range(0, len(video), CHUNK):
            video.read(np.arange(start, min(start + CHUNK, len(video))))
    except JepaActionsError as error:
        return str(error)
    return None
