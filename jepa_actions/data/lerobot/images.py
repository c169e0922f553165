"""Cameras whose frames are PNG or JPEG images inside the table of rows (features of dtype "image")."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.lerobot.rows import RowReader
from jepa_actions.data.lerobot.tables import opened
from jepa_actions.data.recent import Recent
from jepa_actions.errors import DataError

KEPT = 64 << 20  # bytes of encoded images that stay in memory


@dataclass(frozen=True)
class _Group:
    """The encoded images of one row group, an arrow array of bytes."""

    images: Any

    def __len__(self) -> int:
        return len(self.images)


def _weigh(group: _Group) -> int:
    return int(group.images.nbytes)


class ImageReader:
    """Frames by camera and episode. `sizes` are what info.json says of each camera's frames, (H, W)."""

    def __init__(self, rows: RowReader, sizes: dict[str, tuple[int, int]], image_size: tuple[int, int] | None) -> None:
        self.rows, self.sizes, self.image_size = rows, sizes, image_size
        self._groups: Recent[tuple[Path, str, int], _Group] = Recent(KEPT, _weigh)
        self._ends: dict[Path, Int64[np.ndarray, "g"]] = {}

    def clips(
        self, camera: str, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> UInt8[Tensor, "b t 3 h w"]:
        """The named frames of the named episodes."""
        height, width = self.image_size or self.sizes[camera]
        out = torch.empty((*frames.shape, 3, height, width), dtype=torch.uint8)
        for b, i in enumerate(episodes.tolist()):
            path, start = self.rows.start(i)
            for t, frame in enumerate(frames[b].tolist()):
                place = f"{path}: {camera!r} in row {start + frame}"
                image = _decode(self._encoded(path, camera, start + frame), self.sizes[camera], self.image_size, place)
                out[b, t] = torch.from_numpy(image).permute(2, 0, 1)
        return out

    def _encoded(self, path: Path, camera: str, row: int) -> bytes:
        if path not in self._ends:
            with opened(path) as file:
                counts = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
            self._ends[path] = np.cumsum(counts, dtype=np.int64)
        ends = self._ends[path]
        number = int(np.searchsorted(ends, row, side="right"))
        group = self._groups.get((path, camera, number), lambda: _read_group(path, camera, number))
        value = group.images[row - int(ends[number]) + len(group)].as_py()
        if not value:
            raise DataError(f"{path}: {camera!r} in row {row} holds no image")
        return bytes(value)


def _read_group(path: Path, camera: str, number: int) -> _Group:
    from pyarrow import types

    with opened(path) as file:
        if camera not in file.schema_arrow.names:
            raise DataError(f"{path}: no column {camera!r}, expected it as in info.json")
        column = file.read_row_group(number, columns=[camera], use_threads=False)[camera].combine_chunks()
        if types.is_struct(column.type) and "bytes" in [field.name for field in column.type]:
            column = column.field("bytes")
        if not (types.is_binary(column.type) or types.is_large_binary(column.type)):
            raise DataError(f"{path}: column {camera!r} has type {column.type}, expected images as bytes")
        return _Group(column)


def _decode(
    data: bytes, size: tuple[int, int], image_size: tuple[int, int] | None, place: str
) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if (
                image.height,
                image.width,
            ) != size:  # before anything is decoded: a damaged header may ask for gigabytes
                raise DataError(
                    f"{place}: image of {(image.height, image.width)}, expected {size} (height, width) as in info.json"
                )
            picture = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{place}: cannot be decoded as an image ({reason})") from error
    if image_size is not None and image_size != size:
        smaller = image_size[0] < size[0] or image_size[1] < size[1]
        method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
        picture = picture.resize((image_size[1], image_size[0]), method)
    return np.array(picture)
