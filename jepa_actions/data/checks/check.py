"""Every problem of a data set in one pass, with episode and file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path

from jepa_actions.data.checks.duplicates import Digests, repeated, shared
from jepa_actions.data.checks.files import Place, unopened
from jepa_actions.data.checks.frames import check_frames
from jepa_actions.data.checks.labels import check_labels
from jepa_actions.data.checks.meta import action_ranges, check_splits, check_sums
from jepa_actions.data.open import load_dataset
from jepa_actions.data.problems import Problem, bad_episodes
from jepa_actions.data.types import VideoDataset
from jepa_actions.errors import JepaActionsError


def check(
    data: VideoDataset | str | Path,
    *,
    validation: VideoDataset | str | Path | None = None,
    decode: bool = True,
    cameras: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    angles: Collection[str] = (),
    threads: int | None = None,
) -> list[Problem]:
    """All problems of `data`, sorted by episode, those of the whole data set first; an empty list where there is none.

    Fatal are: files that are missing, damaged (against `meta/checksums.json`, where there is one) or undecodable,
    metadata, rows and frames that contradict each other, time that goes back, actions or states that are not finite,
    absurd or outside declared bounds, rotations that are none, actions that are all the same, an episode that comes
    twice, an episode that is in the validation set too. Warnings are: wrapped angles, outliers, one dimension that
    never changes, jumps in time, missing text, a camera that shows one picture.

    Args:
        data: a data set, or what `load_dataset` opens. Something that is no data set is a fatal problem, not an error.
        validation: a data set that must not share an episode with `data`.
        decode: whether every frame is decoded once; without it video is only looked at as the reader does.
        cameras: where `data` is a path, the cameras to look at; default: all.
        image_size: (H, W), for data sets whose videos differ in size.
        angles: names of dimensions that are angles, beside those whose name says so.
        threads: of decoding; default: the number of processors.
    """
    threads = threads or os.cpu_count() or 1
    problems, dataset, digests = _check_one(data, decode, cameras, image_size, angles, threads)
    if validation is not None:
        others, other, there = _check_one(validation, decode, cameras, image_size, angles, threads)
        name = other.name if other is not None else str(validation)
        found = [p for p in others if p.fatal and (other is None or p.kind in ("frames", "unreadable"))]
        problems += [Problem(None, p.file, p.field, f"validation set {name}: {p.message}", True, p.kind) for p in found]
        problems += shared(digests, there, name, Place(dataset).labels)
    return sorted_problems(problems)


def sorted_problems(problems: Collection[Problem]) -> list[Problem]:
    """Each once; the data set's own first, then by episode, the fatal ones first."""
    order = {p: None for p in problems}
    return sorted(order, key=lambda p: (-1 if p.episode is None else p.episode, not p.fatal, p.file, p.field))


def _check_one(
    data: VideoDataset | str | Path,
    decode: bool,
    cameras: Sequence[str] | None,
    image_size: tuple[int, int] | None,
    angles: Collection[str],
    threads: int,
) -> tuple[list[Problem], VideoDataset | None, Digests]:
    """The problems, the data set where it opens, and the digests of what was read."""
    digests = Digests()
    if isinstance(data, str | Path):
        try:
            dataset = load_dataset(data, cameras=cameras, image_size=image_size, tolerant=True)
        except JepaActionsError as error:
            closed = unopened(Path(data), str(error), cameras, image_size)
            return [*(check_sums(Path(data)) or ()), *check_splits(Path(data)), *closed], None, digests
    else:
        dataset = data
    root, place = getattr(dataset, "root", None), Place(dataset)
    told: list[Problem] = list(getattr(dataset, "problems", ()))
    problems = list(told)
    if root is not None:
        sums = check_sums(Path(root))
        problems = [*check_splits(Path(root)), *(told if sums is None else place.joined(sums, told))]
    bounds, stated = action_ranges(root, len(dataset.action_names or ()))
    problems += check_labels(
        dataset, file_of=place.labels, angles=angles, bounds=bounds, stated=stated, skip=bad_episodes(problems)
    )
    if decode:
        unread = bad_episodes(p for p in problems if p.kind != "labels" or p.field == "")
        found = check_frames(
            dataset, one_camera=_camera_opener(dataset), file_of=place.video, skip=unread, threads=threads
        )
        problems += found.problems
        problems += [p for p in getattr(dataset, "problems", ()) if p not in told]  # seen when videos were opened
        digests.frames = found.frames(dataset.cameras)
    bad = bad_episodes(problems)
    for i in range(len(dataset)):
        if i not in bad:
            digests.add_labels(i, dataset.episode(i))
    return [*problems, *repeated(digests, place.labels)], dataset, digests


def _camera_opener(dataset: VideoDataset) -> Callable[[str], VideoDataset] | None:
    from jepa_actions.data.lerobot.reader import LeRobot

    if not isinstance(dataset, LeRobot) or len(dataset.cameras) < 2:
        return None
    root, size = dataset.root, dataset.image_size(dataset.cameras[0])
    return lru_cache(lambda camera: LeRobot(root, cameras=[camera], image_size=size, tolerant=True))
