"""A folder of video files: one file is one episode, or one per camera. Labels may lie beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from jepa_actions.data.sources.folder_labels import Labels, label_files, read_labels
from jepa_actions.data.sources.labelled_videos import LabelledVideos
from jepa_actions.data.video.file import VideoFile
from jepa_actions.errors import DataError

CAMERA = "video"
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "mxf", "nut", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)


def video_files(folder: Path) -> list[Path]:
    """The video files in `folder` and its sub-folders, by path, hidden ones left out."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def describe(folder: Path) -> str:
    """What a folder holds, for an error message."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


class VideoFolder(LabelledVideos):
    """The videos in `root` and its sub-folders, sorted by path, as episodes of one camera called "video".

    With `cameras` each is a sub-folder and a file that has the same path in all of them is one episode. Labels are read
    from `metadata.jsonl`, `.csv`, `.parquet` (a row per video) and `actions.parquet` (a row per frame), see
    `folder_labels`; a video without a row has none. `image_size` (H, W) resizes on decode without keeping the aspect;
    without it all videos of a camera must have one size. `rates` are the episodes' frame rates, from the labels or else
    the files, and `variable_rate` says which of them vary inside; `fps` is the median rate. Times are the containers'
    unless the labels give a rate. `skip` names files, by their path inside `root`, whose episodes are left out.

    Raises DataError where there is no video, a file cannot be decoded, cameras differ in their files or frames, and for
    labels that are malformed, are not one per step, or name a video that does not exist; for labels that are not finite
    when their episode is read.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        skip: Collection[str] = (),
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder, expected a folder of videos")
        paths = _by_camera(self.root, tuple(cameras) if cameras else (CAMERA,))
        labels, info = read_labels(self.root)
        paths, labels = _without(self.root, paths, labels, frozenset(skip))
        super().__init__(
            self.root.resolve().name,
            str(self.root),
            {camera: [VideoFile(path, image_size=image_size) for path in paths[camera].values()] for camera in paths},
            _in_order(self.root, paths, labels),
            info,
            partial(_hashes, self.root, [path for files in paths.values() for path in files.values()]),
        )


def _by_camera(root: Path, cameras: tuple[str, ...]) -> dict[str, dict[str, Path]]:
    """The video files of each camera by episode: their path inside the camera's folder."""
    found = video_files(root)
    if not found:
        raise DataError(f"{root}: no video in it, found {describe(root)}; expected files such as .mp4 or .mkv")
    if cameras == (CAMERA,) and not (root / CAMERA).is_dir():
        return {CAMERA: {path.relative_to(root).as_posix(): path for path in found}}
    out: dict[str, dict[str, Path]] = {}
    for camera in cameras:
        folder = root / camera
        if not camera or camera.startswith(".") or not folder.is_dir():
            folders = sorted({path.relative_to(root).parts[0] for path in found if path.parent != root})
            raise DataError(f"{root}: no camera {camera!r}, expected {', '.join(folders or [CAMERA])}")
        out[camera] = {path.relative_to(folder).as_posix(): path for path in video_files(folder)}
        first = out[cameras[0]]
        for name in sorted(set(first) ^ set(out[camera])):
            there, absent = (cameras[0], camera) if name in first else (camera, cameras[0])
            raise DataError(f"{root / absent / name}: missing, expected it because there is {there}/{name}")
    return out


def _names(root: Path, paths: dict[str, dict[str, Path]], name: str) -> set[str]:
    """What labels may call an episode: its path inside a camera's folder, or inside `root`."""
    return {name, *(files[name].relative_to(root).as_posix() for files in paths.values())}


def _without(
    root: Path, paths: dict[str, dict[str, Path]], labels: dict[str, Labels], skip: Collection[str]
) -> tuple[dict[str, dict[str, Path]], dict[str, Labels]]:
    """Videos and labels of the episodes none of whose files is skipped."""
    names = [name for name in next(iter(paths.values())) if not _names(root, paths, name).isdisjoint(skip)]
    gone = {key for name in names for key in _names(root, paths, name)}
    kept = {camera: {k: path for k, path in files.items() if k not in names} for camera, files in paths.items()}
    if names and not next(iter(kept.values())):
        raise DataError(f"{root}: all {len(names)} episodes skipped, expected one to be left")
    return kept, {key: row for key, row in labels.items() if key not in gone}


def _in_order(root: Path, paths: dict[str, dict[str, Path]], labels: dict[str, Labels]) -> list[Labels]:
    """The labels of each episode, which may be named as it is inside a camera's folder or inside `root`."""
    left = dict(labels)
    out = []
    for name in next(iter(paths.values())):
        names = _names(root, paths, name)
        given = [left.pop(key) for key in sorted(names) if key in left]
        if len(given) > 1:
            raise DataError(f"{given[1].place}: a second row for {name}, expected only the one in {given[0].place}")
        out.append(given[0] if given else Labels({}, f"{root}, {name}"))
    for key, row in left.items():
        raise DataError(f"{row.place}: names {key}, expected a video in {root}")
    return out


def _hashes(root: Path, videos: list[Path]) -> list[list[str]]:
    return [[path.relative_to(root).as_posix(), file_hash(path)] for path in [*videos, *label_files(root)]]
