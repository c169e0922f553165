"""A data set decoded once: frames in one uncompressed file per camera, so that a clip is one stretch of bytes."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.decoded.episode_store import EpisodeStore
from jepa_actions.data.decoded.writer import FORMAT, LABELS, MARKER, VERSION, npy_header
from jepa_actions.data.types import Episode, VideoDataset, check_clips
from jepa_actions.data.video.clip_memory import Pictures, new_pictures, pictures_of
from jepa_actions.data.video.parallel import side_by_side
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError, ShapeError

PIECE = 1 << 20  # bytes of a request below which a second thread costs more than it saves


class DecodedCache(Viewable):
    """The data set that `write_decoded_cache` wrote to the folder `root`.

    Frames lie in one `.npy` file per camera, `(frames, H, W, 3)` uint8 with episodes one after another, which anything
    can map into memory (`numpy.load(..., mmap_mode="r")`). Clips are copied out with plain reads, into new tensors or
    given ones: that is as quick as the memory, takes none of this process's, and makes a file that is cut off while in
    use an error instead of a crash.

    `cameras` picks some; `image_size` (H, W) must be that of the copy, or None.

    Raises DataError naming the file where one is missing, has another size than it was written with, or contradicts the
    others. `verify` compares every byte.
    """

    def __init__(
        self, root: str | Path, *, cameras: Sequence[str] | None = None, image_size: tuple[int, int] | None = None
    ) -> None:
        self.root = Path(root)
        path = self.root / MARKER
        facts = _read_json(path)
        try:
            self._read(facts, cameras)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path}: {type(error).__name__} {error}; expected what version {VERSION} writes"
            ) from error
        for camera in self.cameras:
            if image_size is not None and self.image_size(camera) != tuple(image_size):
                raise DataError(
                    f"{path}: frames of {self.image_size(camera)}, expected {tuple(image_size)}; decode the data set "
                    "again at that size"
                )

    def _read(self, facts: dict[str, Any], cameras: Sequence[str] | None) -> None:
        path = self.root / MARKER
        if facts["format"] != FORMAT or facts["version"] != VERSION:
            raise DataError(
                f"{path}: {facts['format']!r} version {facts['version']!r}, expected {FORMAT!r} version {VERSION}"
            )
        self.name, self.fps = str(facts["name"]), float(facts["fps"])
        self.action_names, self.proprio_names = _names(facts["action_names"]), _names(facts["proprio_names"])
        self.source_fingerprint = str(facts["source_fingerprint"])
        self._hashes = {str(name): str(value) for name, value in facts["sha256"].items()}
        self._store = EpisodeStore(self.root / LABELS, _read_labels(self.root / LABELS), facts["episodes"])
        self._lengths = self._store.lengths()
        self._begin = np.cumsum(self._lengths) - self._lengths
        self._cameras = {
            str(camera): _Frames(self.root / file["file"], (int(self._lengths.sum()), *file["image_size"], 3))
            for camera, file in _chosen(path, facts["cameras"], cameras).items()
        }

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self._cameras)

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames."""
        if camera not in self._cameras:
            raise DataError(f"{self.name}: no camera {camera!r}, expected one of {', '.join(self.cameras)}")
        return self._cameras[camera].size

    def __len__(self) -> int:
        return len(self._store)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`, as the source had them."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        return self._store.episode(i)

    def read_clips(
        self,
        episodes: Int[np.ndarray, "b"],
        frames: Int[np.ndarray, "b t"],
        *,
        out: Mapping[str, UInt8[Tensor, "b t c h w"]] | None = None,
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera; to `out` where it is given (see `new_clips`)."""
        stretches = self._stretches(episodes, frames)
        missing = [] if out is None else [camera for camera in self._cameras if camera not in out]
        if missing:
            raise ShapeError(f"{self.name}: out has no {missing[0]!r}, expected a tensor for every camera")
        clips: dict[str, UInt8[Tensor, "b t c h w"]] = {}
        jobs: list[Callable[[], None]] = []
        size = 0
        for camera, file in self._cameras.items():
            if out is None:
                clips[camera], pictures = new_pictures(frames.shape, file.size)
            else:
                clips[camera], pictures = out[camera], pictures_of(out[camera], frames.shape, file.size)
            jobs += [partial(file.read, row, pictures[a:b]) for row, a, b in stretches]
            size += pictures.size
        side_by_side(jobs, None if size >= PIECE else 1)
        return clips

    def _stretches(self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]) -> list[tuple[int, int, int]]:
        """Consecutive rows of the files: the first, and where they begin and end in the request."""
        # Plain numbers: for the few of a request they take a third of the time of arrays, and a clip is soon copied.
        found: list[tuple[int, int, int]] = []
        if frames.ndim != 2 or episodes.shape != frames.shape[:1]:
            check_clips(self._lengths, episodes, frames, self.name)
        if frames.size == 0:
            return found
        steps = frames.shape[1]
        for at, episode, row in zip(range(0, frames.size, steps), episodes.tolist(), frames.tolist(), strict=True):
            if not 0 <= episode < len(self) or min(row) < 0 or max(row) >= self._lengths[episode]:
                check_clips(self._lengths, episodes, frames, self.name)
            begin, start = int(self._begin[episode]), 0
            if row == list(range(row[0], row[0] + steps)):
                found.append((begin + row[0], at, at + steps))
                continue
            for end in range(1, steps + 1):
                if end == steps or row[end] != row[end - 1] + 1:
                    found.append((begin + row[start], at + start, at + end))
                    start = end
        return found

    def without_labels(self) -> DecodedCache:
        """The same frames, lengths, times and texts, from an object that holds no label."""
        bare = object.__new__(DecodedCache)
        bare.__dict__.update(self.__dict__)
        bare._store = self._store.without_labels()
        bare.action_names = bare.proprio_names = None
        return bare

    def fingerprint(self) -> str:
        """Of the source's frames and labels, and of being a copy of them."""
        return combined(self.source_fingerprint, FORMAT, VERSION, self.cameras, self.action_names, self.proprio_names)

    def is_current(self, dataset: VideoDataset) -> bool:
        """Whether `dataset`, opened with the same cameras and image size, still is what was copied."""
        return dataset.fingerprint() == self.source_fingerprint

    def verify(self) -> None:
        """Compare every byte with what was written. Raises DataError naming the first file that differs."""
        for name, expected in self._hashes.items():
            try:
                with (self.root / name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise DataError(f"{self.root / name}: cannot be read ({error.strerror})") from error
            if found != expected:
                raise DataError(f"{self.root / name}: damaged, its sha256 is {found}, expected {expected}")


class _Frames:
    """One camera's file. Many threads and forked processes may read it at a time."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.size = path, (shape[1], shape[2])
        self._frame = shape[1] * shape[2] * 3
        header = npy_header(shape)
        self._offset = len(header)
        self._open()
        expected, found = self._offset + shape[0] * self._frame, os.fstat(self._file).st_size
        if found != expected:
            raise DataError(f"{path}: {found} bytes, expected {expected}; is it truncated?")
        if os.pread(self._file, len(header), 0) != header:
            raise DataError(f"{path}: does not begin as a .npy file of uint8 {shape}")

    def _open(self) -> None:
        try:
            self._file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be opened ({error.strerror})") from error
        weakref.finalize(self, os.close, self._file).atexit = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, row: int, pictures: Pictures) -> None:
        """Frames `row` and on to `pictures`."""
        buffer = pictures.data.cast("B")
        place, done = self._offset + row * self._frame, 0
        while done < len(buffer):
            try:
                count = os.preadv(self._file, [buffer[done:]], place + done)
            except OSError as error:
                raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
            if count == 0:
                raise DataError(f"{self.path}: ends at byte {place + done}, expected more; was it truncated?")
            done += count


def _chosen(path: Path, files: dict[str, Any], cameras: Sequence[str] | None) -> dict[str, Any]:
    """The files of the cameras asked for, by their names or what stands behind the last dot of these."""
    if cameras is None:
        return files
    by_name = {
        **{str(name).rpartition(".")[2]: str(name) for name in files},
        **{str(name): str(name) for name in files},
    }
    for camera in cameras:
        if camera not in by_name:
            raise DataError(f"{path}: no camera {camera!r}, expected some of {', '.join(map(str, files))}")
    return {by_name[camera]: files[by_name[camera]] for camera in cameras}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}), expected a decoded cache") from error
    if not isinstance(facts, dict):
        raise DataError(f"{path}: holds a {type(facts).__name__}, expected a JSON object")
    return facts


def _read_labels(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


def _names(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(str(name) for name in names)
