"""Frames into mp4, one after another, and files joined without encoding again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from jaxtyping import UInt8

from jepa_actions.errors import DataError, ShapeError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

Codec = Literal["h264", "av1"]
ENCODERS: dict[str, str] = {"h264": "libx264", "av1": "libsvtav1"}
CRF: dict[str, int] = {"h264": 18, "av1": 26}  # mean error of about 1.5 grey levels on synthetic frames


def check_video(codec: str, size: tuple[int, int], gop: int, fps: float, place: str) -> None:
    """Raise DataError for a codec that is not known, or a frame size (H, W), GOP or rate that cannot be encoded."""
    if codec not in get_args(Codec):
        raise DataError(f"{place}: codec {codec!r}, expected one of {', '.join(get_args(Codec))}")
    if len(size) != 2 or min(size) < 16 or size[0] % 2 or size[1] % 2:
        raise DataError(
            f"{place}: frames of {tuple(size)} (height, width), expected even numbers from 16 up, for yuv420p stores "
            "colour at half the size; read or render at another size"
        )
    if gop < 1 or not fps > 0:
        raise DataError(f"{place}: gop {gop} and fps {fps}, expected at least 1 and a positive number")


def rate(fps: float) -> Fraction:
    """Frames per second as a fraction that a container can hold."""
    return Fraction(fps).limit_denominator(100_000)


class VideoWriter:
    """An mp4 of one camera. Every `gop`-th frame is a key frame, none refers to a later one; yuv420p.

    The same frames give the same bytes on every machine: the encoder runs in one thread. Raises DataError where the
    encoder or the disk refuses, ShapeError for a frame of another shape.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], fps: float, codec: Codec = "h264", gop: int = 2, crf: int | None = None
    ) -> None:
        check_video(codec, size, gop, fps, str(path))
        self.path, self.size, self.frames = path, size, 0
        self._base = 1 / rate(fps)
        options = {"g": str(gop), "crf": str(CRF[codec] if crf is None else crf)}
        if codec == "h264":
            options |= {"preset": "veryfast", "bf": "0", "sc_threshold": "0"}
        else:
            os.environ.setdefault("SVT_LOG", "1")  # else it writes a page of settings for every file
            options |= {"preset": "8", "svtav1-params": "lp=1:pred-struct=1"}
        with _place(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = _create(path)
            self._stream = cast("VideoStream", self._container.add_stream(ENCODERS[codec], rate(fps), options=options))
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._base
            self._stream.codec_context.thread_count = 1

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append one RGB frame, channels last."""
        from av import VideoFrame

        if frame.dtype != np.uint8 or frame.shape != (*self.size, 3):
            raise ShapeError(
                f"{self.path.name}: frame {self.frames} is {frame.dtype} {frame.shape}, expected uint8 of "
                f"{(*self.size, 3)}"
            )
        with _place(self.path):
            picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = self.frames, self._base
            self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds and the index. An mp4 of no frame is removed."""
        with _place(self.path):
            if self.frames:
                self._container.mux(self._stream.encode())
            self._container.close()
        if not self.frames:
            self.path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Stop, and leave a file that nobody should read."""
        import av

        with suppress(av.FFmpegError, OSError):  # what is dropped need not be whole
            self._container.close()


def join(parts: Sequence[Path], target: Path, fps: float, facts: dict[str, Any]) -> None:
    """One mp4 of `parts` in their order, copied without encoding again; `facts` become its `comment`, as JSON, with the
    number of `frames`.

    The target appears whole or not at all. Raises DataError where a part cannot be read, or was encoded otherwise than
    the first.
    """
    import av

    work = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    counts = [count_frames(part) for part in parts]
    with _place(target), _create(work, movflags="faststart") as out:
        out.metadata["comment"] = json.dumps({**facts, "frames": sum(counts)})
        stream: Any = None
        first, before = b"", 0
        for part, count in zip(parts, counts, strict=True):
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                header = bytes(video.codec_context.extradata or b"")
                if stream is None:
                    stream, first = out.add_stream_from_template(video, opaque=True), header
                    stream.time_base = video.time_base
                if header != first or video.time_base is None:
                    raise DataError(f"{part}: encoded otherwise than {parts[0]}, expected files of one encoder to join")
                shift = round(before / (rate(fps) * video.time_base))
                for packet in source.demux(video):
                    if packet.size:
                        packet.pts, packet.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
                        packet.stream = stream
                        out.mux(packet)
            before += count
    os.replace(work, target)


def count_frames(path: Path) -> int:
    """Frames of a video file, from its packets."""
    import av

    with _place(path), av.open(str(path)) as container:
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)


def _create(path: Path, **options: str) -> OutputContainer:
    import av

    return av.open(str(path), "w", format="mp4", options=options)


@contextmanager
def _place(path: Path) -> Iterator[None]:
    import av

    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be written or read as video ({error.strerror or error})") from error
