"""Columns that together are a rotation (a quaternion, a matrix, six dimensions), recognised by name, and whether they
are one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

RotationKind = Literal["quaternion", "matrix", "6d"]
TOLERANCE = 0.01  # of a norm, or of an entry of R R^T; float16 storage stays an order below
EXPECTED: dict[RotationKind, str] = {
    "quaternion": "norm 1",
    "matrix": "orthonormal, determinant 1",
    "6d": "two directions that are not parallel",
}
_DIFFERENCE = re.compile(r"(^|[._/ ])(delta|d|diff|vel|velocity)([._/ ]|$)", re.IGNORECASE)
_QUATERNION = (
    re.compile(r"^(?P<stem>.*?)(?:q|quat|quaternion)[._]?(?P<part>[wxyz])$", re.IGNORECASE),
    re.compile(r"^(?P<stem>.*?)(?:quat|quaternion)[._\[]?(?P<part>[0-3])\]?$", re.IGNORECASE),
)
_SIX = (
    re.compile(r"^(?P<stem>.*?)(?:rot|rotation|r|ori|orientation)?[._]?6d[._\[]?(?P<part>[0-5])\]?$", re.IGNORECASE),
)
_MATRIX = (
    re.compile(
        r"^(?P<stem>.*?)(?:rot|rotmat|rotation|matrix|rot_mat|rotation_matrix|r)[._\[]?(?P<part>[0-3][._,]?[0-3])\]?$",
        re.IGNORECASE,
    ),
    re.compile(r"^(?P<stem>.*?)(?:rotmat|matrix|rot_mat|rotation_matrix)[._\[]?(?P<part>[0-8])\]?$", re.IGNORECASE),
)
_FORMS: tuple[tuple[RotationKind, tuple[re.Pattern[str], ...], tuple[frozenset[str], ...]], ...] = (
    ("quaternion", _QUATERNION, (frozenset("wxyz"), frozenset("0123"))),
    ("6d", _SIX, (frozenset("012345"),)),
    (
        "matrix",
        _MATRIX,
        (
            frozenset("012345678"),
            frozenset(f"{i}{j}" for i in "012" for j in "012"),
            frozenset(f"{i}{j}" for i in "123" for j in "123"),
        ),
    ),
)


def rotation_groups(names: Sequence[str]) -> list[tuple[RotationKind, list[int]]]:
    """Which dimensions form a rotation, in the order w x y z or 0 1 2 ..., row by row for a matrix.

    Names that say a difference or a velocity (`delta_qx`) are left out.
    """
    found: list[tuple[RotationKind, list[int]]] = []
    taken: set[int] = set()
    for kind, patterns, complete in _FORMS:
        for pattern in patterns:
            parts: dict[str, dict[str, int]] = {}
            for k, name in enumerate(names):
                match = pattern.match(name)
                if match is not None and k not in taken and not _DIFFERENCE.search(name):
                    part = re.sub(r"[._,]", "", match["part"].lower())
                    parts.setdefault(match["stem"].lower(), {})[part] = k
            for members in parts.values():
                if frozenset(members) in complete:
                    found.append((kind, [members[part] for part in sorted(members)]))
                    taken.update(members.values())
    return found


def is_rotation(values: Float[np.ndarray, "t d"], kind: RotationKind) -> Bool[np.ndarray, "t"]:
    """Which rows are a rotation: of unit norm, orthonormal with determinant 1, or two directions that differ."""
    rows = values.astype(np.float64)
    with np.errstate(all="ignore"):
        if kind == "quaternion":
            return np.asarray(np.abs(np.linalg.norm(rows, axis=1) - 1) <= TOLERANCE)
        if kind == "matrix":
            matrix = rows.reshape(-1, 3, 3)
            off = np.abs(matrix @ matrix.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
            return np.asarray((off <= TOLERANCE) & (np.abs(np.linalg.det(matrix) - 1) <= 3 * TOLERANCE))
        halves = rows.reshape(-1, 2, 3)  # two vectors one after the other, or interleaved: either will do
        return np.asarray(_two_directions(halves) | _two_directions(rows.reshape(-1, 3, 2).transpose(0, 2, 1)))


def _two_directions(pairs: Float[np.ndarray, "t 2 3"]) -> Bool[np.ndarray, "t"]:
    norms = np.linalg.norm(pairs, axis=2)
    area = np.linalg.norm(np.cross(pairs[:, 0], pairs[:, 1]), axis=1)
    return np.asarray((norms.min(axis=1) > TOLERANCE) & (area > TOLERANCE * norms.prod(axis=1)))
