"""What is checked when a LeRobot data set is opened: checksums, the files there are, and what its tables say of each
other."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isfile

import numpy as np

from jepa_actions.data.lerobot.checksums import content_fault, faults, read_checksums, size_fault
from jepa_actions.data.lerobot.faults import Faults
from jepa_actions.data.lerobot.files import LocalFiles
from jepa_actions.data.lerobot.labels import Labels
from jepa_actions.data.lerobot.meta import VERSION, Info, listed, required
from jepa_actions.data.lerobot.places import Places, check_ranges, placed_by_row
from jepa_actions.data.lerobot.tables import FileStamp, check_numbers, read_stamp
from jepa_actions.data.problems import Kind, Problem, raise_first
from jepa_actions.errors import DataError

SHORT = "observation.images."


def choose_cameras(info: Info, cameras: Sequence[str] | None) -> tuple[str, ...]:
    """The features asked for, by default all pictures. Raises DataError for one that is not, with those that are."""
    found = info.cameras
    chosen = tuple(found if cameras is None else (c if c in found else SHORT + c for c in cameras))
    unknown = [camera.removeprefix(SHORT) for camera in chosen if camera not in found]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        asked = repr(unknown[0]) if unknown else f"{list(cameras or ())}"
        raise DataError(f"{info.path}: camera {asked} asked for, expected some of the video features {listed(found)}")
    return chosen


def check_sums(files: LocalFiles, found: Faults) -> list[Problem]:
    """Sizes of all files and content of the tables against `meta/checksums.json`; videos follow on first use.

    Returns the faults of files outside `meta`, which concern episodes that are not known yet. Raises DataError for the
    first fault, unless they are tolerated.
    """
    with found.collected(file="meta/checksums.json", kind="checksum"):
        files.sums = read_checksums(files.root)
    if files.sums is None:
        return []
    here = [name for name in files.sums if files.complete or (files.root / name).is_file()]
    tables = [name for name in here if name.startswith("meta/") or name.endswith(".parquet")]
    wrong = faults(files.root, here, files.sums, size_fault)
    sized = {problem.file for problem in wrong}
    wrong += faults(files.root, [name for name in tables if name not in sized], files.sums, content_fault)
    if not found.tolerant:
        raise_first(wrong)
    files.good |= set(tables) - {problem.file for problem in wrong}
    for problem in wrong:
        if problem.file.startswith("meta/"):
            found.add(problem.message, file=problem.file, kind=problem.kind)
    return [problem for problem in wrong if not problem.file.startswith("meta/")]


def place_faults(info: Info, places: Places, damaged: Sequence[Problem], found: Faults) -> None:
    """Say of which episodes the damaged files are, and where the table of episodes contradicts itself or info.json."""
    table = f"{info.path.parent}/episodes"
    for i, field, message in check_ranges(places, info.fps):
        found.add(f"{table}: {message}", file="meta/episodes", kind="description", field=field, episodes=[i])
    frames = int(places.length.sum())
    if info.total_frames is not None and info.total_frames != frames:
        message = f"{info.path}: total_frames is {info.total_frames}, expected {frames}, the sum of all lengths"
        found.add(message, file="meta/info.json", kind="description", field="total_frames", fatal=False)
    if not damaged:
        return
    members: dict[str, list[int]] = {}
    for group in (places.data, *places.videos.values()):
        for k, name in enumerate(group.names):
            members.setdefault(name, []).extend(group.members(k).tolist())
    for problem in damaged:
        found.add(problem.message, file=problem.file, kind=problem.kind, episodes=members.get(problem.file))


def check_files(files: LocalFiles, info: Info, places: Places, labels: Labels, found: Faults) -> Places:
    """Every file exists, and a table has as many rows as its episodes have frames, and numbers where numbers belong.

    Returns the places, corrected where row numbers tell that an episode is in another file. Of a data set with one file
    per episode only the first table is looked into: the others are when they are read.
    """
    stamps = _stamps(files, info, places, found)
    if info.version == VERSION:
        places, stamps = _by_row(files, info, places, stamps)
    numbers = {name: k for k, name in enumerate(places.data.names)}
    for name, stamp in stamps.items():
        members = places.data.members(numbers.get(name, -1))
        with found.collected(file=name, kind="rows", episodes=members):
            _check_table(files, name, stamp, int(places.length[members].sum()), labels)
    if not files.complete:
        return places  # videos come from the Hub when they are needed
    root = str(files.root)
    for camera, videos in places.videos.items():
        for k, name in enumerate(videos.names):
            if not isfile(f"{root}/{name}"):
                with found.collected(file=name, kind="missing", field=camera, episodes=videos.members(k)):
                    required(files.root / name, f"video of camera {camera!r}", info.version)
    return places


def _stamps(files: LocalFiles, info: Info, places: Places, found: Faults) -> dict[str, FileStamp]:
    stamps: dict[str, FileStamp] = {}
    root = str(files.root)
    for k, name in enumerate(places.data.names):
        there = isfile(f"{root}/{name}")
        if info.version != VERSION and stamps and there:
            continue
        kind: Kind = "unreadable" if there else "missing"
        with found.collected(file=name, kind=kind, episodes=places.data.members(k)):
            stamps[name] = read_stamp(required(files.root / name, "table of rows", info.version))
    return stamps


def _check_table(files: LocalFiles, name: str, stamp: FileStamp, needed: int, labels: Labels) -> None:
    path = files.root / name
    for column in labels.columns:
        if column not in stamp.types:
            raise DataError(f"{path}: no column {column!r}, expected it as in info.json")
        check_numbers(path, column, stamp.types[column])
    if stamp.rows < needed:
        raise DataError(f"{path}: {stamp.rows} rows, expected {needed}, one for every frame of its episodes")


def _by_row(
    files: LocalFiles, info: Info, places: Places, stamps: dict[str, FileStamp]
) -> tuple[Places, dict[str, FileStamp]]:
    """See `placed_by_row`; only where the table of episodes does not account for every row."""
    held = np.bincount(places.data.of, weights=places.length, minlength=len(places.data.names))
    rows = {name: stamp.rows for name, stamp in stamps.items()}
    if len(rows) < len(places.data.names) or [rows[name] for name in places.data.names] == held.tolist():
        return places, stamps
    folder = files.root / places.data.names[0].split("/")[0]
    names = [path.relative_to(files.root).as_posix() for path in sorted(folder.glob("*/*.parquet"))]
    try:
        everything = {name: stamps[name] if name in stamps else read_stamp(files.root / name) for name in names}
    except DataError:
        return places, stamps  # a file that no episode names: what is wrong is said of those that one does
    corrected = placed_by_row(places, {name: stamp.rows for name, stamp in everything.items()})
    return (places, stamps) if corrected is None else (corrected, everything)
