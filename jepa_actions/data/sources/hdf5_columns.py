"""The columns of an HDF5 file, read by rows: safe to share between threads, to fork and to pickle."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jepa_actions.errors import DataError

if TYPE_CHECKING:
    import h5py

CHUNK_CACHE = 64 * 1024 * 1024  # bytes of decompressed chunks that h5py keeps per column
_BAD = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises for a damaged file


class Hdf5Columns:
    """The data sets at the top of an HDF5 file, by name. `shapes` has each one's shape and dtype.

    Raises DataError where h5py is not installed, the file cannot be read, or a column needs a decompression that is
    not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: tuple[int, h5py.File] | None = None
        self._lock = threading.Lock()
        self.shapes = self._list()

    def _file(self) -> h5py.File:
        """The open file, one per process: a handle does not survive a fork."""
        if importlib.util.find_spec("h5py") is None:
            raise DataError(f"{self.path}: reading HDF5 needs the package h5py (pip install h5py hdf5plugin)")
        import h5py

        with self._lock:
            if self._handle is None or self._handle[0] != os.getpid():
                try:
                    self._handle = os.getpid(), h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE)
                except OSError as error:
                    raise DataError(f"{self.path}: cannot be read as HDF5 ({error}); is it damaged?") from error
            return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shapes": self.shapes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _handle=None, _lock=threading.Lock())

    def _list(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        file = self._file()
        import h5py

        try:
            return {
                str(name): (tuple(item.shape or ()), np.dtype(item.dtype))
                for name, item in file.items()
                if isinstance(item, h5py.Dataset)
            }
        except _BAD as error:
            raise DataError(f"{self.path}: its columns cannot be listed ({error}); is it damaged?") from error

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of a column. Raises DataError naming those there are."""
        if name not in self.shapes:
            raise DataError(f"{self.path}: no column {name!r}, found {', '.join(sorted(self.shapes)) or 'none'}")
        return self.shapes[name]

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop - 1` of a column."""
        try:
            found = np.asarray(self._file()[name][start:stop])
        except _BAD as error:
            raise DataError(
                f"{self.path}: {name}, rows {start} to {stop - 1}, cannot be read ({error}); is it damaged?"
            ) from error
        if len(found) != stop - start:
            raise DataError(f"{self.path}: {name} ends at row {start + len(found)}, expected row {stop - 1} in it")
        return found

    def attribute(self, name: str) -> Any:
        """An attribute of the file, `None` where there is none."""
        try:
            return self._file().attrs.get(name)
        except _BAD as error:
            raise DataError(f"{self.path}: attribute {name} cannot be read ({error}); is it damaged?") from error

    def check(self, name: str, needed: int) -> None:
        """Raise DataError unless the column has `needed` rows and its decompression is installed."""
        (shape, _), file = self.shape(name), self._file()
        if not shape or shape[0] < needed:
            raise DataError(f"{self.path}: {name} has {shape[0] if shape else 'no'} rows, expected at least {needed}")
        import h5py

        try:
            properties = file[name].id.get_create_plist()
            filters = [properties.get_filter(k) for k in range(properties.get_nfilters())]
        except _BAD as error:
            raise DataError(f"{self.path}: {name} cannot be read ({error}); is it damaged?") from error
        for code, _, _, label in filters:
            if not h5py.h5z.filter_avail(code) and importlib.util.find_spec("hdf5plugin") is not None:
                import hdf5plugin  # noqa: F401 - it registers its filters when imported
            if not h5py.h5z.filter_avail(code):
                raise DataError(
                    f"{self.path}: {name} is compressed with {label.decode(errors='replace') or 'an unknown filter'} "
                    f"(HDF5 filter {code}), which needs the package hdf5plugin (pip install hdf5plugin)"
                )
