"""Video frames by number, exactly: any container PyAV reads, from the nearest keyframe, resized on decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64, UInt8
from torch import Tensor

from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

SKIP_AT_MOST = 8  # frames decoded and thrown away before a seek is cheaper


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    if not path.is_file():
        raise DataError(f"{path}: no such video file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: cannot be decoded as video ({error.strerror}); is it damaged or truncated?"
        ) from error


@dataclass(frozen=True)
class _Index:
    """Frames in the order they are shown. `pts` is empty for a container without time stamps: then frames are counted
    from the start."""

    pts: Int64[np.ndarray, "n"]
    keyframes: Int64[np.ndarray, "k"]
    seek_to: Int64[np.ndarray, "k"]
    times: Float64[np.ndarray, "n"]
    fps: float
    size: tuple[int, int]


def _scan(path: Path) -> _Index:
    with _opened(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size > 0]
        if stream.frames > len(packets) or any(packet.is_corrupt for packet in packets):
            raise DataError(f"{path}: truncated, found {len(packets)} of {stream.frames} frames")
        shown = [packet for packet in packets if not packet.is_discard]
        size = (stream.codec_context.height, stream.codec_context.width)
        fps = float(stream.average_rate or 0)
        pts = np.array([packet.pts for packet in shown if packet.pts is not None], dtype=np.int64)
        base = float(stream.time_base or 0)
        if base and len(pts) == len(shown) and len(np.unique(pts)) == len(pts):
            order = np.argsort(pts)
            key = np.array([packet.is_keyframe for packet in shown], dtype=bool)[order]
            seek_to = np.array([packet.pts if packet.dts is None else packet.dts for packet in shown], dtype=np.int64)[
                order
            ]
            index = _Index(pts[order], np.flatnonzero(key), seek_to[key], pts[order] * base, fps, size)
        else:
            none = np.zeros(0, dtype=np.int64)
            index = _Index(none, none, none, np.zeros(0), fps, size)
    if len(index.pts) == 0:
        with _opened(path) as (container, stream):
            count = sum(1 for _ in container.decode(stream))
        times = np.arange(count) / (fps or 1.0)
        index = _Index(index.pts, index.keyframes, index.seek_to, times, fps or 1.0, size)
    if len(index.times) == 0 or min(size) < 1:
        raise DataError(f"{path}: holds no video frame")
    return index


class VideoFile:
    """One video file; frame `i` is the i-th shown. The file is indexed once and opened anew by each `read`.

    Frames come as RGB uint8 of `image_size` (H, W), by default the file's own. Raises DataError naming the file where
    it cannot be opened, holds no video, is truncated, or a frame cannot be decoded.
    """

    def __init__(self, path: str | Path, *, image_size: tuple[int, int] | None = None) -> None:
        check_image_size(image_size)
        self.path = Path(path)
        self._index = _scan(self.path)
        self.source_size = self._index.size
        self.image_size = image_size or self._index.size

    def __len__(self) -> int:
        return len(self._index.times)

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
        wanted, back = np.unique(np.asarray(frames, dtype=np.int64), return_inverse=True)
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= len(self)):
            bad = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise DataError(f"{self.path}: frame {bad} asked for, expected 0 to {len(self) - 1}")
        height, width = self.image_size
        out = torch.empty((len(wanted), 3, height, width), dtype=torch.uint8)
        if len(wanted):
            resize = _Resizer(self.image_size, self.source_size)
            with _opened(self.path) as (container, stream):
                for slot, frame in enumerate(self._walk(container, stream, wanted.tolist())):
                    out[slot] = torch.from_numpy(resize(frame)).permute(2, 0, 1)
        return out[torch.from_numpy(back)]

    def _walk(self, container: InputContainer, stream: VideoStream, wanted: list[int]) -> Iterator[VideoFrame]:
        numbered: Iterator[tuple[int, VideoFrame]] = self._numbered(container, stream)
        here = -1
        for target in wanted:
            key = int(np.searchsorted(self._index.keyframes, target, side="right")) - 1
            if key >= 0 and self._index.keyframes[key] - here > SKIP_AT_MOST:
                here, frame, numbered = self._seek(container, stream, key, target)
            while here < target:
                step = next(numbered, None)
                if step is None:
                    raise DataError(
                        f"{self.path}: frame {target} of {len(self)} cannot be decoded; is it damaged or truncated?"
                    )
                here, frame = step
            if here != target or frame.is_corrupt:
                raise DataError(f"{self.path}: frame {target} of {len(self)} is damaged")
            yield frame

    def _seek(
        self, container: InputContainer, stream: VideoStream, key: int, target: int
    ) -> tuple[int, VideoFrame, Iterator[tuple[int, VideoFrame]]]:
        # Containers index by decoding time, so a seek may land one keyframe late: then ask for an earlier one.
        for attempt in dict.fromkeys((key, max(key - 1, 0), 0)):
            container.seek(int(self._index.seek_to[attempt]), stream=stream)
            numbered = self._numbered(container, stream)
            first = next(numbered, None)
            if first is not None and first[0] <= target:
                return first[0], first[1], numbered
        raise DataError(f"{self.path}: no seek reaches frame {target} of {len(self)}")

    def _numbered(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[int, VideoFrame]]:
        pts = self._index.pts
        for count, frame in enumerate(container.decode(stream)):
            if len(pts) == 0:
                yield count, frame
            elif frame.pts is not None:
                number = int(np.searchsorted(pts, frame.pts))
                if number < len(pts) and pts[number] == frame.pts:
                    yield number, frame


class _Resizer:
    """A decoded frame as RGB of one size, the same bytes on every machine (bit-exact swscale, one thread)."""

    def __init__(self, size: tuple[int, int], source: tuple[int, int]) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        smaller = size[0] < source[0] or size[1] < source[1]
        method = Interpolation.AREA if smaller else Interpolation.BILINEAR
        self._flags = method | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        self._reformatter = VideoReformatter()
        self._size = size

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        height, width = self._size
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=self._flags, threads=1
        )
        return np.ascontiguousarray(rgb.to_ndarray())


def check_image_size(image_size: tuple[int, int] | None) -> None:
    """Raise DataError unless `image_size` is `None` or (H, W), both at least 1."""
    if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
        raise DataError(f"image_size {image_size} given, expected (height, width), both at least 1")


def gather_clips(files: Sequence[VideoFile], frames: Int[np.ndarray, "b t"]) -> UInt8[Tensor, "b t 3 h w"]:
    """Frames `frames[i]` of `files[i]` for every clip i; a file that several clips share is decoded once."""
    steps = frames.shape[1]
    size = files[0].image_size if files else (1, 1)
    out = torch.empty((len(files), steps, 3, *size), dtype=torch.uint8)
    rows: dict[int, list[int]] = {}
    for row, file in enumerate(files):
        if file.image_size != size:
            raise DataError(
                f"{file.path}: frames of {file.image_size} beside {files[0].path} of {size}, expected one size; set "
                f"image_size"
            )
        rows.setdefault(id(file), []).append(row)
    for members in rows.values():
        images = files[members[0]].read(frames[members].ravel())
        out[members] = images.reshape(len(members), steps, *images.shape[1:])
    return out
