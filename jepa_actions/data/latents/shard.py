"""One shard of stored latents: a safetensors file, written piece by piece and read through a memory map.

A frame's tokens are kept as their difference, in float16, from those of the first frame of its chunk, which are kept in
float32: frames of a video differ little, so that the rounding is an order of magnitude below that of plain float16
(which alone would move the losses of a training by some thousandths). Per camera: `latents.CAMERA` (frames, tokens,
width) F16, `origin.CAMERA` (chunks, tokens, width) F32.

The file is plain safetensors (an 8-byte length, a JSON header, the tensors one after another), so that any other
program opens it; it is laid out here because the library's own writer wants all tensors in memory at once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float

from jepa_actions.errors import DataError

HALF, FULL = np.dtype("<f2"), np.dtype("<f4")
WRITING = ".writing-"  # how the name of an unfinished file begins
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Tokens = dict[str, tuple[int, int]]  # camera: tokens per frame and their width


def frame_bytes(tokens: Tokens) -> int:
    """What a frame takes, all cameras together, beside its chunk's origin."""
    return sum(n * width for n, width in tokens.values()) * HALF.itemsize


@dataclass(frozen=True)
class ShardLayout:
    """What a shard holds and where: enough to write its header, and to know whether a file is that shard."""

    lengths: tuple[int, ...]  # frames of its episodes
    tokens: Tokens
    chunk: int  # frames that share an origin; episodes begin a chunk
    key: str  # of the cache that it belongs to
    first: int  # number of its first episode

    @property
    def rows(self) -> int:
        """Frames."""
        return sum(self.lengths)

    @property
    def chunks(self) -> int:
        """Origins."""
        return sum(-(-length // self.chunk) for length in self.lengths)

    @cached_property
    def header(self) -> bytes:
        """The file's beginning, up to the first tensor."""
        header: dict[str, Any] = {"__metadata__": {"key": self.key, "first_episode": str(self.first)}}
        begin = 0
        for name, dtype, shape in self._tensors():
            end = begin + math.prod(shape) * dtype.itemsize
            kind = "F16" if dtype == HALF else "F32"
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @cached_property
    def places(self) -> dict[str, tuple[int, np.dtype[Any], tuple[int, int, int]]]:
        """Per tensor, where in the file it begins, its dtype and its shape."""
        begin, out = len(self.header), {}
        for name, dtype, shape in self._tensors():
            out[name] = (begin, dtype, shape)
            begin += math.prod(shape) * dtype.itemsize
        return out

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in self._tensors())

    def _tensors(self) -> Iterator[tuple[str, np.dtype[Any], tuple[int, int, int]]]:
        for camera, shape in self.tokens.items():  # wider numbers first, so that all are aligned
            yield f"origin.{camera}", FULL, (self.chunks, *shape)
        for camera, shape in self.tokens.items():
            yield f"latents.{camera}", HALF, (self.rows, *shape)


class ShardWriter:
    """Writes a shard beside its place; `finish` moves it there. Left before that, nothing stays.

    Raises DataError naming the file where it cannot be written.
    """

    def __init__(self, path: Path, layout: ShardLayout) -> None:
        self.path, self.layout = path, layout
        self._draft = path.with_name(WRITING + path.name)

    def __enter__(self) -> ShardWriter:
        try:
            self._file = self._draft.open("wb")
            self._file.write(self.layout.header)
        except OSError as error:
            raise _write_error(self.path, error) from error
        return self

    def put(self, name: str, row: int, values: Float[np.ndarray, "t p d"]) -> None:
        """Write rows of one tensor, from `row` on."""
        begin, dtype, shape = self.layout.places[name]
        try:
            self._file.seek(begin + row * math.prod(shape[1:]) * dtype.itemsize)
            self._file.write(np.ascontiguousarray(values, dtype=dtype).data)
        except OSError as error:
            raise _write_error(self.path, error) from error

    def finish(self) -> str:
        """Put the whole file in its place, safe against a crash; returns its sha256."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            digest = sha256_of(self._draft)
            os.replace(self._draft, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise _write_error(self.path, error) from error
        return digest

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError:  # what was still to be flushed finds no room either: the reason is on its way up already
            if error is None:
                raise
        self._draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: a crash leaves the old one or the new one. Raises DataError where it cannot."""
    draft = path.with_name(WRITING + path.name)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _write_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def map_shard(path: Path, layout: ShardLayout) -> dict[str, Float[np.ndarray, "f p d"]]:
    """The tensors of a shard, by name, as views of the file.

    Raises:
        DataError: naming the file, if it is missing, of another size, or does not begin as `layout` says.
    """
    check_size(path, layout)
    try:
        with path.open("rb") as file:
            begin = file.read(len(layout.header))
        raw = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if begin != layout.header:
        raise DataError(f"{path}: is not the shard that the index says: {_difference(begin, layout)}")
    return {
        name: raw[at : at + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        for name, (at, dtype, shape) in layout.places.items()
    }


def check_size(path: Path, layout: ShardLayout) -> None:
    """Raise DataError where the file is missing or has another size than its index says."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); encode again to make this shard anew") from error
    if found != layout.size:
        raise DataError(f"{path}: {found} bytes, expected {layout.size}; encode again to make this shard anew")


def _difference(begin: bytes, layout: ShardLayout) -> str:
    """In what a header differs from what was expected."""
    wanted = layout.header
    if begin[:8] != wanted[:8]:
        return f"a header of {int.from_bytes(begin[:8], 'little')} bytes, expected {len(wanted) - 8}"
    try:
        found = json.loads(begin[8:])
    except (ValueError, RecursionError) as error:
        return f"its header is damaged ({error})"
    expected = json.loads(wanted[8:])
    if not isinstance(found, dict):
        return "its header is no JSON object"
    for field, value in expected.items():
        if found.get(field) != value:
            return f"expected {field} {value}, found {found.get(field)}"
    return "its header is written in another way"


def _write_error(path: Path, error: OSError) -> DataError:
    if error.errno in NO_ROOM:
        return DataError(
            f"{path}: no space left to write it ({error.strerror}); finished shards stay, and encoding again goes on "
            "from them"
        )
    return DataError(f"{path}: cannot be written ({error.strerror})")
