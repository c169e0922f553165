"""Open a data set by what is at its path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jepa_actions.data.decoded.cache import DecodedCache
from jepa_actions.data.decoded.writer import MARKER
from jepa_actions.data.lerobot.labels import ACTION, STATE
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.data.sources.folder import VideoFolder, describe, video_files
from jepa_actions.data.sources.hdf5 import Hdf5Dataset, looks_like_hdf5
from jepa_actions.data.sources.table import TableVideos, looks_like_table
from jepa_actions.data.sources.tars import TarVideos, looks_like_tars
from jepa_actions.data.types import VideoDataset
from jepa_actions.errors import DataError

KINDS = (
    "a LeRobot data set (meta/info.json), videos, parquet with a column of videos, WebDataset tars, a "
    "stable-worldmodel .h5, or what `jepa-actions data cache` wrote"
)


def load_dataset(
    path: str | Path,
    *,
    cameras: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    action: str | None = ACTION,
    pseudo: str | None = None,
    state: str | Sequence[str] | None = STATE,
    tolerant: bool = False,
    revision: str | None = None,
    disk_limit: int | None = None,
) -> VideoDataset:
    """What is at `path`: a folder or file of one of these kinds, or the id of a LeRobot data set on the Hub.

    LeRobot (v3.0, v2.1), videos with or without labels, parquet with video bytes, WebDataset tars, stable-worldmodel
    HDF5, a decoded cache.

    Args:
        path: a folder, a file, or `owner/name` on the Hugging Face Hub.
        cameras: by name; default: all.
        image_size: (H, W) to resize to on decode, without keeping the aspect.
        action, pseudo, state: columns of a LeRobot data set, see `LeRobot`.
        tolerant: a LeRobot data set with faults opens, and reading a faulty episode raises its fault.
        revision: branch, tag or commit on the Hub.
        disk_limit: bytes of a Hub data set's videos to keep on the disk; the least recently used go first.

    Raises:
        DataError: saying what was found where it is none of these, for `env:` names, which only training and evaluation
            can make, and for column names where columns cannot be chosen.
    """
    name, root = str(path), Path(path)
    if name.startswith("env:"):
        raise DataError(
            f"{name}: an environment, which training and evaluation resolve; expected a folder or a Hub id here"
        )
    if not root.exists() or (root / "meta").is_dir():
        return LeRobot(
            path,
            cameras=cameras,
            image_size=image_size,
            action=action,
            pseudo=pseudo,
            state=state,
            tolerant=tolerant,
            revision=revision,
            disk_limit=disk_limit,
        )
    states = (state,) if isinstance(state, str) or state is None else tuple(state)
    if (action, pseudo, states) != (ACTION, None, (STATE,)):
        raise DataError(
            f"{name}: columns action {action!r}, pseudo {pseudo!r} and state {state!r} asked for; only in LeRobot data "
            "sets columns are chosen"
        )
    return _open_other(root, cameras, image_size)


def _open_other(root: Path, cameras: Sequence[str] | None, image_size: tuple[int, int] | None) -> VideoDataset:
    if looks_like_hdf5(root):
        return Hdf5Dataset(root, cameras=cameras, image_size=image_size)
    if (root / MARKER).is_file():
        return DecodedCache(root, cameras=cameras, image_size=image_size)
    if looks_like_tars(root):
        return TarVideos(root, cameras=cameras, image_size=image_size)
    if root.is_dir() and video_files(root):
        return VideoFolder(root, cameras=cameras, image_size=image_size)
    if looks_like_table(root):
        return TableVideos(root, cameras=cameras, image_size=image_size)
    found = f"found {describe(root)}" if root.is_dir() else "a file"
    raise DataError(f"{root}: no data set, {found}; expected {KINDS}")
