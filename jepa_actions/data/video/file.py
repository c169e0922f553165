"""Video frames by number, exactly: any container PyAV reads, from the nearest keyframe, resized on decode."""

from __future__ import annotations

import itertools
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, UInt8
from torch import Tensor

from jepa_actions.data.video.clip_memory import Pictures, new_pictures, pictures_of
from jepa_actions.data.video.decoder import abandon, decoder_for
from jepa_actions.data.video.index import scan
from jepa_actions.data.video.parallel import cores, side_by_side
from jepa_actions.errors import DataError

PIECE = 6  # frames, at least, of a stretch that is decoded by itself to keep another core busy

Clips = tuple[Sequence["VideoFile"], Int[np.ndarray, "b t"]]
_owners = itertools.count()


class VideoFile:
    """One video file; frame `i` is the i-th shown. The file is indexed once; decoders stay open between reads.

    Frames come as RGB uint8 of `image_size` (H, W), by default the file's own; channels are last in memory. Many
    threads may read one file at a time, each with a decoder of its own; a pickled copy and a forked process open theirs
    anew. Without `image_size` the bytes are those that lerobot gives; with it they are the same on every machine, also
    where it is the file's own.

    Raises DataError naming the file where it cannot be opened, holds no video, is truncated, or a frame cannot be
    decoded.
    """

    def __init__(self, path: str | Path, *, image_size: tuple[int, int] | None = None) -> None:
        check_image_size(image_size)
        self.path = Path(path)
        self._index = scan(self.path)
        self.source_size = self._index.size
        self.image_size = image_size or self._index.size
        self._asked = image_size
        self._own()

    def _own(self) -> None:
        # Decoders belong to this object, not to its path: what lies there may be written anew.
        self._owner = next(_owners)
        weakref.finalize(self, abandon, self._owner).atexit = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_owner"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._own()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def fps(self) -> float:
        """Average frames per second, as the container says."""
        return self._index.fps

    @property
    def times(self) -> Float64[np.ndarray, "n"]:
        """When each frame is shown, in seconds."""
        return self._index.times

    @property
    def variable_rate(self) -> bool:
        """Whether some frames are shown clearly longer than others (a quarter more or less than the median)."""
        gaps = np.diff(self._index.times)
        return bool(len(gaps)) and bool(np.abs(gaps - np.median(gaps)).max() > 0.25 * np.median(gaps))

    def read(self, frames: Int[np.ndarray, "n"]) -> UInt8[Tensor, "n 3 h w"]:
        """The frames of these numbers, in this order; a number may come twice."""
        return gather_clips([self], np.asarray(frames, dtype=np.int64)[None])[0]

    def read_into(self, wanted: Sequence[int], rows: Sequence[Sequence[int]], pictures: Pictures) -> None:
        """Write frame `wanted[k]` (ascending) as RGB to every `pictures[rows[k]]`, in this thread."""
        with decoder_for(self._owner, self.path, self._index, wanted[0]) as decoder:
            for places, frame in zip(rows, decoder.frames(wanted), strict=True):
                rgb = decoder.rgb(frame, self._asked)
                for row in places:
                    pictures[row] = rgb

    def check(self, wanted: Sequence[int]) -> None:
        """Raise DataError where an ascending number is not that of a frame."""
        if wanted[0] < 0 or wanted[-1] >= len(self):
            bad = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise DataError(f"{self.path}: frame {bad} asked for, expected 0 to {len(self) - 1}")

    def split(self, wanted: Sequence[int], pieces: int) -> list[slice]:
        """At most `pieces` stretches of ascending frame numbers, each from a keyframe on, for as many decoders."""
        count = min(pieces, len(wanted) // PIECE)
        cuts = [0]
        for k in range(1, count):
            frame = int(self._index.keyframes[self._index.key(wanted[k * len(wanted) // count])])
            cut = bisect_left(wanted, frame)
            if cut - cuts[-1] >= PIECE // 2:
                cuts.append(cut)
        return [slice(a, b) for a, b in pairwise([*cuts, len(wanted)])]


def check_image_size(image_size: tuple[int, int] | None) -> None:
    """Raise DataError unless `image_size` is `None` or (H, W), both at least 1."""
    if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
        raise DataError(f"image_size {image_size} given, expected (height, width), both at least 1")


def gather_clips(
    files: Sequence[VideoFile],
    frames: Int[np.ndarray, "b t"],
    *,
    out: UInt8[Tensor, "b t 3 h w"] | None = None,
    threads: int | None = None,
) -> UInt8[Tensor, "b t 3 h w"]:
    """Frames `frames[i]` of `files[i]` for every clip i; see `gather_cameras`."""
    return gather_cameras({"": (files, frames)}, out=None if out is None else {"": out}, threads=threads)[""]


def gather_cameras(
    clips: Mapping[str, Clips],
    *,
    out: Mapping[str, UInt8[Tensor, "b t 3 h w"]] | None = None,
    threads: int | None = None,
) -> dict[str, UInt8[Tensor, "b t 3 h w"]]:
    """The clips of several cameras: for each the files, one per clip, and the numbers of the frames, `(b, t)`.

    A frame that several clips of a camera share is decoded once. Files, and where they are few, stretches of a file
    between keyframes, are decoded side by side by `threads` threads (default: one per core), the caller among them; the
    result does not depend on how many. `out` are tensors to write to instead of new ones, as `new_clips` makes them.

    Raises DataError naming the file for a frame that does not exist or cannot be decoded, or files of a camera that
    differ in size; ShapeError for `out` of another shape.
    """
    found: dict[str, UInt8[Tensor, "b t 3 h w"]] = {}
    parts: list[_Part] = []
    for camera, (files, frames) in clips.items():
        size = _one_size(files)
        if out is None:
            found[camera], pictures = new_pictures(frames.shape, size)
        else:
            found[camera], pictures = out[camera], pictures_of(out[camera], frames.shape, size)
        parts += _by_file(files, frames, pictures)
    threads = threads or cores()
    pieces = 1 if threads == 1 or not parts else -(-2 * threads // len(parts))
    side_by_side([piece for part in parts for piece in part.pieces(pieces)], threads)
    return found


def _one_size(files: Sequence[VideoFile]) -> tuple[int, int]:
    for file in files:
        if file.image_size != files[0].image_size:
            raise DataError(
                f"{file.path}: frames of {file.image_size} beside {files[0].path} of {files[0].image_size}, expected "
                "one size; set image_size"
            )
    return files[0].image_size if files else (1, 1)


@dataclass(frozen=True)
class _Part:
    """What a request wants of one file: ascending frame numbers, and the pictures each is written to."""

    file: VideoFile
    wanted: list[int]
    rows: list[list[int]]
    pictures: Pictures

    def pieces(self, count: int) -> Iterator[Callable[[], None]]:
        """At most `count` jobs that decode it."""
        for piece in self.file.split(self.wanted, count):
            yield partial(self.file.read_into, self.wanted[piece], self.rows[piece], self.pictures)


def _by_file(files: Sequence[VideoFile], frames: Int[np.ndarray, "b t"], pictures: Pictures) -> Iterator[_Part]:
    # Plain lists: a request has few frames, for which arrays would take ten times as long.
    places: dict[int, dict[int, list[int]]] = {}
    for clip, (file, numbers) in enumerate(zip(files, frames.tolist(), strict=True)):
        rows = places.setdefault(id(file), {})
        for row, number in enumerate(numbers, clip * len(numbers)):
            rows.setdefault(number, []).append(row)
    for file in {id(file): file for file in files}.values():
        rows = places[id(file)]
        if rows:
            wanted = sorted(rows)
            file.check(wanted)
            yield _Part(file, wanted, [rows[number] for number in wanted], pictures)
