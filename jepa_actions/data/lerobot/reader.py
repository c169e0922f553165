"""LeRobot data sets, versions v3.0 and v2.1, from a folder or the Hugging Face Hub: video, labels and text."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.lerobot import meta, places
from jepa_actions.data.lerobot import v21 as legacy
from jepa_actions.data.lerobot.checksums import WORKERS, hash_file
from jepa_actions.data.lerobot.faults import Faults
from jepa_actions.data.lerobot.files import open_files
from jepa_actions.data.lerobot.images import ImageReader
from jepa_actions.data.lerobot.labels import ACTION, REWARD, STATE, Labels
from jepa_actions.data.lerobot.opening import check_files, check_sums, choose_cameras, place_faults
from jepa_actions.data.lerobot.rows import RowReader
from jepa_actions.data.lerobot.tasks import read_tasks, tasks_file
from jepa_actions.data.lerobot.videos import VideoReader
from jepa_actions.data.problems import Problem
from jepa_actions.data.types import Episode, check_clips
from jepa_actions.data.video.file import check_image_size, gather_cameras
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError

HASHED = 64  # files that a thread hashes in one go


class LeRobot(Viewable):
    """A LeRobot data set: cameras, and per row labels and the task, all chosen by name.

    LeRobot stores T actions for T frames; the last one of an episode leads nowhere and is dropped. Frames are found by
    time stamp: the episode's place in its video file plus frame / fps. That rows and frames are those of their episode,
    in order and on time, is checked before any of them is returned: rows by `episode_index`, `frame_index`, `index` and
    `timestamp`, frames by time, by number and by the label that our writer leaves in the file.

    Args:
        root: a folder, or the id of a Hub data set (`owner/name`): then its tables are fetched at once and each video
            when it is first needed.
        cameras: feature names, with or without `observation.images.`; by default all pictures.
        image_size: (H, W) to resize to on decode, without keeping the aspect.
        action: the column of actions; a column `<action>_valid` says where they are known. `None`: no actions.
        pseudo: a column of actions that a model inferred, for the steps where `action` is not known.
        state: the column of proprioception, or several, which are joined in this order.
        reward: the column of rewards. This and the default names may be missing; any other column must exist.
        verify: check the files against `meta/checksums.json`, where there is one: all sizes and the tables at once,
            a video on first use.
        tolerant: collect faults of single files and episodes in `problems`; reading such an episode raises its fault.
        revision: branch, tag or commit on the Hub.
        disk_limit: bytes of video kept in the Hub's cache, see `HubFiles`.

    Raises:
        DataError: naming file and field, for a file that is missing or cannot be read, another version, a camera or
            column that does not exist, pseudo actions in a column for true ones, or tables that contradict each other.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        action: str | None = ACTION,
        pseudo: str | None = None,
        state: str | Sequence[str] | None = STATE,
        reward: str | None = REWARD,
        verify: bool = True,
        tolerant: bool = False,
        revision: str | None = None,
        disk_limit: int | None = None,
    ) -> None:
        check_image_size(image_size)
        self._files = open_files(root, revision, disk_limit)
        self.root = self._files.root
        self.name = self.root.resolve().name if Path(root).is_dir() else str(root)
        self._faults = Faults(tolerant)
        damaged = check_sums(self._files, self._faults) if verify else []
        self._info = meta.read_info(self.root)
        self.fps = self._info.fps
        self.cameras = choose_cameras(self._info, cameras)
        self._labels = Labels(self._info, action=action, pseudo=pseudo, state=state, reward=reward)
        self._image_size = image_size
        with self._faults.collected(file=tasks_file(self._info), kind="text"):
            self._tasks: dict[int, str | None] | None = None
            self._tasks = read_tasks(self.root, self._info)
        videos = tuple(camera for camera in self.cameras if self._info.is_video(camera))
        read_places = places.read_places if self._info.version == meta.VERSION else legacy.read_places
        found = read_places(self.root, self._info, videos)
        place_faults(self._info, found, damaged, self._faults)
        self._places = check_files(self._files, self._info, found, self._labels, self._faults)
        self._rows = RowReader(self._files, self._places, self._labels, self.fps)
        self._sizes = {camera: self._info.size(camera) for camera in self.cameras}
        self._videos = VideoReader(
            self._files, self._places, self.fps, self._sizes, image_size, self._info.video_labels
        )
        self._images = ImageReader(self._rows, self._sizes, image_size)
        self._files.watch(self._videos.drop)
        self._hashes: dict[tuple[str, int, int], str] = {}

    @property
    def action_names(self) -> tuple[str, ...] | None:
        return self._labels.action_names

    @property
    def proprio_names(self) -> tuple[str, ...] | None:
        return self._labels.proprio_names

    @property
    def problems(self) -> list[Problem]:
        """What was found wrong: warnings, and with `tolerant` also faults. Videos add to it when they are opened."""
        notes = [Problem(None, name, "", text, False, "frames") for name, text in self._videos.notes.items()]
        return [*self._faults.problems, *notes]

    def label_file(self, i: int) -> str:
        """The file of episode `i`'s rows, relative to `root`."""
        return self._places.data.name(i)

    def video_file(self, i: int, camera: str) -> str:
        """The file of episode `i`'s frames, relative to `root`."""
        return self._places.videos[camera].name(i) if camera in self._places.videos else self.label_file(i)

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        if camera not in self.cameras:
            raise DataError(f"{self.name}: no camera {camera!r} opened, expected one of {', '.join(self.cameras)}")
        return self._image_size or self._sizes[camera]

    def __len__(self) -> int:
        return len(self._places.length)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._places.length.copy()

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        self._faults.check(i)
        path, rows = self._rows.rows(i)
        return Episode(
            index=i,
            length=int(self._places.length[i]),
            text=self._text(path, rows, i),
            seed=None if self._places.seed is None or self._labels.hidden else self._places.seed[i],
            dataset=self.name,
            **self._labels.cut(rows),
        )

    def _text(self, path: Path, rows: dict[str, np.ndarray], i: int) -> str | None:
        if "task_index" not in rows or self._tasks is None:
            return None
        task = int(rows["task_index"][0])
        if task not in self._tasks:
            number, table = self._places.number[i], tasks_file(self._info)
            raise DataError(f"{path}: task_index {task} of episode {number}, expected one of {table}")
        return self._tasks[task]

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera that was asked for."""
        check_clips(self._places.length, episodes, frames, self.name)
        for i in np.unique(episodes).tolist():
            self._faults.check(i)
        videos = [camera for camera in self.cameras if camera in self._places.videos]
        with self._files.held([name for camera in videos for name in self._videos.names(camera, episodes)]):
            found = {camera: self._videos.clips(camera, episodes, frames) for camera in videos}
            out = gather_cameras(found)
        for camera in self.cameras:
            if camera not in out:
                out[camera] = self._images.clips(camera, episodes, frames)
        return {camera: out[camera] for camera in self.cameras}

    def without_labels(self) -> LeRobot:
        """The same frames, lengths and texts, from a reader that does not read a label."""
        other = copy.copy(self)
        other._labels = Labels(self._info, action=None, pseudo=None, state=None, reward=None, simulator=False)
        other._rows = RowReader(self._files, self._places, other._labels, self.fps)
        other._images = ImageReader(other._rows, self._sizes, self._image_size)
        return other

    def fingerprint(self) -> str:
        """Of every file that is read (from `meta/checksums.json`, or computed and remembered until it changes) and of
        what was chosen."""
        tables = ["meta/info.json", tasks_file(self._info), *places.episode_files(self.root, self._info)]
        columns = list(self._labels.columns)
        return combined(
            "LeRobot", self._content([*tables, *self._places.data.names]), columns, self.frames_fingerprint()
        )

    def frames_fingerprint(self) -> str:
        """Of the frames alone: the videos, where each episode is in them, cameras and size. Labels may change."""
        facts: list[object] = [self.fps, self._image_size, self._places.length.tolist()]
        for camera in self.cameras:
            facts.append([camera, self._sizes[camera]])
            if camera in self._places.videos:
                videos = self._places.videos[camera]
                facts += [self._content(videos.names), videos.of.tolist(), videos.start.tolist()]
            else:
                facts.append(self._content(self._places.data.names))
        return combined("LeRobot frames", facts)

    def _content(self, names: Sequence[str]) -> list[list[str]]:
        parts = [names[k : k + HASHED] for k in range(0, len(names), HASHED)]
        with ThreadPoolExecutor(WORKERS) as pool:
            found = [digest for part in pool.map(lambda part: list(map(self._hash, part)), parts) for digest in part]
        return [list(item) for item in zip(names, found, strict=True)]

    def _hash(self, name: str) -> str:
        if self._files.sums is not None and name in self._files.sums:
            return self._files.sums[name].sha256
        identity = self._files.identity(name)
        if identity is None:
            return self._files.commit
        if identity not in self._hashes:
            self._hashes[identity] = hash_file(self.root / name).sha256
        return self._hashes[identity]
