"""A data set without its bad episodes, and the list of what was left out and why."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from jepa_actions.data.checks.check import check
from jepa_actions.data.checks.files import unopened
from jepa_actions.data.open import load_dataset
from jepa_actions.data.problems import Problem, bad_episodes, raise_first
from jepa_actions.data.sources.folder import VideoFolder
from jepa_actions.data.types import VideoDataset
from jepa_actions.data.view import Subset
from jepa_actions.errors import DataError

log = logging.getLogger(__name__)


class Skipped(TypedDict):
    """Why an episode was left out: the first of its fatal problems."""

    episode: int
    file: str
    field: str
    message: str


class Quarantined(Subset):
    """`dataset` without the episodes that have a fatal problem, numbered anew; `skipped` says which and why."""

    def __init__(self, dataset: VideoDataset, problems: Iterable[Problem]) -> None:
        skipped = _skipped(problems)
        if len(skipped) == len(dataset):
            raise DataError(
                f"{dataset.name}: all {len(skipped)} episodes have problems, expected one without; the first: "
                f"{skipped[0]['message']}"
            )
        bad = {item["episode"] for item in skipped}
        super().__init__(dataset, [i for i in range(len(dataset)) if i not in bad])
        self.skipped = skipped

    def over(self, dataset: VideoDataset) -> VideoDataset:
        """The same episodes of another data set."""
        return Subset(dataset, self.chosen.tolist())


def quarantine(
    data: VideoDataset | str | Path,
    *,
    cameras: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    decode: bool = True,
    threads: int | None = None,
    **columns: Any,
) -> Quarantined:
    """`data` without the episodes in which `check` finds a fatal problem; the count is logged in one line.

    Args:
        data: a data set, or what `load_dataset` opens; a path is opened with its faults tolerated, so that the good
            episodes of a damaged data set can be read.
        cameras, image_size, columns: as for `load_dataset`, where `data` is a path.
        decode: whether every frame is decoded in the search.
        threads: of decoding; default: the number of processors.

    Raises:
        DataError: where a problem concerns the whole data set and not some of its episodes, or no episode is good.
    """
    lost: list[Problem] = []  # videos of a folder that do not open; what is left is numbered anew
    if isinstance(data, str | Path):
        try:
            dataset = load_dataset(data, cameras=cameras, image_size=image_size, tolerant=True, **columns)
        except DataError as error:
            lost = unopened(Path(data), str(error), cameras, image_size)
            raise_first(p for p in lost if p.episode is None)
            dataset = VideoFolder(data, cameras=cameras, image_size=image_size, skip={p.file for p in lost})
    else:
        dataset = data
    gone = bad_episodes(lost)
    number = [i for i in range(len(dataset) + len(gone)) if i not in set(gone)]
    problems = check(dataset, decode=decode, threads=threads)
    raise_first(p for p in problems if p.episode is None)
    found = Quarantined(dataset, problems)
    for item in found.skipped:
        item["episode"] = number[item["episode"]]
    found.skipped = sorted([*_skipped(lost), *found.skipped], key=lambda item: item["episode"])
    if found.skipped:
        numbers = ", ".join(str(item["episode"]) for item in found.skipped[:10])
        more = f" and {len(found.skipped) - 10} more" if len(found.skipped) > 10 else ""
        log.warning(
            "%s: skipped %d of %d episodes: %s%s",
            found.name,
            len(found.skipped),
            len(number) + len(gone),
            numbers,
            more,
        )
    return found


def _skipped(problems: Iterable[Problem]) -> list[Skipped]:
    """The first fatal problem of every episode that has one."""
    problems = list(problems)
    first = {p.episode: p for p in reversed(problems) if p.fatal and p.episode is not None}
    return [
        {"episode": i, "file": first[i].file, "field": first[i].field, "message": first[i].message}
        for i in bad_episodes(problems)
    ]
