"""stable-worldmodel's HDF5 files: every column flat over all steps, `ep_len` and `ep_offset` say which rows are an
episode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.sources.folder import file_hash
from jepa_actions.data.sources.hdf5_columns import Hdf5Columns
from jepa_actions.data.sources.row_labels import check_labels
from jepa_actions.data.types import Episode, VideoDataset, check_clips
from jepa_actions.data.video.file import check_image_size
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError

SUFFIXES = (".h5", ".hdf5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
PIXELS = "pixels"
ACTION, REWARD, VALID, PROPRIO = "action", "reward", "action_valid", "proprio"
STATES = ("state", "observation")  # the first there is becomes the simulator state
TEXTS = ("text", "task", "instruction", "language_instruction")
LOOKED_AT = 64  # episodes whose first and last rows tell which step a row's action belongs to


def hdf5_file(path: str | Path) -> Path | None:
    """The HDF5 file at `path`, or the only one in that folder; `None` where there is none or more than one."""
    path = Path(path)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        return found[0] if len(found) == 1 and found[0].is_file() else None
    return path if path.is_file() and path.suffix.lower() in SUFFIXES else None


def looks_like_hdf5(path: str | Path) -> bool:
    """Whether `Hdf5Dataset` is meant for what is at this path."""
    return hdf5_file(path) is not None


class Hdf5Dataset(Viewable):
    """The episodes of one HDF5 file. Needs h5py (and hdf5plugin where the file is compressed with Blosc and the like).

    Cameras are the uint8 columns of pictures, (N, H, W, C) or (N, C, H, W), of 3 channels or 1: those called `pixels`,
    `pixels.top`, ..., or all but goals where none is called so; `cameras` picks columns by name. `image_size` (H, W)
    resizes without keeping the aspect. `action` becomes actions, `proprio` proprio, `reward` rewards, `state` (or
    `observation`) the simulator state, a column of strings called `text`, `task` or `instruction` the text.

    Row t holds observation t and the action taken from it, as stable-worldmodel's `World.collect` writes it (the last
    row's action is NaN there): the last one is dropped. Where it is the first row's action that is NaN, rows hold the
    action that led to them, and the first is dropped. Rewards belong to the step that led to their row where the first
    row's is NaN (as `collect` writes them), else to the action of their row. The format knows no frame rate: `fps` is
    the file's attribute of that name, or 1.

    Raises DataError naming file and column: not HDF5, no pictures, a column of another length, offsets that overlap or
    leave the file, strings where numbers belong, a compression without its plugin; when an episode is read, labels that
    are not finite and `step_idx` that do not count its steps.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        fps: float | None = None,
    ) -> None:
        check_image_size(image_size)
        found = hdf5_file(path)
        if found is None:
            raise DataError(
                f"{path}: no HDF5 file, expected one that ends in {' or '.join(SUFFIXES)}, or a folder of one"
            )
        self.path, self.name = found, found.resolve().stem
        self._image_size = image_size
        self._columns = Hdf5Columns(found)
        self._lengths, self._offsets = self._read_episodes()
        self._end = int((self._offsets + self._lengths).max())
        self.cameras: tuple[str, ...] = self._choose(cameras)
        self._labels = self._choose_labels()
        self.fps = self._rate(fps)
        self.action_names = self._names(ACTION)
        self.proprio_names = self._names(PROPRIO)
        self._enters = self._first_is_missing(ACTION)  # rows hold the action that led to them
        self._arrives = self._enters or self._first_is_missing(REWARD)

    def _read_episodes(self) -> tuple[Int64[np.ndarray, "e"], Int64[np.ndarray, "e"]]:
        parts = []
        for column in ("ep_len", "ep_offset"):
            shape, kind = self._columns.shape(column)
            if len(shape) != 1 or kind.kind not in "iu" or shape[0] == 0:
                raise DataError(f"{self.path}: {column} is {kind} {shape}, expected whole numbers, one per episode")
            self._columns.check(column, shape[0])
            parts.append(self._columns.rows(column, 0, shape[0]).astype(np.int64))
        lengths, offsets = parts
        if len(lengths) != len(offsets):
            raise DataError(f"{self.path}: ep_offset has {len(offsets)} entries, expected {len(lengths)} as ep_len")
        if lengths.min() < 1 or offsets.min() < 0:
            i = int(np.flatnonzero((lengths < 1) | (offsets < 0))[0])
            raise DataError(
                f"{self.path}: episode {i} has ep_len {lengths[i]} and ep_offset {offsets[i]}, expected >= 1 and >= 0"
            )
        order = np.argsort(offsets, kind="stable")
        for i, j in pairwise(order.tolist()):
            if offsets[i] + lengths[i] > offsets[j]:
                raise DataError(
                    f"{self.path}: ep_offset of episode {j} is {offsets[j]}, expected at least "
                    f"{offsets[i] + lengths[i]}, where episode {i} ends"
                )
        return lengths, offsets

    def _choose(self, cameras: Sequence[str] | None) -> tuple[str, ...]:
        pictures = [name for name, (shape, kind) in self._columns.shapes.items() if _layout(shape, kind) is not None]
        named = [name for name in pictures if name == PIXELS or name.startswith((f"{PIXELS}.", f"{PIXELS}_"))]
        chosen = cameras or named or [name for name in pictures if not name.startswith("goal")]
        for camera in chosen:
            if camera not in pictures:
                raise DataError(
                    f"{self.path}: no camera {camera!r}, expected a uint8 column of pictures: "
                    f"{', '.join(pictures) or 'there is none'}"
                )
        if not chosen or len(set(chosen)) < len(chosen):
            found = ", ".join(f"{name} {kind} {shape}" for name, (shape, kind) in self._columns.shapes.items())
            raise DataError(
                f"{self.path}: cameras {list(chosen)}, expected each column of pictures once; found {found}"
            )
        for camera in chosen:
            self._columns.check(camera, self._end)
        return tuple(chosen)

    def _choose_labels(self) -> dict[str, str]:
        """The columns that hold labels, by what they become."""
        chosen = {name: name for name in (ACTION, REWARD, VALID, PROPRIO) if name in self._columns.shapes}
        for field, names in (("state", STATES), ("text", TEXTS)):
            there = [
                name for name in names if name in self._columns.shapes and _layout(*self._columns.shapes[name]) is None
            ]
            if there:
                chosen[field] = there[0]
        for field, column in chosen.items():
            shape, kind = self._columns.shapes[column]
            if field != "text" and (kind.kind not in "iufb" or not shape):
                raise DataError(f"{self.path}: {column} is {kind} {shape}, expected numbers, one row per step")
            if field == "text" and kind.kind not in "OSU":
                raise DataError(f"{self.path}: {column} is {kind} {shape}, expected strings")
            self._columns.check(column, self._end)
        for field in (REWARD, VALID):
            if field in chosen and int(np.prod(self._columns.shapes[field][0][1:])) != 1:
                raise DataError(
                    f"{self.path}: {field} has shape {self._columns.shapes[field][0]}, expected one value per step"
                )
        return chosen

    def _rate(self, fps: float | None) -> float:
        value = fps if fps is not None else self._columns.attribute("fps")
        value = 1.0 if value is None else value
        if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value <= 0:
            raise DataError(f"{self.path}: fps is {value!r}, expected a number above 0")
        return float(value)

    def _names(self, field: str) -> tuple[str, ...] | None:
        if field not in self._labels:
            return None
        return tuple(f"{field}_{k}" for k in range(int(np.prod(self._columns.shapes[field][0][1:]))))

    def _first_is_missing(self, field: str) -> bool:
        """Whether this column has nothing in the first row of every episode, and something in the last."""
        if field not in self._labels:
            return False
        looked_at = np.linspace(0, len(self) - 1, min(LOOKED_AT, len(self)), dtype=np.int64)
        looked_at = looked_at[self._lengths[looked_at] > 1]
        ends = [self._numbers(field, int(self._offsets[i]), int(self._lengths[i]), ends=True) for i in looked_at]
        gone = np.array([np.isnan(rows).any(axis=1) for rows in ends]).reshape(-1, 2)
        return len(gone) > 0 and bool(gone[:, 0].all()) and not bool(gone[:, 1].any())

    def _numbers(self, field: str, start: int, count: int, *, ends: bool = False) -> Float64[np.ndarray, "t d"]:
        """Rows of a column of labels; the smallest whole number, NaN cast to one, is NaN again."""
        column = self._labels[field]
        if ends:
            rows = np.concatenate([self._columns.rows(column, k, k + 1) for k in (start, start + count - 1)])
        else:
            rows = self._columns.rows(column, start, start + count)
        values = rows.astype(np.float64).reshape(len(rows), -1)
        if rows.dtype.kind == "i":
            values[rows.reshape(values.shape) == np.iinfo(rows.dtype).min] = np.nan
        return values

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        if camera not in self.cameras:
            raise DataError(f"{self.path}: no camera {camera!r} opened, expected one of {', '.join(self.cameras)}")
        return self._image_size or self._source_size(camera)

    def _source_size(self, camera: str) -> tuple[int, int]:
        shape = self._columns.shapes[camera][0]
        return (shape[1], shape[2]) if _layout(*self._columns.shapes[camera]) == "last" else (shape[2], shape[3])

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.name}: episode {i} asked for, expected 0 to {len(self) - 1}")
        start, count = int(self._offsets[i]), int(self._lengths[i])
        if self._labels:
            self._check_steps(i, start, count)
        rows = {field: self._numbers(field, start, count) for field in self._labels if field != "text"}
        led_here = slice(1, count)
        taken_here = slice(0, count - 1)
        acted = led_here if self._enters else taken_here
        episode = Episode(
            index=i,
            length=count,
            actions=rows[ACTION][acted].astype(np.float32) if ACTION in rows else None,
            proprio=rows[PROPRIO].astype(np.float32) if PROPRIO in rows else None,
            rewards=rows[REWARD][led_here if self._arrives else taken_here, 0].astype(np.float32)
            if REWARD in rows
            else None,
            text=self._text(start),
            action_mask=rows[VALID][acted, 0] > 0.5 if VALID in rows and ACTION in rows else None,
            simulator_state=rows.get("state"),
            dataset=self.name,
        )
        check_labels(episode, f"{self.path}: episode {i}", self.action_names, self.proprio_names)
        return episode

    def _check_steps(self, i: int, start: int, count: int) -> None:
        """Where the file counts the steps of its episodes, offsets and counts must agree."""
        if "step_idx" in self._columns.shapes and self._columns.shapes["step_idx"][1].kind in "iu":
            steps = self._columns.rows("step_idx", start, start + count).reshape(-1)
            if len(steps) != count or (steps - steps[:1] != np.arange(count)).any():
                raise DataError(
                    f"{self.path}: step_idx of episode {i} (rows {start} to {start + count - 1}) does not rise by one, "
                    "expected the steps of one episode; are ep_offset and ep_len right?"
                )

    def _text(self, start: int) -> str | None:
        if "text" not in self._labels:
            return None
        value = self._columns.rows(self._labels["text"], start, start + 1).reshape(-1)[0]
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise DataError(f"{self.path}: {self._labels['text']}, row {start}, is not UTF-8") from error
        return str(value)

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera; a frame that several clips share is read once."""
        check_clips(self._lengths, episodes, frames, self.name)
        rows, back = np.unique(self._offsets[episodes][:, None] + frames, return_inverse=True)
        out = {}
        for camera in self.cameras:
            images = self._pictures(camera, rows)
            out[camera] = images[torch.from_numpy(back.reshape(frames.shape))]
        return out

    def _pictures(self, camera: str, rows: Int64[np.ndarray, "n"]) -> UInt8[Tensor, "n 3 h w"]:
        height, width = self.image_size(camera)
        out = np.empty((len(rows), height, width, 3), np.uint8)
        last = _layout(*self._columns.shapes[camera]) == "last"
        done = 0
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(run) == 0:
                continue
            images = self._columns.rows(camera, int(run[0]), int(run[-1]) + 1)
            if not last:
                images = images.transpose(0, 2, 3, 1)
            images = np.broadcast_to(images, (*images.shape[:3], 3))
            out[done : done + len(run)] = images if self._image_size is None else _resized(images, self._image_size)
            done += len(run)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def without_labels(self) -> VideoDataset:
        """The pictures alone."""
        bare = copy.copy(self)
        bare._labels = {}
        bare.action_names = bare.proprio_names = None
        return bare

    def fingerprint(self) -> str:
        """A hash of the file, of what is read from it and how."""
        shown = [[camera, list(self.image_size(camera))] for camera in self.cameras]
        return combined(type(self).__name__, file_hash(self.path), shown, sorted(self._labels.items()), self.fps)


def _layout(shape: tuple[int, ...], kind: np.dtype[Any]) -> str | None:
    """Where the channels of a column of pictures are, "last" or "first"; `None` where it holds no pictures."""
    if len(shape) != 4 or kind != np.uint8:
        return None
    return "last" if shape[3] in (1, 3) else "first" if shape[1] in (1, 3) else None


def _resized(images: UInt8[np.ndarray, "n h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "n hh ww 3"]:
    """Pictures of another size, by the same filter as video frames."""
    from av import VideoFrame
    from av.video.reformatter import Interpolation, VideoReformatter

    height, width = size
    smaller = height < images.shape[1] or width < images.shape[2]
    method = Interpolation.AREA if smaller else Interpolation.BILINEAR
    flags = method | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    reformatter = VideoReformatter()
    out = np.empty((len(images), height, width, 3), np.uint8)
    for k, image in enumerate(images):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        scaled = reformatter.reformat(frame, width=width, height=height, interpolation=flags, threads=1)
        out[k] = scaled.to_ndarray(format="rgb24")
    return out
