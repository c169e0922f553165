"""The files of a LeRobot data set: in a folder, or on the Hub, from where videos come as they are needed."""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_actions.data.lerobot.checksums import Sum, verify_file
from jepa_actions.data.lerobot.meta import VERSION, required
from jepa_actions.errors import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class LocalFiles:
    """Files in a folder. With `sums` each is checked against its checksum on first use."""

    complete = True  # whether every file of the data set is here, or missing
    commit = ""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sums: dict[str, Sum] | None = None
        self.good: set[str] = set()  # names whose content has been checked

    def at_hand(self, name: str) -> bool:
        """Whether a file need not be fetched: a folder has all its files, or lacks them."""
        return True

    def use(self, name: str, what: str) -> Path:
        """Where a file is. Raises DataError where it is missing, or is not the one that was sealed."""
        path = required(self.root / name, what)
        if self.sums is not None and name not in self.good:
            verify_file(self.root, name, self.sums)
            self.good.add(name)
        return path

    def watch(self, evicted: Callable[[str], None]) -> None:
        """Call `evicted` with the name of every file that is deleted to make room."""

    @contextmanager
    def held(self, names: Sequence[str]) -> Iterator[None]:
        """While it lasts, these files stay."""
        yield

    def identity(self, name: str) -> tuple[str, int, int] | None:
        """What changes when a file does, without reading it: its path, size and time. Raises DataError where it is
        missing."""
        path = self.root / name
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        return str(path), stat.st_size, stat.st_mtime_ns


class HubFiles(LocalFiles):
    """A data set on the Hub, at one commit: `meta` and `data` at once, each video on first use, into the cache of
    `huggingface_hub`.

    With `disk_limit` (bytes) the videos of this data set that were used longest ago are deleted from that cache, as
    soon as all of them together are larger; those in use stay, so a batch may go beyond it. Two processes that share a
    cache each go by their own memory of what was used. Raises DataError where the Hub does not give the data set.
    """

    complete = False

    def __init__(self, name: str, revision: str | None, disk_limit: int | None) -> None:
        if disk_limit is not None and disk_limit < 1:
            raise DataError(f"{name}: disk_limit {disk_limit}, expected a number of bytes, at least 1")
        super().__init__(_snapshot(name, revision))
        self.name, self.commit, self.disk_limit = name, self.root.name, disk_limit
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._held: Counter[str] = Counter()
        self._evicted: Callable[[str], None] = lambda name: None
        self._videos: OrderedDict[str, int] = OrderedDict()
        old = [path for path in (self.root / "videos").rglob("*") if path.is_file()]
        for path in sorted(old, key=lambda path: path.stat().st_atime):
            self._videos[path.relative_to(self.root).as_posix()] = path.stat().st_size

    def watch(self, evicted: Callable[[str], None]) -> None:
        self._evicted = evicted

    def at_hand(self, name: str) -> bool:
        return (self.root / name).is_file()

    def use(self, name: str, what: str) -> Path:
        with self._lock:
            if not self.at_hand(name):
                self.good.discard(name)
                _fetch(self.name, name, self.commit, what)
            if name.startswith("videos/"):
                self._videos[name] = (self.root / name).stat().st_size
                self._videos.move_to_end(name)
                self._make_room(name)
        return super().use(name, what)

    @contextmanager
    def held(self, names: Sequence[str]) -> Iterator[None]:
        with self._lock:
            self._held.update(names)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(names)
                self._held += Counter()  # forget those that nobody holds
                self._make_room("")

    def _make_room(self, latest: str) -> None:
        if self.disk_limit is None:
            return
        over = sum(self._videos.values()) - self.disk_limit
        for name in list(self._videos):
            if over > 0 and name != latest and not self._held[name]:
                over -= self._videos.pop(name)
                path = self.root / name
                path.resolve().unlink(missing_ok=True)  # the content; the name is a link to it
                path.unlink(missing_ok=True)
                self._evicted(name)

    def identity(self, name: str) -> tuple[str, int, int] | None:
        """`None` for a file that is not here: the commit stands for it."""
        return super().identity(name) if self.at_hand(name) else None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("root", "sums", "good", "name", "commit", "disk_limit")
        return {key: self.__dict__[key] for key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()


def open_files(root: str | Path, revision: str | None, disk_limit: int | None) -> LocalFiles:
    """The files of a folder, or of a Hub id (`owner/name`). Raises DataError where it is neither."""
    if Path(root).is_dir():
        if revision is not None or disk_limit is not None:
            raise DataError(
                f"{root}: is a folder, so it takes no revision ({revision!r}) and no disk_limit ({disk_limit})"
            )
        return LocalFiles(Path(root))
    if _HUB_ID.fullmatch(str(root)) is None:
        raise DataError(f"{root}: no such folder, expected a LeRobot {VERSION} data set or a Hub id (owner/name)")
    return HubFiles(str(root), revision, disk_limit)


def _hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: a refusal, a bad name, no network (an error of its HTTP library)."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    return (*HfHubHTTPError.__bases__, HFValidationError, OSError)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _snapshot(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["meta/*", "data/*"]  # a star also matches slashes
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=wanted))
    except _hub_errors() as error:
        at = "" if revision is None else f" at revision {revision!r}"
        raise DataError(
            f"{name}: no such folder, and the Hub gives no data set of this name{at} ({_one_line(error)})"
        ) from error


def _fetch(repo: str, name: str, commit: str, what: str) -> None:
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(repo, name, repo_type="dataset", revision=commit)
    except _hub_errors() as error:
        raise DataError(f"{repo}: {name}: the Hub does not give this {what} ({_one_line(error)})") from error
