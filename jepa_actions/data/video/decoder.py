"""Decoders that stay open between reads, and decode no packet that the wanted frames do not need."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from jepa_actions.data.video.index import VideoIndex, decoding, open_video
from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet
    from av.video.stream import VideoStream

SKIP_AT_MOST = 8  # packets passed over before a seek is cheaper
AGAIN_AT_MOST = 8  # packets decoded twice before it is cheaper to let a decoder run ahead of what is wanted
OPEN_AT_MOST = 32  # decoders kept open by a process


@dataclass
class _Run:
    """Frames for which packets `key` to `last` are decoded, all of them; before the next run some are left out."""

    key: int
    last: int
    frames: list[int]


class Decoder:
    """One open video file. Not for two threads at once.

    A codec that reorders frames holds the last ones back until it has seen later packets. Instead of decoding those, a
    decoder near its keyframe is emptied ("drained"), and begins at a keyframe again next time.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self.path, self.index = path, index
        # Single numbers come out of these much sooner than out of the arrays.
        self._pts, self._place, self._keys = (table.data for table in (index.pts, index.position, index.keyframes))
        self._convert: _ToRGB | None = None
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_video(self.path)
        self._codec = self._stream.codec_context
        self._packets = self._container.demux(self._stream)
        self._held: Packet[VideoStream] | None = None  # comes before the others
        self._ready: deque[tuple[int, VideoFrame]] = deque()
        self._fed = -1  # place of the packet last taken
        self._shown = -1  # frame that came out last
        self._count = 0  # frames that came out
        self._drained = False
        self._budget = 0  # packets that may still be taken

    def close(self) -> None:
        """Free the file; the decoder cannot be used after."""
        self._ready.clear()
        self._container.close()

    def cost(self, frame: int) -> int:
        """About how many packets would be decoded to reach `frame` from here."""
        key, position = self._key(frame), self._place[frame]
        return position - self._fed if self._reaches(frame, key) else position - key + SKIP_AT_MOST

    def frames(self, wanted: Sequence[int]) -> Iterator[VideoFrame]:
        """Each of `wanted`, which ascend. Raises DataError for a frame that is damaged or cannot be decoded, and what
        FFmpeg raises (`decoder_for` turns that into DataError)."""
        runs = self._runs(wanted)
        for i, run in enumerate(runs):
            # No whole file needs more packets; a damaged one shall not keep its reader busy for ever.
            self._budget = 2 * len(self.index) + 64
            if not self._reaches(run.frames[0], run.key):
                self._begin(run.frames[0], run.key)
            near = run.last - self._key(run.frames[-1]) < AGAIN_AT_MOST
            drain = self.index.stamped and (near or i + 1 < len(runs))
            for frame in run.frames:
                yield self._until(frame, run.last if drain else len(self.index) + self._budget)

    def rgb(self, frame: VideoFrame, image_size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w3"]:
        """A frame as rows of RGB, of the size asked for or its own; see `_ToRGB`."""
        if self._convert is None or self._convert.image_size != image_size:
            self._convert = _ToRGB(image_size, self.index.size)
        if image_size is None and (frame.height, frame.width) != self.index.size:
            raise DataError(
                f"{self.path}: a frame of {(frame.height, frame.width)} among those of {self.index.size} (height, "
                "width), expected one size; set image_size"
            )
        return self._convert(frame)

    def _key(self, frame: int) -> int:
        """The packet at which decoding begins to reach `frame`."""
        return self._place[self._keys[max(bisect_right(self._keys, frame) - 1, 0)]]

    def _runs(self, wanted: Sequence[int]) -> list[_Run]:
        runs: list[_Run] = []
        for frame in wanted:
            key, place = self._key(frame), self._place[frame]
            if not runs or key > runs[-1].last + 1:
                runs.append(_Run(key, place, []))
            runs[-1].frames.append(frame)
            runs[-1].last = max(runs[-1].last, place)
        return runs

    def _number(self, pts: int | None, guess: int) -> int:
        if 0 <= guess < len(self._pts) and self._pts[guess] == pts:
            return guess
        return self.index.number(pts)

    def _reaches(self, frame: int, key: int) -> bool:
        return not self._drained and frame > self._shown and key <= self._fed + 1

    def _begin(self, frame: int, key: int) -> None:
        """Make `key` the packet that comes next, and the codec as new."""
        if not self.index.stamped:
            self._container.close()
            self._open()
            self._budget = 2 * len(self.index) + 64
            return
        self._ready.clear()
        self._shown, self._drained = -1, False
        if 0 <= key - self._fed - 1 <= SKIP_AT_MOST and self._pass_over(key):
            self._codec.flush_buffers()
            return
        # Containers index by decoding time, so a seek may land one keyframe late: then ask for an earlier one.
        number = self.index.key(frame)
        for attempt in dict.fromkeys((number, max(number - 1, 0), 0)):
            self._container.seek(int(self.index.seek_to[attempt]), stream=self._stream)
            self._packets, self._held = self._container.demux(self._stream), None
            if self._pass_over(key):
                return
        raise DataError(f"{self.path}: no seek reaches frame {frame} of {len(self.index)}")

    def _pass_over(self, key: int) -> bool:
        """Leave out packets before `key`; false where that is behind."""
        while (packet := self._take()) is not None:
            if self._fed >= key and self.index.number(packet.pts) >= 0:
                self._held, late = packet, self._fed > key
                self._fed -= 1
                return not late
        return False

    def _take(self) -> Packet[VideoStream] | None:
        """The next packet that holds something; `None` at the end of the file."""
        while True:
            packet, self._held = self._held or next(self._packets, None), None
            if packet is None or self._budget == 0:
                return None
            self._budget -= 1
            if packet.size > 0:
                break
        number = self._number(packet.pts, self._fed + 1) if self.index.stamped else -1
        self._fed = self._place[number] if number >= 0 else self._fed + 1
        return packet

    def _until(self, frame: int, last: int) -> VideoFrame:
        """Decode on to `frame`; no packet after `last` is needed."""
        while True:
            while self._ready:
                self._shown, picture = self._ready.popleft()
                if self._shown > frame or (self._shown == frame and picture.is_corrupt):
                    raise DataError(f"{self.path}: frame {frame} of {len(self.index)} is damaged")
                if self._shown == frame:
                    return picture
            if self._drained:
                raise DataError(
                    f"{self.path}: frame {frame} of {len(self.index)} cannot be decoded; is it damaged or truncated?"
                )
            packet = self._take() if self._fed < last else None
            self._drained = packet is None
            for picture in self._codec.decode(packet):
                number = self._number(picture.pts, self._shown + 1) if self.index.stamped else self._count
                self._count += 1
                if number >= 0:
                    self._ready.append((number, picture))


class _ToRGB:
    """A decoded frame as RGB.

    Where a size is asked for, the same bytes on every machine (bit-exact swscale, one thread). In its own size, the
    bytes of `VideoFrame.to_rgb`, which torchvision and lerobot give and which are quicker to make.
    """

    def __init__(self, image_size: tuple[int, int] | None, source: tuple[int, int]) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self.image_size = image_size
        self._height, self._width = image_size or source
        smaller = self._height < source[0] or self._width < source[1]
        method = Interpolation.AREA if smaller else Interpolation.BILINEAR
        exact = method | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        self._flags = None if image_size is None else exact
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w3"]:
        rgb = self._reformatter.reformat(
            frame, width=self._width, height=self._height, format="rgb24", interpolation=self._flags, threads=1
        )
        plane = rgb.planes[0]  # the array keeps it alive
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(self._height, plane.line_size)
        return lines[:, : 3 * self._width]


class _Idle:
    """Decoders that nobody uses now, the one used last at the end."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.decoders: OrderedDict[Decoder, int] = OrderedDict()
        self.abandoned: deque[int] = deque()  # owners that are gone; noted without the lock, by finalizers

    def take(self, owner: int, frame: int) -> Decoder | None:
        """The owner's decoder that is nearest to `frame`, now the caller's."""
        with self.lock:
            mine = [decoder for decoder, user in self.decoders.items() if user == owner]
            nearest = min(mine, key=lambda decoder: decoder.cost(frame), default=None)
            if nearest is not None:
                del self.decoders[nearest]
            return nearest

    def give(self, owner: int, decoder: Decoder) -> None:
        """Take a decoder back, and close those that were not used for longest or have no owner any more."""
        with self.lock:
            self.decoders[decoder] = owner
            gone = set()
            while self.abandoned:
                gone.add(self.abandoned.popleft())
            old = [other for other, user in self.decoders.items() if user in gone]
            for other in old:
                del self.decoders[other]
            while len(self.decoders) > OPEN_AT_MOST:
                old.append(self.decoders.popitem(last=False)[0])
        for other in old:
            other.close()


_idle = _Idle()
_of_parents: list[_Idle] = []


def _after_fork() -> None:
    # A child shares open files with its parent, and a codec may have threads that the child lacks: it begins anew and
    # never touches, not even frees, what it was born with.
    global _idle
    _of_parents.append(_idle)
    _idle = _Idle()


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def decoder_for(owner: int, path: Path, index: VideoIndex, frame: int) -> Iterator[Decoder]:
    """A decoder of `path` for the caller alone, an open one where there is one; `frame` is what it will be asked for
    first. A decoder that failed is not used again."""
    idle = _idle
    decoder = idle.take(owner, frame) or Decoder(path, index)
    try:
        with decoding(path):
            yield decoder
    except BaseException:
        decoder.close()
        raise
    idle.give(owner, decoder)


def abandon(owner: int) -> None:
    """Close the decoders of an owner, soon."""
    _idle.abandoned.append(owner)
