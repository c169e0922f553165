"""Which frames a video file holds and where decoding can begin: read once, without decoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Codecs whose packets are shown in the order in which they are stored.
UNORDERED = frozenset({"av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mjpeg", "png"})


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a file in the order they are shown.

    `position[i]` is the place of frame i among the packets, from 0: decoding frame i needs no later packet. Where the
    container has no time stamps (`stamped` is false) frames are counted from the start, which is the only `keyframes`
    entry, and `pts` and `seek_to` mean nothing.
    """

    stamped: bool
    pts: Int64[np.ndarray, "n"]
    position: Int64[np.ndarray, "n"]
    keyframes: Int64[np.ndarray, "k"]
    seek_to: Int64[np.ndarray, "k"]
    times: Float64[np.ndarray, "n"]
    fps: float
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.times)

    def number(self, pts: int | None) -> int:
        """The frame shown at this time stamp; -1 where none is."""
        if pts is None:
            return -1
        found = int(self.pts.searchsorted(pts))
        return found if found < len(self.pts) and self.pts[found] == pts else -1

    def key(self, frame: int) -> int:
        """Which keyframe decoding begins at to reach `frame` (an index into `keyframes`)."""
        return max(int(self.keyframes.searchsorted(frame, side="right")) - 1, 0)


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream, for the time of a `with`. Raises DataError naming the file."""
    container, stream = open_video(path)
    with container, decoding(path):
        yield container, stream


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns what FFmpeg reports into a DataError naming the file."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: cannot be decoded as video ({error.strerror}); is it damaged or truncated?"
        ) from error


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """A container that the caller closes, and its first video stream. Raises DataError naming the file."""
    import av

    if not path.is_file():
        raise DataError(f"{path}: no such video file")
    with decoding(path):
        container = av.open(str(path), metadata_errors="ignore")
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no video stream")
    stream = container.streams.video[0]
    if getattr(stream, "codec_context", None) is None:
        container.close()
        raise DataError(f"{path}: video of a codec that cannot be decoded here")
    # One thread per decoder: clips, cameras and stretches between keyframes are decoded side by side instead, which
    # keeps every core busy with any codec (see `gather_cameras`) and needs no threads that a fork would lose.
    stream.codec_context.thread_count = 1
    return container, stream


def scan(path: Path) -> VideoIndex:
    """The index of a video file. Raises DataError where it holds no video, is truncated or cannot be read."""
    with opened(path) as (container, stream):
        size = (stream.codec_context.height, stream.codec_context.width)
        fps = float(stream.average_rate or 0)
        index = _from_table(path, container, stream, fps, size) or _from_packets(path, container, stream, fps, size)
    if index is None:
        with opened(path) as (container, stream):
            count = sum(1 for _ in container.decode(stream))
        fps = fps or 1.0
        numbers, start = np.arange(count), np.zeros(min(count, 1), dtype=np.int64)
        index = VideoIndex(False, numbers, numbers, start, start, numbers / fps, fps, size)
    if not index.fps and len(index) > 1:
        index = replace(index, fps=float((len(index) - 1) / (index.times[-1] - index.times[0])))
    if len(index) == 0 or min(size) < 1:
        raise DataError(f"{path}: holds no video frame")
    return index


def _from_packets(
    path: Path, container: InputContainer, stream: VideoStream, fps: float, size: tuple[int, int]
) -> VideoIndex | None:
    """The index by a pass over all packets; `None` without time stamps."""
    packets: list[Packet[VideoStream]] = [packet for packet in container.demux(stream) if packet.size > 0]
    if stream.frames > len(packets) or any(packet.is_corrupt for packet in packets):
        raise DataError(f"{path}: truncated, found {len(packets)} of {stream.frames} frames")
    shown = [(place, packet) for place, packet in enumerate(packets) if not packet.is_discard]
    pts = np.array([packet.pts for _, packet in shown if packet.pts is not None], dtype=np.int64)
    base = float(stream.time_base or 0)
    if not base or len(pts) < len(shown) or len(np.unique(pts)) < len(pts):
        return None
    order = np.argsort(pts)
    key = np.array([packet.is_keyframe for _, packet in shown], dtype=bool)[order]
    seek_to = np.array([packet.pts if packet.dts is None else packet.dts for _, packet in shown], dtype=np.int64)
    position = np.array([place for place, _ in shown], dtype=np.int64)[order]
    if not key.any():
        return None
    pts = pts[order]
    return VideoIndex(True, pts, position, np.flatnonzero(key), seek_to[order][key], pts * base, fps, size)


def _from_table(
    path: Path, container: InputContainer, stream: VideoStream, fps: float, size: tuple[int, int]
) -> VideoIndex | None:
    """The index from the table that MP4 keeps of its packets, where that says all: nothing is read but the table.

    The table has decoding times, so it will do only for codecs that show packets in their stored order.
    """
    if stream.codec_context.codec.name not in UNORDERED or "mp4" not in container.format.name:
        return None
    entries = list(stream.index_entries)
    if not entries or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
        return None
    pts = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    key = np.array([entry.is_keyframe for entry in entries], dtype=bool)
    base = float(stream.time_base or 0)
    if not base or (np.diff(pts) <= 0).any() or not key[0]:
        return None
    held = path.stat().st_size
    whole = sum(entry.pos + entry.size <= held for entry in entries)
    if whole < len(entries):
        raise DataError(f"{path}: truncated, found {whole} of {len(entries)} frames")
    # An edit list or composition offsets would show on the first packet.
    first = next(iter(container.demux(stream)), None)
    if first is None or (first.pts, first.dts, first.pos) != (pts[0], pts[0], entries[0].pos):
        return None
    return VideoIndex(True, pts, np.arange(len(pts)), np.flatnonzero(key), pts[key], pts * base, fps, size)
