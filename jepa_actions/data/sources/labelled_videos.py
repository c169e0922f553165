"""Videos, one per episode and camera, with a row of labels for each episode: what folders, tables and tars share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.sources.folder_labels import Labels
from jepa_actions.data.sources.row_labels import check_labels, episode_of, names_of, rate_of
from jepa_actions.data.types import Episode, VideoDataset, check_clips
from jepa_actions.data.video.file import VideoFile, gather_cameras
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError


class LabelledVideos(Viewable):
    """Episodes of `videos` (by camera, the same number for each) with the labels of `rows`, one per episode.

    `info` holds labels of the whole data set: names of dimensions, a frame rate. `rates` are the episodes' frame rates,
    from the labels or else the first camera's video, `variable_rate` says which vary inside, `fps` is the median rate.
    `content` hashes the files that all of it comes from, when it is asked for. Raises DataError where cameras differ in
    their number of frames, videos of a camera in size, and for labels that do not fit; see `row_labels`.
    """

    def __init__(
        self,
        name: str,
        place: str,
        videos: Mapping[str, Sequence[VideoFile]],
        rows: Sequence[Labels],
        info: Labels,
        content: Callable[[], list[Any]],
    ) -> None:
        self.name, self.cameras, self._place = name, tuple(videos), place
        self.videos = {camera: tuple(files) for camera, files in videos.items()}
        self._places, self._content = tuple(row.place for row in rows), content
        for files in self.videos.values():
            _check_sizes(files)
        first = self.videos[self.cameras[0]]
        self._lengths = np.array([len(file) for file in first], dtype=np.int64)
        self._check_lengths()
        default = rate_of(info.values, info.place)
        given = [rate_of(row.values, row.place) or default for row in rows]
        self.rates = tuple(rate or file.fps for rate, file in zip(given, first, strict=True))
        self.variable_rate = tuple(rate is None and file.variable_rate for rate, file in zip(given, first, strict=True))
        self.fps = float(np.median(self.rates))
        self._episodes = tuple(
            episode_of(row.values, index=i, length=len(file), times=_times(file, rate), name=name, place=row.place)
            for i, (row, file, rate) in enumerate(zip(rows, first, given, strict=True))
        )
        named = [(episode, row.values, row.place) for episode, row in zip(self._episodes, rows, strict=True)]
        self.action_names, self.proprio_names = names_of(named, info.values, info.place)

    def _check_lengths(self) -> None:
        for camera in self.cameras[1:]:
            for file, other in zip(self.videos[camera], self.videos[self.cameras[0]], strict=True):
                if len(file) != len(other):
                    raise DataError(f"{_place(file)}: {len(file)} frames, expected {len(other)} as in {_place(other)}")

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        if camera not in self.videos:
            raise DataError(f"{self._place}: no camera {camera!r}, expected {', '.join(self.cameras)}")
        return self.videos[camera][0].image_size

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`. Raises DataError for a known one that is not finite."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        check_labels(self._episodes[i], self._places[i], self.action_names, self.proprio_names)
        return copy.copy(self._episodes[i])

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera."""
        check_clips(self._lengths, episodes, frames, self.name)
        return gather_cameras(
            {camera: ([files[int(e)] for e in episodes], frames) for camera, files in self.videos.items()}
        )

    def without_labels(self) -> VideoDataset:
        """The videos alone; text is a label here too."""
        bare = copy.copy(self)
        bare._episodes = tuple(Episode(e.index, e.length, times=e.times, dataset=e.dataset) for e in self._episodes)
        bare.action_names = bare.proprio_names = None
        return bare

    def fingerprint(self) -> str:
        """A hash of all files, of what is read from them and how."""
        shown = {camera: list(self.image_size(camera)) for camera in self.cameras}
        labelled = [e.actions is not None or e.proprio is not None or e.text is not None for e in self._episodes]
        return combined(type(self).__name__, self._content(), shown, self.action_names, self.proprio_names, labelled)


def _times(video: VideoFile, rate: float | None) -> Float64[np.ndarray, "t"]:
    shown = video.times
    return np.arange(len(video)) / rate if rate else np.asarray(shown - shown[0], dtype=np.float64)


def _check_sizes(files: Sequence[VideoFile]) -> None:
    for file in files[1:]:
        if file.image_size != files[0].image_size:
            raise DataError(
                f"{_place(file)}: frames of {file.image_size}, expected {files[0].image_size} as in "
                f"{_place(files[0]).rpartition('/')[2]}; set image_size"
            )


def _place(video: VideoFile) -> str:
    return str(getattr(video, "place", video.path))
