"""LeRobot v3.0 data sets, from a folder or the Hugging Face Hub: many episodes per parquet file and per video file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data import lerobot_meta as meta
from jepa_actions.data.types import Episode, check_clips
from jepa_actions.data.video import VideoFile, check_image_size, gather_clips
from jepa_actions.errors import DataError

ACTION, PROPRIO, REWARD, VALID = "action", "observation.state", "next.reward", "action_valid"
SHORT = "observation.images."


class LeRobotV3:
    """A LeRobot v3.0 data set: its video cameras, and per row `action`, `observation.state`, `next.reward` and the
    task.

    `root` is a folder, or the id of a Hub data set (`owner/name`). `cameras` are feature names, with or without
    `observation.images.`; by default all video features. `image_size` (H, W) resizes on decode without keeping the
    aspect.

    LeRobot stores T actions for T frames; the last one of an episode leads nowhere and is dropped. A column
    `action_valid` says which of the others are known. Frames are found by time stamp: the episode's place in its video
    file plus frame / fps. Raises DataError naming file and field for a file that is missing or cannot be read, another
    version, an unknown camera, or tables that contradict each other; files are looked for at once, video is decoded
    when it is asked for.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        check_image_size(image_size)
        self.root = Path(root) if Path(root).is_dir() else _download(str(root))
        self.name = self.root.resolve().name if Path(root).is_dir() else str(root)
        self._info = meta.read_info(self.root)
        self.fps = self._info.fps
        self.cameras = self._choose(cameras)
        self.action_names = self._info.names(ACTION)
        self.proprio_names = self._info.names(PROPRIO)
        self._image_size = image_size
        self._tasks = meta.read_tasks(self.root)
        self._episodes = meta.read_episodes(self.root, self.cameras, self._info.total_episodes)
        self._lengths = self._episodes["length"].astype(np.int64)
        self._videos: dict[Path, VideoFile] = {}
        self._rows = lru_cache(maxsize=4)(self._read_rows)
        self._check_files()

    def _choose(self, cameras: Sequence[str] | None) -> tuple[str, ...]:
        found = self._info.video_features
        chosen = tuple(found if cameras is None else (c if c in found else SHORT + c for c in cameras))
        unknown = [camera.removeprefix(SHORT) for camera in chosen if camera not in found]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            asked = repr(unknown[0]) if unknown else f"{list(cameras or ())}"
            raise DataError(
                f"{self._info.path}: camera {asked} asked for, expected some of the video features "
                f"{', '.join(found) or '(none)'}"
            )
        return chosen

    def _label_columns(self) -> list[str]:
        return [column for column in (ACTION, PROPRIO, REWARD, VALID) if column in self._info.features]

    def _check_files(self) -> None:
        """Every file exists, and holds as many rows as its episodes have frames, and numbers where numbers belong."""
        data_files = [self._data_file(i) for i in range(len(self))]
        for path in dict.fromkeys(data_files):
            stamp = meta.read_stamp(meta.required(path, "table of rows"))
            for column in self._label_columns():
                if column not in stamp.types:
                    raise DataError(f"{path}: no column {column!r}, expected it as in info.json")
                meta.check_numbers(path, column, stamp.types[column])
            needed = int(self._lengths[[other == path for other in data_files]].sum())
            if stamp.rows < needed:
                raise DataError(f"{path}: {stamp.rows} rows, expected {needed}, one for every frame of its episodes")
        for camera in self.cameras:
            for path in dict.fromkeys(self._video_path(camera, i) for i in range(len(self))):
                meta.required(path, f"video of camera {camera!r}")

    def _file(self, pattern: str, prefix: str, i: int, **keys: str) -> Path:
        chunk, file = (int(self._episodes[f"{prefix}/{part}_index"][i]) for part in ("chunk", "file"))
        try:
            return self.root / pattern.format(chunk_index=chunk, file_index=file, **keys)
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(
                f"{self._info.path}: path pattern {pattern!r}, expected chunk_index and file_index in it"
            ) from error

    def _data_file(self, i: int) -> Path:
        return self._file(self._info.data_path, "data", i)

    def _video_path(self, camera: str, i: int) -> Path:
        if self._info.video_path is None:
            raise DataError(f"{self._info.path}: video_path is None, expected a path pattern for camera {camera!r}")
        return self._file(self._info.video_path, f"videos/{camera}", i, video_key=camera)

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        if camera not in self.cameras:
            raise DataError(f"{self.name}: no camera {camera!r} opened, expected one of {', '.join(self.cameras)}")
        return self._image_size or self._info.size(camera)

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def _read_rows(self, path: Path) -> dict[str, np.ndarray]:
        labels = self._label_columns()
        table = meta.read_table(path, ["episode_index", "frame_index", "task_index", *labels])
        sizes = {column: len(self._info.names(column) or ()) for column in labels}
        rows = {column: meta.column_rows(path, table, column, sizes[column]) for column in labels}
        for column in ("episode_index", "frame_index", "task_index"):
            rows[column] = table[column].to_numpy()
        return rows

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        path, length, number = self._data_file(i), int(self._lengths[i]), self._episodes["episode_index"][i]
        rows = self._rows(path)
        mine = np.flatnonzero(rows["episode_index"] == number)
        if len(mine) != length or (rows["frame_index"][mine] != np.arange(length)).any():
            raise DataError(
                f"{path}: {len(mine)} rows of episode {number}, expected {length} with frame_index 0 to {length - 1}"
            )
        task = int(rows["task_index"][mine[0]])
        if task not in self._tasks:
            raise DataError(f"{path}: task_index {task} of episode {number}, expected one of meta/tasks.parquet")
        rewards, mask = self._steps(rows, REWARD, mine), self._steps(rows, VALID, mine)
        return Episode(
            index=i,
            length=length,
            actions=self._steps(rows, ACTION, mine),
            proprio=rows[PROPRIO][mine] if PROPRIO in rows else None,
            rewards=None if rewards is None else rewards[:, 0],
            text=self._tasks[task],
            action_mask=self._mask(mask),
            dataset=self.name,
        )

    @staticmethod
    def _steps(rows: dict[str, np.ndarray], column: str, mine: np.ndarray) -> Float32[np.ndarray, "t-1 d"] | None:
        return rows[column][mine[:-1]] if column in rows else None

    @staticmethod
    def _mask(valid: Float32[np.ndarray, "t-1 1"] | None) -> Bool[np.ndarray, "t-1"] | None:
        return None if valid is None else valid[:, 0] > 0.5

    def _video(self, camera: str, i: int) -> VideoFile:
        path = self._video_path(camera, i)
        if path not in self._videos:
            video = VideoFile(path, image_size=self._image_size)
            if video.image_size != self.image_size(camera):
                raise DataError(
                    f"{path}: frames of {video.image_size}, expected {self.image_size(camera)} (height, width) as "
                    f"in info.json"
                )
            self._videos[path] = video
        return self._videos[path]

    def _place(self, camera: str, i: int, frames: Int[np.ndarray, "t"]) -> Int64[np.ndarray, "t"]:
        """Numbers, inside its video file, of an episode's frames: the nearest in time, at most a quarter of a frame
        away."""
        video = self._video(camera, i)
        wanted = float(self._episodes[f"videos/{camera}/from_timestamp"][i]) + frames / self.fps
        after = np.clip(np.searchsorted(video.times, wanted), 1, max(len(video) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(video) - 1)
        nearer = wanted - video.times[before] <= video.times[after] - wanted
        place = np.where(nearer, before, after)
        late = np.abs(video.times[place] - wanted) > 0.25 / self.fps
        if late.any():
            k = int(np.flatnonzero(late)[0])
            raise DataError(
                f"{video.path}: no frame at {wanted[k]:.3f} s for frame {int(frames[k])} of episode {i}, found "
                f"{len(video)} frames up to {video.times[-1]:.3f} s at {self.fps:g} fps"
            )
        return place.astype(np.int64)

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera that was asked for."""
        check_clips(self._lengths, episodes, frames, self.name)
        out = {}
        for camera in self.cameras:
            files = [self._video(camera, int(e)) for e in episodes]
            places = [self._place(camera, int(e), row) for e, row in zip(episodes, frames, strict=True)]
            out[camera] = gather_clips(files, np.stack(places) if places else frames)
        return out


def _download(name: str) -> Path:
    """The local copy of a Hub data set."""
    from huggingface_hub import snapshot_download

    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DataError(f"{name}: no such folder, expected a LeRobot {meta.VERSION} data set or a Hub id (owner/name)")
    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{name}: no such folder, and the Hub gives no data set of this name ({reason})") from error
