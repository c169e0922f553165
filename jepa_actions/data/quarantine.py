"""A data set without its bad episodes, and the list of what was left out and why."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from jepa_actions.data.problems import Problem, bad_episodes, raise_first
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
        problems = list(problems)
        bad = bad_episodes(problems)
        first = {p.episode: p for p in reversed(problems) if p.fatal and p.episode is not None}
        if len(bad) == len(dataset):
            raise DataError(
                f"{dataset.name}: all {len(bad)} episodes have problems, expected one without; the first: "
                f"{first[bad[0]].message}"
            )
        super().__init__(dataset, [i for i in range(len(dataset)) if i not in set(bad)])
        self.skipped: list[Skipped] = [
            {"episode": i, "file": first[i].file, "field": first[i].field, "message": first[i].message} for i in bad
        ]

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
) -> Quarantined:
    """`data` without the episodes in which `check` finds a fatal problem; the count is logged in one line.

    Args:
        data: a data set, or what `load_dataset` opens; a path is opened with its faults tolerated, so that the good
            episodes of a damaged data set can be read.
        cameras, image_size: as for `load_dataset`, where `data` is a path.
        decode: whether every frame is decoded in the search.
        threads: of decoding; default: the number of processors.

    Raises:
        DataError: where a problem concerns the whole data set and not some of its episodes, or no episode is good.
    """
    from jepa_actions.data.check import check, open_tolerant

    dataset = (
        open_tolerant(data, cameras=cameras, image_size=image_size) if isinstance(data, str | Path) else data
    )
    problems = check(dataset, decode=decode, threads=threads)
    raise_first(p for p in problems if p.episode is None)
    found = Quarantined(dataset, problems)
    if found.skipped:
        numbers = ", ".join(str(item["episode"]) for item in found.skipped[:10])
        more = f" and {len(found.skipped) - 10} more" if len(found.skipped) > 10 else ""
        log.warning("%s: skipped %d of %d episodes: %s%s", found.name, len(found.skipped), len(dataset), numbers, more)
    return found
