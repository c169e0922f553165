"""Write LeRobot data sets, v3.0 and v2.1, one frame after another; an interrupted one keeps its finished episodes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from jepa_actions.data.lerobot import parts
from jepa_actions.data.lerobot.checksums import seal
from jepa_actions.data.lerobot.columns import Columnist, may_be_absent
from jepa_actions.data.lerobot.episode import OpenEpisode, feature_name
from jepa_actions.data.lerobot.layout import MIB, same_columns, write_v30, write_videos
from jepa_actions.data.lerobot.meta import read_info
from jepa_actions.data.lerobot.parts import Part, Settings, Version
from jepa_actions.data.lerobot.stats import Stats
from jepa_actions.data.lerobot.video_writer import Codec, check_video
from jepa_actions.data.lerobot.write_v21 import write_v21
from jepa_actions.data.types import Episode
from jepa_actions.errors import DataError, ShapeError

Frames = UInt8[np.ndarray, "t 3 h w"] | UInt8[Tensor, "t 3 h w"] | Iterable[np.ndarray]


class LeRobotWriter:
    """Writes a data set into `root`, which must be empty or not exist.

    ```python
    with LeRobotWriter("pushes", fps=10, cameras={"front": (96, 96)}, action_names=("dx", "dy")) as writer:
        writer.add_episode({"front": frames}, Episode(0, len(frames), actions=actions, text="push the cup"))
    ```

    T frames have T-1 actions in memory and T rows in the file: the last row repeats the last action, with
    `action_valid` 0. Unknown actions likewise. Actions that a model inferred go to `pseudo_action` or `latent_action`
    (and further ones of other models to `pseudo_action.<model>`), with a `_valid` column of their own: none ever comes
    into `action`. Every episode has proprio, rewards and simulator state, or none has.

    A finished episode is on disk. Leaving the `with` block, also by an error, puts the finished ones together;
    `finish_interrupted(root)` does it after the process was killed. Until then there is no `meta/info.json`, which is
    written last, before the checksums.

    Args:
        root: the new data set's folder.
        fps: frames per second; the time stamps are frame / fps.
        cameras: (H, W) by name; `observation.images.` is put before a name without it.
        action_names, proprio_names: of the dimensions; numbered where not given.
        discrete: the number of values of every action dimension, where actions are whole numbers.
        action_bounds: lowest and highest of every dimension that an action may have, kept in `meta/info.json`.
        robot_type: kept in `meta/info.json`.
        version: "v3.0" (many episodes to a file) or "v2.1" (a file for each).
        codec, gop, crf: of the video; every `gop`-th frame is a key frame; a smaller `crf` is finer (default 18 for
            h264, 26 for av1).
        data_mb, video_mb: how large files grow, in MiB; chunk_files: how many come into a folder.
        features: further columns: `{"dtype": ..., "shape": (n,), "names": ...}` by name.

    Raises:
        DataError: `root` holds something, or a setting cannot be.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        fps: float,
        cameras: Mapping[str, tuple[int, int]],
        action_names: Sequence[str] | None = None,
        proprio_names: Sequence[str] | None = None,
        discrete: Sequence[int] | None = None,
        action_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
        robot_type: str | None = None,
        version: Version = "v3.0",
        codec: Codec = "h264",
        gop: int = 2,
        crf: int | None = None,
        data_mb: float = 100,
        video_mb: float = 200,
        chunk_files: int = 1000,
        features: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.root = Path(root)
        _check(self.root, version, cameras, codec, gop, fps)
        if chunk_files < 1 or not data_mb > 0 or not video_mb > 0:
            raise DataError(
                f"{root}: chunk_files {chunk_files}, data_mb {data_mb}, video_mb {video_mb}, expected above 0"
            )
        sizes = {feature_name(name): (int(h), int(w)) for name, (h, w) in cameras.items()}
        self.settings = Settings(
            float(fps), sizes, robot_type, version, codec, gop, crf, data_mb, video_mb, chunk_files
        )
        self.columnist = Columnist(action_names, proprio_names, discrete, action_bounds, features or {})
        parts.write_settings(self.root, self.settings)
        self._finished: dict[int, Part] = {}
        self._open: set[int] = set()
        self._begun = 0
        self._waiting = 0  # bytes of video since videos were last joined

    def __len__(self) -> int:
        """Episodes finished so far."""
        return len(self._finished)

    def begin(self) -> OpenEpisode:
        """Open the next episode; several may be open at once, and keep the order in which they were begun."""
        number = self._begun
        self._begun += 1
        self._open.add(number)
        return OpenEpisode(self, number)

    def add_episode(
        self,
        frames: Mapping[str, Frames],
        labels: Episode | None = None,
        *,
        text: str | None = None,
        seed: int | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write one whole episode: for every camera (T, 3, H, W) uint8, or an iterable of frames (3, H, W)."""
        episode = self.begin()
        try:
            if len({len(f) for f in frames.values() if isinstance(f, np.ndarray | Tensor)}) > 1:
                lengths = {name: len(f) for name, f in frames.items() if isinstance(f, np.ndarray | Tensor)}
                raise ShapeError(
                    f"{self.root}, episode {episode.number}: frames per camera {lengths}, expected as many"
                )
            for images in _together(frames, f"{self.root}, episode {episode.number}"):
                episode.add_frame(images)
            episode.finish(labels, text=text, seed=seed, columns=columns)
        finally:
            episode.discard()

    def finalize(self) -> None:
        """Put the finished episodes together and write the metadata. Raises DataError where there are none."""
        for number in sorted(self._open):
            raise DataError(f"{self.root}: episode {number} is still open, expected all finished or discarded")
        assemble(self.root, self.settings, [self._finished[k] for k in sorted(self._finished)])

    def abandon(self) -> None:
        """Drop everything, finished episodes too."""
        self._open.clear()
        self._finished.clear()
        for name in (parts.WORK, "videos", "data", "meta"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open.clear()
        if error is None or self._finished:
            self.finalize()
        else:
            self.abandon()

    def dropped(self, number: int) -> None:
        """Called by an episode that is discarded."""
        self._open.discard(number)

    def keep(self, number: int, part: Part, columns: dict[str, np.ndarray], stats: dict[str, Stats]) -> None:
        """Called by an episode that is finished: store it, and join videos where enough wait."""
        fixed = {name for name in part.features if not may_be_absent(name)}
        for other in self._finished.values():
            before = {name for name in other.features if not may_be_absent(name)}
            if fixed != before:
                name = sorted(fixed ^ before)[0]
                has = "has" if name in fixed else "lacks"
                raise DataError(f"{self.root}, episode {number}: {has} {name}, expected it in all episodes or in none")
            break
        self._finished[number] = parts.keep(self.root, number, part, columns, stats)
        self._open.discard(number)
        self._waiting += max(self._finished[number].video_bytes.values())
        if self.settings.version == "v3.0" and self._waiting >= self.settings.video_mb * MIB:
            first_open = min(self._open, default=self._begun)
            ready = [self._finished[k] for k in sorted(self._finished) if k < first_open]
            write_videos(self.root, ready, self.settings, final=False)
            self._waiting = 0


def assemble(root: Path, settings: Settings, episodes: Sequence[Part]) -> None:
    """Make a data set of finished episodes: files, metadata, checksums. May be called again after a crash."""
    if not episodes:
        raise DataError(f"{root}: no finished episode, expected at least one")
    write = write_v30 if settings.version == "v3.0" else write_v21
    info = write(root, episodes, settings, same_columns(episodes))
    parts.write_text(root / "meta" / "info.json", json.dumps(info, indent=4, ensure_ascii=False))
    seal(root)
    parts.drop_work(root)


def finish_interrupted(root: str | Path) -> int:
    """Put together what a killed writer left in `root`; returns the number of episodes, those it had finished.

    Raises DataError where nothing was left there.
    """
    root = Path(root)
    info = root / "meta" / "info.json"
    if info.is_file() and (root / parts.WORK).is_dir():  # killed while it was tidying up
        seal(root)
        parts.drop_work(root)
        return read_info(root).total_episodes
    settings, episodes = parts.read_parts(root)
    assemble(root, settings, episodes)
    return len(episodes)


def _check(root: Path, version: str, cameras: Mapping[str, tuple[int, int]], codec: str, gop: int, fps: float) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        unfinished = (root / parts.WORK).is_dir()
        hint = f"; {parts.WORK} in it is of an interrupted writer, see finish_interrupted" if unfinished else ""
        raise DataError(f"{root}: holds something already, expected a new or an empty folder{hint}")
    if version not in get_args(Version):
        raise DataError(f"{root}: version {version!r}, expected one of {', '.join(get_args(Version))}")
    if not cameras or any(set(name) & set("/\\") for name in cameras):
        raise DataError(f"{root}: cameras {list(cameras)}, expected at least one, without slashes")
    if len({feature_name(name) for name in cameras}) < len(cameras):
        raise DataError(f"{root}: cameras {list(cameras)}, expected each once")
    for name, size in cameras.items():
        check_video(codec, size, gop, fps, f"{root}, camera {name!r}")


def _together(frames: Mapping[str, Frames], place: str) -> Iterator[dict[str, Any]]:
    """One frame of every camera at a time. Raises ShapeError where one camera ends before another."""
    streams = {name: iter(images) for name, images in frames.items()}
    end = object()
    while True:
        step = {name: next(stream, end) for name, stream in streams.items()}
        over = [name for name, image in step.items() if image is end]
        if len(over) == len(step):
            return
        if over:
            raise ShapeError(f"{place}: camera {over[0]!r} has fewer frames than another, expected as many of each")
        yield step
