"""WebDataset tars: files of one stem are one episode (`00012.mp4`, `00012.json`, `00012.action.npy`)."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jepa_actions.data.sources.folder import CAMERA, VIDEO_SUFFIXES
from jepa_actions.data.sources.folder_labels import Labels, read_info
from jepa_actions.data.sources.labelled_videos import LabelledVideos
from jepa_actions.data.sources.row_labels import field_of, fields
from jepa_actions.data.sources.spool import CAPACITY, Spool, SpooledVideo
from jepa_actions.data.sources.table import hashes
from jepa_actions.errors import DataError


def tar_files(root: str | Path) -> list[Path]:
    """The tars in a folder and its sub-folders, by path, or the file itself; hidden ones are left out."""
    root = Path(root)
    if root.is_file():
        return [root] if _is_tar(root) else []
    found = [path for path in root.rglob("*.tar*") if path.is_file() and _is_tar(path)]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def _is_tar(path: Path) -> bool:
    return path.name.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"))


def looks_like_tars(path: str | Path) -> bool:
    """Whether `TarVideos` is meant for what is at this path."""
    return not (Path(path) / "meta").is_dir() and bool(tar_files(path))


@dataclass(frozen=True)
class Member:
    """A file inside a tar; see `spool.Part`."""

    tar: Path
    name: str
    offset: int
    size: int

    @property
    def place(self) -> str:
        return f"{self.tar}, {self.name}"

    def read(self) -> bytes:
        """Its bytes."""
        try:
            with self.tar.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.place}: cannot be read ({error.strerror})") from error
        if len(data) != self.size:
            raise DataError(f"{self.place}: truncated, found {len(data)} of {self.size} bytes")
        return data


class TarVideos(LabelledVideos):
    """The samples of uncompressed tars as episodes of a WebDataset.

    `KEY.mp4` (or another video) is the camera "video", `KEY.front.mp4` the camera "front"; `cameras` picks some. Labels
    come from `KEY.json` (called as in `row_labels`), from arrays `KEY.action.npy`, `KEY.state.npy`, `KEY.reward.npy`,
    ... (`KEY.npy` are actions) and from `KEY.txt`, the text; names of dimensions may be in an `info.json` beside the
    tars. `image_size` (H, W) resizes on decode without keeping the aspect. Every video is indexed once, at the start; a
    video is copied to a temporary folder while it is in use, of at most `capacity` bytes.

    Raises DataError naming tar and member: a compressed or damaged tar, a sample without one of the cameras, labels
    that cannot be read or do not fit.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        place = Path(root)
        folder = place.parent if place.is_file() else place
        paths = tar_files(place)
        samples = [sample for path in paths for sample in _samples(path)]
        if not samples:
            raise DataError(f"{root}: no sample in {len(paths)} tars, expected files such as 00000.mp4 in a .tar")
        chosen = tuple(cameras) if cameras else tuple(sorted(_videos(samples[0][1])))
        spool = Spool(capacity)
        videos: dict[str, list[SpooledVideo]] = {camera: [] for camera in chosen}
        rows = []
        for number, (where, members) in enumerate(samples):
            found = _videos(members)
            for c, camera in enumerate(chosen):
                if camera not in found:
                    there = ", ".join(found) or f"no video in {', '.join(members)}"
                    raise DataError(f"{where}: no camera {camera!r}, found {there}")
                key = number * len(chosen) + c
                videos[camera].append(SpooledVideo(spool, key, found[camera], image_size=image_size))
            parts = {extension: member for extension, member in members.items() if member not in found.values()}
            read = {extension: member.read() for extension, member in parts.items() if is_label(extension)}
            rows.append(Labels(sample_labels(read, where), where))
        info = folder / "info.json"
        content = partial(hashes, folder, [*paths, info] if info.is_file() else paths)
        super().__init__(place.resolve().stem, str(root), videos, rows, read_info(info), content)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """Place and members (by extension) of each sample, in the order of the tar."""
    seen: set[str] = set()
    key, members = "", dict[str, Member]()
    for member in _members(path):
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        if not stem or not extension:
            continue  # a hidden file, or one without an extension: no part of a sample
        this = f"{folder}/{stem}" if folder else stem
        if this != key:
            if members:
                yield f"{path}, {key}", members
            if this in seen:
                raise DataError(
                    f"{path}: {member.name} comes apart from the rest of its sample, expected them together"
                )
            key, members = this, {}
            seen.add(this)
        if extension in members:
            raise DataError(f"{path}: {member.name} comes twice, expected once")
        members[extension] = member
    if members:
        yield f"{path}, {key}", members


def _members(path: Path) -> Iterator[Member]:
    try:
        held = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            for item in tar:
                if not item.isreg():
                    continue
                if item.offset_data + item.size > held:
                    raise DataError(f"{path}, {item.name}: truncated, the tar ends before it")
                yield Member(path, item.name, item.offset_data, item.size)
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)
            # A reader takes a damaged header for the end and says nothing; the true end is blocks of zeros.
            if file.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
                raise DataError(f"{path}: cut off or damaged at byte {end}, expected the next member or the tar's end")
    except (tarfile.TarError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        hint = "" if path.suffix == ".tar" else "; a compressed tar can only be streamed (ClipStream), or unpack it"
        raise DataError(f"{path}: cannot be read as an uncompressed tar ({error}){hint}") from error


def _videos(members: Mapping[str, Member]) -> dict[str, Member]:
    """The videos of a sample by camera."""
    found = {camera_of(extension): member for extension, member in members.items()}
    return {camera: member for camera, member in found.items() if camera is not None}


def camera_of(extension: str) -> str | None:
    """The camera of a file with this extension ("front.mp4", "mp4"), `None` where it is no video."""
    stem, _, suffix = extension.rpartition(".")
    return (stem or CAMERA) if f".{suffix.lower()}" in VIDEO_SUFFIXES else None


def is_label(extension: str) -> bool:
    """Whether a file with this extension holds labels."""
    stem, _, suffix = extension.rpartition(".")
    return extension in ("json", "txt", "npy") or (suffix == "npy" and field_of(stem) is not None)


def sample_labels(parts: Mapping[str, bytes], place: str) -> dict[str, Any]:
    """Labels by field from the files of a sample that hold some. Raises DataError naming one that cannot be read."""
    row: dict[str, Any] = {}
    for extension, data in parts.items():
        where = f"{place}.{extension}"
        try:
            if extension == "json":
                value = json.loads(data)
                if not isinstance(value, dict):
                    raise DataError(f"{where}: found {type(value).__name__}, expected an object")
                found = value
            elif extension == "txt":
                found = {"text": data.decode("utf-8").strip()}
            else:
                array = np.load(io.BytesIO(data), allow_pickle=False)
                found = {extension.rpartition(".")[0] or "action": array}
        except (ValueError, EOFError, OSError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: cannot be read ({str(error).splitlines()[0] if str(error) else ''})") from error
        for field, value in fields(found, where).items():
            if field in row:
                raise DataError(f"{where}: {field!r} comes a second time, expected it once")
            row[field] = value
    return row
