"""Videos that lie inside other files (a parquet cell, a member of a tar): each is copied to a file of its own while it
is in use, so that it is decoded as any video file is."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from jepa_actions.data.video.file import VideoFile
from jepa_actions.errors import DataError

CAPACITY = 4 * 1024**3  # bytes of copies that a process keeps per data set


class Part(Protocol):
    """Where a video lies; `place` names it in errors. Must pickle."""

    @property
    def place(self) -> str: ...
    def read(self) -> Any:
        """Its bytes, as anything that a file's `write` takes. Raises DataError."""
        ...


class Spool:
    """A temporary folder of one process for copies of videos; those not used for longest make room for others."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._begin()
        _spools.add(self)

    def _begin(self) -> None:
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, int] = OrderedDict()  # bytes by key, the one used last at the end
        self._users: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"capacity": self.capacity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @contextmanager
    def held(self, key: int, part: Part) -> Iterator[Path]:
        """The path of a copy of `part`, which stays there until the block is left."""
        with self._lock:
            path = self._path(key)
            self._users[key] = self._users.get(key, 0) + 1
            try:
                if key not in self._kept:
                    self._kept[key] = self._write(path, part)
            except BaseException:
                self._users[key] -= 1
                raise
            self._kept.move_to_end(key)
            self._make_room()
        try:
            yield path
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key]
                    self._make_room()

    def drop(self, key: int) -> None:
        """Remove the copy of a video that is not wanted any more."""
        with self._lock:
            if self._kept.pop(key, None) is not None:
                self._path(key).unlink(missing_ok=True)

    def _path(self, key: int) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="jepa-actions-"))
            weakref.finalize(self, _remove, self._folder, os.getpid())
        return self._folder / f"{key}.video"

    @staticmethod
    def _write(path: Path, part: Part) -> int:
        try:
            with path.open("wb") as file:
                return int(file.write(part.read()))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise DataError(f"{part.place}: cannot be copied to {path.parent} ({error.strerror})") from error

    def _make_room(self) -> None:
        total = sum(self._kept.values())
        for key in [key for key in self._kept if key not in self._users]:
            if total <= self.capacity:
                return
            total -= self._kept.pop(key)
            self._path(key).unlink(missing_ok=True)


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _after_fork() -> None:
    for spool in list(_spools):  # their folders are the parent's
        spool._begin()


os.register_at_fork(after_in_child=_after_fork)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


class SpooledVideo(VideoFile):
    """A video that lies inside another file; `place` says where, in errors too."""

    def __init__(self, spool: Spool, key: int, part: Part, *, image_size: tuple[int, int] | None = None) -> None:
        self.spool, self.key, self.part = spool, key, part
        with self._copied() as path:
            super().__init__(path, image_size=image_size)

    @property
    def place(self) -> str:
        """Where the video lies."""
        return self.part.place

    @contextmanager
    def _copied(self) -> Iterator[Path]:
        with self.spool.held(self.key, self.part) as path:
            self.path = path  # another process has another folder
            try:
                yield path
            except DataError as error:
                raise DataError(str(error).replace(str(path), self.place)) from error

    def read_into(self, *args: Any, **kwargs: Any) -> None:
        """See `VideoFile.read_into`: all decoding goes through it."""
        with self._copied():
            super().read_into(*args, **kwargs)
