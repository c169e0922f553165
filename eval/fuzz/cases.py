"""One damaged copy: made from a seed, looked at by `check`, opened and read; what came of it."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.base import BASES, LENGTHS, SIZES, labels_of, make_bases, seen, told
from fuzz.damage import CHECKSUMS, damage

from jepa_actions.data import load_dataset
from jepa_actions.data.checks.check import check
from jepa_actions.data.lerobot.checksums import seal
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import JepaActionsError

NAMING = ("checksum", "missing", "extra")  # the kinds of problem that `check` finds against checksums


@dataclass
class Row:
    """What came of one case. `faults` is empty where everything is as it must be."""

    case: int
    base: str
    sealed: bool
    damage: str
    said: str
    files: list[str]
    outcome: str = ""  # "raised": nothing could be read; "partly": some; "changed": all, some differ; "same": as before
    fatal: int = 0  # problems that `check` called so
    frozen: int = 0  # single frames that show a neighbour: an undetected bit flip in a video
    faults: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_case(seed: int, case: int, bases: dict[str, Path], folder: Path) -> tuple[Row, Path]:
    """The damaged copy of case number `case`: even ones are sealed."""
    rng = np.random.default_rng([seed, case])
    names = sorted(bases)
    base, sealed = names[case // 2 % len(names)], case % 2 == 0
    root = Path(shutil.copytree(bases[base], folder / f"case{case}"))
    if sealed and not (root / CHECKSUMS).is_file():
        seal(root)
    if not sealed:
        (root / CHECKSUMS).unlink(missing_ok=True)
    kind, changed, said = damage(rng, root)
    return Row(case, base, sealed, kind, said.replace(str(folder), ""), sorted(changed)), root


def run_case(row: Row, root: Path) -> Row:
    """Check, open and read; note every fault."""
    try:
        problems = check(root)
        row.fatal = sum(problem.fatal for problem in problems)
        named = {problem.file for problem in problems if problem.kind in NAMING}
        if row.sealed and named != set(row.files):
            row.faults.append(
                f"unnamed: {sorted(set(row.files) - named)}, intact ones named: {sorted(named - set(row.files))}"
            )
    except Exception:
        row.faults.append(f"check: {_last(traceback.format_exc())}")
    for tolerant in (False, True):
        found = Reading()
        try:
            found.read(root, tolerant)
        except JepaActionsError as error:
            found.raised += 1
            if len(str(error).splitlines()) != 1:
                row.faults.append(f"an error of several lines: {error}")
        except Exception:
            row.faults.append(f"reading{' (tolerant)' if tolerant else ''}: {_last(traceback.format_exc())}")
        row.faults += found.shifts
        if row.sealed and found.changed:
            row.faults.append(f"sealed, but {found.changed} frames or rows differ in silence")
        row.frozen = max(row.frozen, found.frozen)
        row.outcome = row.outcome or found.outcome
    return row


def _last(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return f"{lines[-1]:.200} at {places[-1] if places else '?'}"


@dataclass
class Reading:
    """Every frame and row read, against what they say they are."""

    good: int = 0
    changed: int = 0
    raised: int = 0
    frozen: int = 0
    shifts: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        if self.raised:
            return "partly" if self.good + self.changed else "raised"
        return "changed" if self.changed else "same"

    def read(self, root: Path, tolerant: bool) -> None:
        dataset = LeRobot(root, tolerant=True) if tolerant else load_dataset(root)
        lengths = dataset.lengths().tolist()
        for i, length in enumerate(lengths):
            for part in (self._labels(dataset, i), self._frames(dataset, i, length)):
                try:
                    for place, expected, found in part:
                        self._judge(place, expected, found)
                except JepaActionsError:
                    self.raised += 1

    def _labels(self, dataset: Any, i: int) -> Iterator[tuple[str, Sequence[Any], Sequence[Any]]]:
        episode = dataset.episode(i)
        whole = labels_of(i, max(episode.length, 2))
        for kind, values, wanted in ((0, episode.actions, whole.actions), (1, episode.proprio, whole.proprio)):
            if values is None:
                continue
            places = [told(kind, row) for row in values]
            for k, place in enumerate(places):
                if place is not None and place != (i, k):
                    self.shifts.append(f"episode {i}: row {k} of {('action', 'state')[kind]} is that of {place}")
                    break
            same = sum(place is not None for place in places)
            self.good += same
            self.changed += len(values) - same
            if wanted is not None and len(values) != LENGTHS[i] - (kind == 0):
                self.changed += 1
        yield from ()

    def _frames(self, dataset: Any, i: int, length: int) -> Iterator[tuple[str, Sequence[Any], Sequence[Any]]]:
        clips = dataset.read_clips(np.array([i]), np.arange(length)[None])
        for name, images in clips.items():
            camera = list(SIZES).index(name.removeprefix("observation.images."))
            pictures = images[0].permute(0, 2, 3, 1).numpy()
            yield name, [(camera, i, k) for k in range(length)], [seen(picture) for picture in pictures]

    def _judge(self, place: str, expected: Sequence[Any], found: Sequence[Any]) -> None:
        """A picture that another frame should show is an undetected fault of one frame, as a decoder makes of a flipped
        bit; two after each other, equally far away, are frames out of their place."""
        offsets = [
            None if f is None or f == e else tuple(b - a for a, b in zip(e, f, strict=True))
            for e, f in zip(expected, found, strict=True)
        ]
        for k, (one, two) in enumerate(zip(offsets, [*offsets[1:], None], strict=True)):
            if one is not None:
                self.frozen += 1
                if one == two or one[:2] != (0, 0):
                    self.shifts.append(f"{place}: frame {expected[k]} shows {found[k]}, and so on")
                    break
        same = sum(f == e for e, f in zip(expected, found, strict=True))
        self.good += same
        self.changed += len(expected) - same


def prepare(folder: Path, names: Sequence[str] = tuple(BASES)) -> dict[str, Path]:
    """The bases; read once, so that a fault of the comparison itself shows."""
    bases = make_bases(folder, names)
    for name, root in bases.items():
        found = Reading()
        found.read(root, tolerant=False)
        if found.outcome != "same" or found.shifts or check(root):
            raise RuntimeError(f"the base {name} is not read as it was made: {found}, {check(root)}")
    return bases
