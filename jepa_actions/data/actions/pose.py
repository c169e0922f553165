"""From one pose to another as numbers, and back: changes of readings, in the frame of the base or of the tool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.data.actions.bounds import check_keys
from jepa_actions.data.actions.rotation import WIDTH, Form, from_matrix, not_a_rotation, to_matrix
from jepa_actions.errors import DataError

Change = Literal["euler", "rotvec", "matrix", "6d"]
SUFFIXES: dict[Change, tuple[str, ...]] = {
    "euler": ("roll", "pitch", "yaw"),
    "rotvec": ("rx", "ry", "rz"),
    "matrix": tuple(f"r{row}{column}" for row in range(3) for column in range(3)),
    "6d": tuple(f"r{row}{column}" for column in range(2) for row in range(3)),
}


def wrapped(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The same angles in (-pi, pi], in radians; those inside stay as they are, to the bit."""
    turned = math.pi - torch.remainder(math.pi - angle, 2 * math.pi)
    turned = torch.where(turned <= -math.pi, math.pi, turned)
    return torch.where((angle > -math.pi) & (angle <= math.pi), angle, turned)


def wrap_angle(angle: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The same angles in (-pi, pi], in radians."""
    found: np.ndarray = wrapped(torch.from_numpy(np.ascontiguousarray(angle))).numpy()
    return found


@dataclass(frozen=True)
class Pose:
    """Columns that together are a rotation, with or without a position, and how a change of them is written.

    `rotation` names the columns of the rotation in the order of its `form` (`data.rotation`), `position` those of x, y
    and z. With positions p, p' and rotations R, R' before and after, a change is, in the frame of the

        base:  p' - p          and   R' R^T
        tool:  R^T (p' - p)    and   R^T R'

    with the rotation written as `change`. Where `change` has as many numbers as `form` they stand in the columns'
    places, and otherwise where the first of the columns stood. Raises DataError for columns that do not make a pose.
    """

    rotation: tuple[int, ...]
    form: Form = "euler"
    change: Change = "rotvec"
    position: tuple[int, ...] | None = None
    frame: Literal["base", "tool"] = "base"

    def __post_init__(self) -> None:
        if self.form not in WIDTH or self.change not in SUFFIXES or self.frame not in ("base", "tool"):
            raise DataError(
                f"pose: form {self.form!r}, change {self.change!r} and frame {self.frame!r}, expected one of "
                f"{', '.join(WIDTH)}; one of {', '.join(SUFFIXES)}; base or tool"
            )
        if len(self.rotation) != WIDTH[self.form]:
            raise DataError(
                f"pose: rotation in columns {self.rotation}, expected the {WIDTH[self.form]} of form {self.form}"
            )
        if self.position is not None and len(self.position) != 3:
            raise DataError(f"pose: position in columns {self.position}, expected the 3 of x, y, z")
        if len(set(self.columns)) < len(self.columns) or min(self.columns) < 0:
            raise DataError(f"pose: columns {self.columns}, expected each once and none negative")

    @property
    def columns(self) -> tuple[int, ...]:
        """All of its columns."""
        return (*self.rotation, *(self.position or ()))

    @property
    def growth(self) -> int:
        """How many more numbers a change has than the columns of the rotation."""
        return len(SUFFIXES[self.change]) - len(self.rotation)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, read back by `from_dict`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Pose:
        """The pose that `to_dict` wrote. Raises CheckpointError naming keys that are missing or not known."""
        check_keys("pose", saved, {"rotation", "form", "change", "position", "frame"})
        position = saved["position"]
        return cls(
            tuple(saved["rotation"]),
            saved["form"],
            saved["change"],
            None if position is None else tuple(position),
            saved["frame"],
        )


@dataclass(frozen=True)
class Displacement:
    """What leads from one row of `width` numbers to another, as a raw action of `size` numbers; exact both ways.

    Columns change by their difference, those in `angles` by the wrapped one; `absolute` ones are taken as they are
    afterwards; `poses` change as they say. Raises DataError for columns that do not exist or are claimed twice.
    """

    width: int
    angles: tuple[int, ...] = ()
    absolute: tuple[int, ...] = ()
    poses: tuple[Pose, ...] = ()

    def __post_init__(self) -> None:
        taken = [k for pose in self.poses for k in pose.columns]
        for name, columns in (("angles", self.angles), ("absolute", self.absolute), ("poses", tuple(taken))):
            if any(not 0 <= k < self.width for k in columns):
                raise DataError(
                    f"action codec: {name} {columns}, expected dimensions of the action, 0 to {self.width - 1}"
                )
        twice = sorted({k for k in taken if taken.count(k) > 1} | (set(taken) & {*self.angles, *self.absolute}))
        if twice:
            raise DataError(
                f"action codec: columns {twice} belong to a pose and to another pose, to angles or to absolute columns"
            )

    @cached_property
    def places(self) -> tuple[dict[int, int], list[list[int]]]:
        """Where the columns that are no rotation stand in the raw action, and where each pose's rotation does."""
        owner = {k: i for i, pose in enumerate(self.poses) for k in pose.rotation}
        column_at: dict[int, int] = {}
        pose_at = [[0] * len(SUFFIXES[pose.change]) for pose in self.poses]
        size = 0
        for k in range(self.width):
            if k not in owner:
                column_at[k] = size
                size += 1
                continue
            pose, found = self.poses[owner[k]], pose_at[owner[k]]
            if len(found) == len(pose.rotation):
                found[pose.rotation.index(k)] = size
                size += 1
            elif k == min(pose.rotation):
                found[:] = range(size, size + len(found))
                size += len(found)
        return column_at, pose_at

    @property
    def size(self) -> int:
        """Numbers of a raw action."""
        return self.width + sum(pose.growth for pose in self.poses)

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Names of a raw action's numbers, from those of the columns."""
        column_at, pose_at = self.places
        out = [""] * self.size
        for k, place in column_at.items():
            out[place] = columns[k]
        for i, (pose, at) in enumerate(zip(self.poses, pose_at, strict=True)):
            kept = pose.change == pose.form
            new = [columns[k] for k in pose.rotation] if kept else list(SUFFIXES[pose.change])
            for place, name in zip(at, new, strict=True):
                out[place] = name if kept or len(self.poses) == 1 else f"{i}.{name}"
        return tuple(out)

    def origin(self) -> Float[Tensor, "w"]:
        """A row of zeros whose rotations turn nothing; in float64."""
        row = torch.zeros(self.width, dtype=torch.float64)
        for pose in self.poses:
            row[list(pose.rotation)] = from_matrix(torch.eye(3, dtype=torch.float64), pose.form)
        return row

    def between(self, start: Float[Tensor, "*n w"], end: Float[Tensor, "*n w"]) -> Float[Tensor, "*n a"]:
        """The raw action that leads from `start` to `end`."""
        change, aside, angles = end - start, list(self.absolute), list(self.angles)
        if aside:
            change[..., aside] = end[..., aside].expand_as(change[..., aside])
        if angles:
            change[..., angles] = wrapped(change[..., angles])
        if not self.poses:
            return change
        column_at, pose_at = self.places
        out = change.new_zeros(*change.shape[:-1], self.size)
        for pose, at in zip(self.poses, pose_at, strict=True):
            before, after = (to_matrix(x[..., list(pose.rotation)], pose.form) for x in (start, end))
            turn = after @ before.mT if pose.frame == "base" else before.mT @ after
            out[..., at] = from_matrix(turn, pose.change)
            if pose.frame == "tool" and pose.position is not None:
                change[..., list(pose.position)] = (before.mT @ change[..., list(pose.position), None])[..., 0]
        out[..., list(column_at.values())] = change[..., list(column_at)]
        return out

    def after(self, start: Float[Tensor, "*n w"], raw: Float[Tensor, "*n a"]) -> Float[Tensor, "*n w"]:
        """Where a raw action leads from `start`; a quaternion keeps the sign that is nearest to the one before."""
        column_at, pose_at = self.places
        change, aside, angles, turned = raw, list(self.absolute), list(self.angles), []
        if self.poses:
            raw = raw.expand(*torch.broadcast_shapes(start.shape[:-1], raw.shape[:-1]), -1)
            change = raw.new_zeros(*raw.shape[:-1], self.width)
            change[..., list(column_at)] = raw[..., list(column_at.values())]
        for pose, at in zip(self.poses, pose_at, strict=True):
            before, turn = to_matrix(start[..., list(pose.rotation)], pose.form), to_matrix(raw[..., at], pose.change)
            rotation = from_matrix(turn @ before if pose.frame == "base" else before @ turn, pose.form)
            if pose.form == "quaternion":
                same = (rotation * start[..., list(pose.rotation)]).sum(-1, keepdim=True)
                rotation = torch.where(same < 0, -rotation, rotation)
            turned.append(rotation)
            if pose.frame == "tool" and pose.position is not None:
                change[..., list(pose.position)] = (before @ change[..., list(pose.position), None])[..., 0]
        row = start + change
        if aside:
            row[..., aside] = change[..., aside].expand_as(row[..., aside])
        if angles:
            row[..., angles] = wrapped(row[..., angles])
        for pose, rotation in zip(self.poses, turned, strict=True):
            row[..., list(pose.rotation)] = rotation
        return row

    def check(self, rows: Float[np.ndarray, "n w"], numbers: np.ndarray, place: str) -> None:
        """Raise DataError naming the place, the row (its number) and what was found where a rotation is none."""
        for pose in self.poses:
            bad, found, what = not_a_rotation(torch.from_numpy(rows[:, list(pose.rotation)]), pose.form)
            if bool(bad.any()):
                k = int(bad.nonzero()[0])
                columns = ", ".join(map(str, pose.rotation))
                raise DataError(
                    f"{place}, row {int(numbers[k])}, dimensions {columns}: not a rotation as {pose.form}: "
                    + what.format(found=float(found[k]))
                )
