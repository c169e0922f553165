"""The frames of an episode, out of its video file, and the proof that they are its frames: by time, by number, by the
file's own label."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from jepa_actions.data.lerobot.files import LocalFiles
from jepa_actions.data.lerobot.places import Places, Videos
from jepa_actions.data.recent import Recent
from jepa_actions.data.video.file import Clips, VideoFile
from jepa_actions.errors import DataError

KEPT = 256  # video files whose index stays in memory


@dataclass(frozen=True)
class _Label:
    """What a container says of itself: frames it holds (0: it does not say), and the label our writer puts there."""

    frames: int
    comment: dict[str, Any] | None


def _read_label(path: Path) -> _Label:
    import av

    try:
        with av.open(str(path)) as container:
            frames, text = int(container.streams.video[0].frames), container.metadata.get("comment", "")
    except (av.FFmpegError, UnicodeDecodeError, IndexError) as error:
        raise DataError(f"{path}: cannot be decoded as video ({type(error).__name__}); is it damaged?") from error
    try:
        comment = json.loads(text)
    except (ValueError, RecursionError):
        return _Label(frames, None)  # somebody's words
    return _Label(frames, comment if isinstance(comment, dict) and "camera" in comment else None)


class VideoReader:
    """Frames by camera and episode.

    `sizes` are what info.json says of each camera's frames, (H, W). A file is checked as a whole when it is opened, and
    an episode's frames when they are first asked for; `notes` collects what is odd but does no harm, by file.
    """

    def __init__(
        self,
        files: LocalFiles,
        places: Places,
        fps: float,
        sizes: dict[str, tuple[int, int]],
        image_size: tuple[int, int] | None,
        labelled: bool,
    ) -> None:
        self.labelled = labelled  # whether the data set says that its videos bear labels
        self.files, self.places, self.fps = files, places, fps
        self.sizes, self.image_size = sizes, image_size
        self.notes: dict[str, str] = {}
        self._kept: Recent[str, VideoFile] = Recent(KEPT)
        self._starts = {camera: np.full(len(places.length), -1, dtype=np.int64) for camera in places.videos}

    def names(self, camera: str, episodes: Int[np.ndarray, "b"]) -> list[str]:
        """The files that these episodes need, each once."""
        videos = self.places.videos[camera]
        return [videos.names[k] for k in np.unique(videos.of[episodes]).tolist()]

    def drop(self, name: str) -> None:
        """Forget a file that was deleted."""
        self._kept.drop(name)

    def video(self, camera: str, i: int) -> VideoFile:
        """The file that episode `i` is in."""
        name = self.places.videos[camera].name(i)
        if not self.files.at_hand(name):
            self._kept.drop(name)
        return self._kept.get(name, lambda: self._open(camera, i))

    def _open(self, camera: str, i: int) -> VideoFile:
        videos = self.places.videos[camera]
        path = self.files.use(videos.name(i), f"video of camera {camera!r}")
        video = VideoFile(path, image_size=self.image_size)
        if video.source_size != self.sizes[camera]:
            raise DataError(
                f"{path}: frames of {video.source_size}, expected {self.sizes[camera]} (height, width) as in info.json"
            )
        label = _read_label(path)
        if self.labelled:
            _check_comment(video, label, {"camera": camera, **videos.numbers[int(videos.of[i])]})
        self._check_whole(video, label, videos, i)
        return video

    def _check_whole(self, video: VideoFile, label: _Label, videos: Videos, i: int) -> None:
        """A file that begins late, or hides frames it holds, would show every episode too early or too late."""
        members = videos.members(int(videos.of[i]))
        needed, first = int(self.places.length[members].sum()), float(videos.start[members].min())
        begins = float(video.times[0])
        if min(abs(begins), abs(begins - first)) > 0.25 / self.fps:
            raise DataError(
                f"{video.path}: begins at {begins:.3f} s, expected {first:.3f} s, its first episode's start"
            )
        if videos.whole and len(video) != needed:
            raise DataError(f"{video.path}: {len(video)} frames, expected {needed}, one for every row of its episode")
        if len(video) < needed and label.frames != len(video):
            raise DataError(
                f"{video.path}: shows {len(video)} frames of the {label.frames or '?'} it holds, expected {needed} for "
                f"its episodes"
            )
        if label.comment is None:
            self._check_count(video, videos, members)
        if self._ratio(video) != 1:
            self.notes[videos.name(i)] = f"{video.path}: {video.fps:g} fps, expected {self.fps:g} as in info.json"

    def _check_count(self, video: VideoFile, videos: Videos, members: Int64[np.ndarray, "n"]) -> None:
        """A file that does not say which it is must hold what its episodes need: of two swapped ones, each would show
        the other's frames. More is right only where the table of episodes leaves some out."""
        ratio, needed = self._ratio(video), int(self.places.length[members].sum())
        order = members[np.argsort(videos.start[members], kind="stable")]
        ends = videos.start[order] + self.places.length[order] / self.fps
        before = np.concatenate([[0.0], ends[:-1]])
        left_out = bool((videos.start[order] - before > 0.5 / self.fps).any())
        after = int(order[-1]) + 1
        left_out |= after < len(self.places.number) and self.places.number[after] != self.places.number[after - 1] + 1
        if len(video) <= (needed - 1) * ratio or (len(video) > needed * ratio and not left_out):
            raise DataError(
                f"{video.path}: {len(video)} frames, expected {needed * ratio} for its {len(members)} episodes; is it "
                f"another file, or cut?"
            )

    def _ratio(self, video: VideoFile) -> int:
        """Frames of the file per frame of the data set."""
        return max(round(video.fps / self.fps), 1)

    def places_of(self, camera: str, i: int, frames: Int[np.ndarray, "t"]) -> tuple[VideoFile, Int64[np.ndarray, "t"]]:
        """The file of episode `i` and the numbers, inside it, of the episode's frames."""
        video = self.video(camera, i)
        if self._starts[camera][i] < 0:
            self._starts[camera][i] = self._find(video, camera, i)
        return video, self._starts[camera][i] + self._ratio(video) * np.asarray(frames, dtype=np.int64)

    def clips(self, camera: str, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]) -> Clips:
        """The file of every clip, and the numbers of its frames in that file."""
        found = [self.places_of(camera, int(e), row) for e, row in zip(episodes, frames, strict=True)]
        return [video for video, _ in found], np.stack([place for _, place in found]) if found else frames

    def _find(self, video: VideoFile, camera: str, i: int) -> int:
        """The number of the episode's first frame. Every frame of it must be where its time says (at most a quarter of
        a frame away) and where counting from the start of the file says."""
        start, length, ratio = (
            float(self.places.videos[camera].start[i]),
            int(self.places.length[i]),
            self._ratio(video),
        )
        wanted = start + np.arange(length) / self.fps
        after = np.clip(np.searchsorted(video.times, wanted), 1, max(len(video) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(video) - 1)
        nearer = wanted - video.times[before] <= video.times[after] - wanted
        place = np.where(nearer, before, after)
        late = np.abs(video.times[place] - wanted) > 0.25 / self.fps
        if late.any():
            k = int(np.flatnonzero(late)[0])
            raise DataError(
                f"{video.path}: no frame at {wanted[k]:.3f} s for frame {k} of episode {i}, found {len(video)} frames "
                f"up to {video.times[-1]:.3f} s at {self.fps:g} fps"
            )
        counted = round((start - float(video.times[0])) * self.fps) * ratio
        odd = np.flatnonzero(place != counted + ratio * np.arange(length))
        if len(odd):
            k = int(odd[0])
            raise DataError(
                f"{video.path}: frame {place[k]} is at {wanted[k]:.3f} s for frame {k} of episode {i}, expected frame "
                f"{counted + ratio * k}; frames are missing or have wrong times"
            )
        return counted


def _check_comment(video: VideoFile, label: _Label, expected: dict[str, Any]) -> None:
    if label.comment is None:
        return
    wanted = {**expected, "frames": len(video)}
    names = {"chunk_index": "chunk", "file_index": "file", "episode_index": "episode"}
    for key, value in wanted.items():
        found = label.comment.get(names.get(key, key))
        if found is not None and found != value:
            raise DataError(
                f"{video.path}: labelled {names.get(key, key)} {found!r}, expected {value!r}; is it another file?"
            )
