"""What a LeRobot folder says about itself in `meta/info.json`, versions v3.0 and v2.1 (and v2.0, laid out the same)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from jepa_actions.errors import DataError

VERSION = "v3.0"
LEGACY = ("v2.1", "v2.0")  # one file per episode; they differ in their statistics only, which are not read
KINDS: dict[str, tuple[type, ...]] = {
    "fps": (int, float),
    "total_episodes": (int,),
    "features": (dict,),
    "data_path": (str,),
    "video_path": (str, type(None)),
}
MOST_DIMENSIONS = 65536  # of a feature, or pixels along an image's side: what a damaged file claims beyond is refused
MOST_BYTES = 1 << 30  # of a JSON file
FASTEST = 1e6  # frames per second
_FOREIGN = re.compile(r"[\x00-\x1f\\\ud800-\udfff]|^[A-Za-z]:")  # not in a path, or a drive of another system
HIDDEN = ("timestamp", "frame_index", "episode_index", "index", "task_index")  # columns that are no labels


@dataclass(frozen=True)
class Info:
    """`meta/info.json`, the fields this library reads."""

    path: Path
    version: str
    fps: float
    total_episodes: int
    total_frames: int | None
    chunks_size: int
    features: dict[str, dict[str, Any]]
    data_path: str
    video_path: str | None
    video_labels: bool  # every video says in its `comment` which one it is

    @property
    def cameras(self) -> tuple[str, ...]:
        """Features that are pictures: videos, or images inside the table of rows."""
        return tuple(key for key, feature in self.features.items() if feature.get("dtype") in ("video", "image"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Features that can be asked for as labels."""
        return tuple(key for key in self.features if key not in self.cameras and key not in HIDDEN)

    def is_video(self, camera: str) -> bool:
        """Whether a camera is in video files; else it is images in the table of rows."""
        return self.features[camera].get("dtype") == "video"

    def size(self, camera: str) -> tuple[int, int]:
        """(H, W) that a camera's feature states."""
        feature = self.features[camera]
        names, shape = feature.get("names") or ["height", "width", "channels"], feature.get("shape")
        if isinstance(names, list) and isinstance(shape, list) and len(shape) == len(names):
            once = all(names.count(side) == 1 for side in ("height", "width"))
            if once and all(_is_size(value) for value in shape):
                return int(shape[names.index("height")]), int(shape[names.index("width")])
        raise DataError(
            f"{self.path}: feature {camera!r} has shape {shape} named {names}, expected height, width, channels"
        )

    def names(self, feature: str) -> tuple[str, ...] | None:
        """Names of a feature's dimensions, numbered where it gives none; `None` where there is no such feature."""
        if feature not in self.features:
            return None
        names, shape = self.features[feature].get("names"), self.features[feature].get("shape")
        if not isinstance(shape, list) or len(shape) != 1 or not _is_size(shape[0]):
            raise DataError(f"{self.path}: feature {feature!r} has shape {shape}, expected one dimension")
        if isinstance(names, dict):  # LeRobot also writes {"motors": [...]}
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
        if not isinstance(names, list) or len(names) != shape[0]:
            names = [f"{feature}_{k}" for k in range(shape[0])]
        return tuple(str(name) for name in names)

    def note(self, feature: str, key: str) -> Any:
        """What a feature's own `info` says of `key`; `None` where it says nothing."""
        info = self.features[feature].get("info")
        return info.get(key) if isinstance(info, dict) else None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_DIMENSIONS


def required(path: Path, what: str, version: str = VERSION) -> Path:
    """`path`, or DataError saying which file of the data set is missing."""
    if not path.is_file():
        raise DataError(f"{path}: missing, expected the {what} of a LeRobot {version} data set")
    return path


def read_json(path: Path) -> Any:
    """A JSON file. Raises DataError where it is not one, or is too large to be one of a data set's."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes, expected at most {MOST_BYTES}")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not valid JSON ({error})") from error  # a number of too many digits


def read_info(root: Path) -> Info:
    """Read and check `meta/info.json`. Raises DataError naming the field that cannot be."""
    path = required(root / "meta" / "info.json", "description")
    raw = read_json(path)
    version = raw.get("codebase_version") if isinstance(raw, dict) else None
    if version != VERSION and version not in LEGACY:
        raise DataError(
            f"{path}: codebase_version is {version!r}, expected {VERSION!r}, {LEGACY[0]!r} or {LEGACY[1]!r}; LeRobot "
            f"has a converter for older ones"
        )
    for key, kinds in KINDS.items():
        if not isinstance(raw.get(key), kinds) or isinstance(raw.get(key), bool):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{path}: {key} is {raw.get(key)!r:.80}, expected {wanted}")
    if not 0 < raw["fps"] <= FASTEST:  # also false for NaN
        raise DataError(f"{path}: fps is {raw['fps']}, expected a positive number, at most {FASTEST:g}")
    wrong = [key for key, feature in raw["features"].items() if not isinstance(feature, dict)]
    if wrong:
        raise DataError(
            f"{path}: feature {wrong[0]!r} is {raw['features'][wrong[0]]!r:.80}, expected dtype, shape, names"
        )
    chunks = raw.get("chunks_size", 1000)
    if not isinstance(chunks, int) or isinstance(chunks, bool) or not 1 <= chunks <= MOST_BYTES:
        raise DataError(f"{path}: chunks_size is {chunks!r:.40}, expected a whole number, 1 to {MOST_BYTES}")
    frames = raw.get("total_frames")
    frames = frames if isinstance(frames, int) and not isinstance(frames, bool) else None
    paths = (raw["data_path"], raw["video_path"])
    labels = raw.get("video_labels") is True
    return Info(
        path, version, float(raw["fps"]), raw["total_episodes"], frames, chunks, raw["features"], *paths, labels
    )


class PathPattern:
    """A pattern such as `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet` of `meta/info.json`.

    Only `keys` may stand in it, numbers with a plain width: format strings can do much more, and this one comes from a
    file. `needed` must. Raises DataError where the pattern, or a path it gives, is not one inside the data set.
    """

    def __init__(self, where: Path, pattern: str, keys: tuple[str, ...], needed: str) -> None:
        self.where, self.pattern = where, pattern
        self._fault = f"{where}: path pattern {pattern!r}, expected {' and '.join(keys)} in it"
        try:
            parts = list(Formatter().parse(pattern))
        except ValueError as error:
            raise DataError(self._fault) from error
        fields = [field for _, field, _, _ in parts if field is not None]
        if not set(fields) <= set(keys) or needed not in fields:
            raise DataError(self._fault)
        for _, field, form, conversion in parts:
            plain = r"" if field == "video_key" else r"0?\d{0,2}d?"
            if field is not None and (conversion is not None or re.fullmatch(plain, form or "") is None):
                raise DataError(self._fault)

    def fill(self, values: Mapping[str, int | str]) -> str:
        """The path, relative to the data set, with forward slashes."""
        return inside(self.pattern.format(**values), self.where)


def inside(path: str, where: Path) -> str:
    """`path`, or DataError naming `where` unless it is a plain relative path that stays inside its folder."""
    if not {"", ".", ".."}.isdisjoint(path.split("/")) or _FOREIGN.search(path):
        raise DataError(f"{where}: path {path!r}, expected one inside the data set")
    return path


def listed(names: Iterable[str]) -> str:
    """Names for an error message, in one line whatever is in them."""
    return ", ".join(name if name.isprintable() else repr(name) for name in names) or "(none)"
