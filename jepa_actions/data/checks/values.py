"""What can be wrong with one episode's numbers: not finite, absurd, out of range, angles that wrap, rotations that are
none, time that goes back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jepa_actions.data.checks.rotations import EXPECTED, is_rotation, rotation_groups
from jepa_actions.data.problems import Kind

ABSURD = 1e6  # an action above this is no command of any machine in any unit: fatal
ANGLE = re.compile(r"(^|[._/ ])(roll|pitch|yaw|theta|phi|psi|heading|r[xyz])\d*([._/ ]|$)|angle", re.IGNORECASE)
Bounds = tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]  # smallest and largest


class Fault(NamedTuple):
    """A problem of an episode that does not know yet which."""

    kind: Kind
    field: str
    message: str
    fatal: bool


def number_faults(
    label: str, names: Sequence[str], values: Float[np.ndarray, "t d"], known: Bool[np.ndarray, "t"]
) -> Iterator[Fault]:
    """Values in known rows that are not finite (fatal) or absurd (fatal in actions); one fault per dimension."""
    finite = np.isfinite(values)
    absurd = finite & (np.abs(values) > ABSURD)
    for bad, found, expected, fatal in (
        (~finite, "not finite", "a finite number", True),
        (absurd, "absurd", f"at most {ABSURD:g} in magnitude", label == "action"),
    ):
        for k, name in enumerate(names):
            rows = np.flatnonzero(bad[:, k] & known)
            if len(rows):
                yield Fault(
                    "labels",
                    f"{label}.{name}",
                    f"{label} {name} is {found} in {len(rows)} of {len(values)} rows, first in row {rows[0]} "
                    f"({values[rows[0], k]:g}), expected {expected}",
                    fatal,
                )


def range_faults(
    label: str,
    names: Sequence[str],
    values: Float[np.ndarray, "t d"],
    known: Bool[np.ndarray, "t"],
    bounds: Bounds,
    source: str,
    fatal: bool,
) -> Iterator[Fault]:
    """Values in known rows outside the range that `source` states, beyond a thousandth of it; one fault per
    dimension."""
    low, high = bounds
    with np.errstate(invalid="ignore"):
        slack = 1e-3 * np.nan_to_num(high - low, posinf=0.0) + 1e-6
        outside = np.isfinite(values) & ((values < low - slack) | (values > high + slack))
    for k, name in enumerate(names):
        rows = np.flatnonzero(outside[:, k] & known)
        if len(rows):
            yield Fault(
                "labels",
                f"{label}.{name}",
                f"{label} {name} is out of range in {len(rows)} of {len(values)} rows, first in row {rows[0]} "
                f"({values[rows[0], k]:g}), expected {low[k]:g} to {high[k]:g} as {source} says",
                fatal,
            )


def angle_faults(
    label: str,
    names: Sequence[str],
    values: Float[np.ndarray, "t d"],
    known: Bool[np.ndarray, "t"],
    angles: Collection[str] = (),
) -> Iterator[Fault]:
    """Angles, by their name or because `angles` says so, that jump by more than half a turn: warnings."""
    usable = known & np.isfinite(values).all(axis=1)
    both = usable[1:] & usable[:-1]
    for k, name in enumerate(names):
        if not both.any() or not (ANGLE.search(name) or name in angles):
            continue
        column = values[:, k].astype(np.float64)
        half = 180.0 if np.abs(column[usable]).max() > 2 * np.pi + 0.1 else np.pi  # degrees beyond a turn in radians
        with np.errstate(invalid="ignore"):
            jumps = np.flatnonzero((np.abs(np.diff(column)) > half) & both)
        if len(jumps):
            row = int(jumps[0])
            yield Fault(
                "labels",
                f"{label}.{name}",
                f"{label} {name} is a wrapped angle, found {len(jumps)} jumps of more than half a turn, first after "
                f"row {row} ({column[row]:.3f} to {column[row + 1]:.3f}); take differences with wrapped angles",
                False,
            )


def rotation_faults(
    label: str, names: Sequence[str], values: Float[np.ndarray, "t d"], known: Bool[np.ndarray, "t"]
) -> Iterator[Fault]:
    """Quaternions, matrices and 6-D rotations, recognised by name, that are no rotation: fatal."""
    for kind, members in rotation_groups(names):
        rows = values[:, members]
        usable = known & np.isfinite(rows).all(axis=1)
        wrong = np.flatnonzero(usable & ~is_rotation(rows, kind))
        if len(wrong):
            joined = ", ".join(names[k] for k in members)
            yield Fault(
                "labels",
                f"{label}.{names[members[0]]}",
                f"{label} ({joined}) in row {wrong[0]} is {np.round(rows[wrong[0]], 4).tolist()}, expected a rotation "
                f"({EXPECTED[kind]}); {len(wrong)} of {len(values)} rows are none",
                True,
            )


def time_faults(times: Float[np.ndarray, "t"], fps: float) -> Iterator[Fault]:
    """Time that does not grow (fatal), jumps, or grows at another rate than the data set's (warnings: frames can be
    resampled by time)."""
    gaps = np.diff(times)
    if len(gaps) == 0:
        return
    back = np.flatnonzero(~(gaps > 0))
    if len(back):
        k = int(back[0])
        message = f"time goes from {times[k]:.4f} s to {times[k + 1]:.4f} s after frame {k}, expected it to grow"
        yield Fault("rows", "timestamp", f"{message} ({len(back)} such steps)", True)
        return
    typical = float(np.median(gaps))
    if abs(typical * fps - 1) > 0.1:
        yield Fault(
            "rows",
            "fps",
            f"frames are {typical:.4f} s apart ({1 / typical:.3g} Hz), expected {1 / fps:.4f} s of the data set's "
            f"{fps:g} fps",
            False,
        )
    jumps = np.flatnonzero(np.abs(gaps - typical) > 0.5 * typical)
    if len(jumps):
        k = int(jumps[0])
        yield Fault(
            "rows",
            "timestamp",
            f"{gaps[k]:.4f} s between frames {k} and {k + 1}, expected about {typical:.4f} s ({len(jumps)} such jumps)",
            False,
        )
