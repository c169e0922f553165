"""Rotations in the forms that recordings hold them in, by way of 3x3 matrices; and what leads from one to another.

| form | numbers |
|---|---|
| `euler` | roll, pitch, yaw about the fixed axes x, then y, then z, in radians |
| `quaternion` | x, y, z, w; q and -q are one rotation |
| `rotvec` | axis times angle, in radians, angle in [0, pi] |
| `matrix` | nine numbers, row after row |
| `6d` | first and second column of the matrix (Zhou et al., arXiv 1812.07035) |
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Form = Literal["euler", "quaternion", "rotvec", "matrix", "6d"]
WIDTH: dict[Form, int] = {"euler": 3, "quaternion": 4, "rotvec": 3, "matrix": 9, "6d": 6}
POLE = 1e-7  # cosine of the pitch
TOLERANCE = 0.01  # how far recorded numbers may be from a rotation: half precision is, degrees or another order are not


def euler_to_matrix(angles: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """R = Rz(yaw) Ry(pitch) Rx(roll)."""
    (cr, cp, cy), (sr, sp, sy) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_euler(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Roll and yaw in [-pi, pi], pitch in [-pi/2, pi/2]; at the poles, pitch +-pi/2, the yaw is taken as 0."""
    flat = torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0])
    # Roll and yaw turn about one axis: only their sum is known. A pitch of pi/2 in single precision is such a pole.
    pole = flat < max(POLE, 8 * torch.finfo(rotation.dtype).eps)
    pitch = torch.atan2(-rotation[..., 2, 0], flat)
    roll = torch.where(
        pole,
        torch.atan2(-rotation[..., 1, 2], rotation[..., 1, 1]),
        torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2]),
    )
    yaw = torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0]).masked_fill(pole, 0.0)
    return torch.stack([roll, pitch, yaw], dim=-1)


def quaternion_to_matrix(quaternion: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """The rotation of x, y, z, w, scaled to unit length."""
    x, y, z, w = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 4"]:
    """x, y, z, w with w >= 0.

    Every row of the table below is the quaternion times one of its own numbers; the longest is taken (Shepperd 1978).
    """
    r = rotation
    a, b, c = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    xy, xz, yz = r[..., 1, 0] + r[..., 0, 1], r[..., 2, 0] + r[..., 0, 2], r[..., 2, 1] + r[..., 1, 2]
    xw, yw, zw = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    rows = (
        (1 + a - b - c, xy, xz, xw),
        (xy, 1 - a + b - c, yz, yw),
        (xz, yz, 1 - a - b + c, zw),
        (xw, yw, zw, 1 + a + b + c),
    )
    table = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    longest = torch.linalg.vector_norm(table, dim=-1).argmax(-1)[..., None, None].expand(*table.shape[:-2], 1, 4)
    quaternion = F.normalize(table.gather(-2, longest)[..., 0, :], dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def rotvec_to_matrix(vector: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """The rotation about the vector's direction, by its length in radians."""
    half = torch.linalg.vector_norm(vector, dim=-1, keepdim=True) / 2
    return quaternion_to_matrix(torch.cat([vector * torch.sinc(half / torch.pi) / 2, half.cos()], dim=-1))


def matrix_to_rotvec(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Axis times angle, the angle in [0, pi]."""
    quaternion = matrix_to_quaternion(rotation)
    vector, w = quaternion[..., :3], quaternion[..., 3:]
    sine = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    tiny = torch.finfo(rotation.dtype).tiny
    return vector * torch.where(sine > tiny, 2 * torch.atan2(sine, w) / sine.clamp_min(tiny), 2.0)


def sixd_to_matrix(columns: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 3 3"]:
    """The rotation whose first column points along the first three numbers, its second nearly along the others.

    Any six numbers give one (Gram-Schmidt), but for two columns on one line.
    """
    one, two = columns[..., :3], columns[..., 3:]
    x = F.normalize(one, dim=-1)
    y = F.normalize(two - (x * two).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def matrix_to_sixd(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 6"]:
    """First column, then second."""
    return torch.cat([rotation[..., 0], rotation[..., 1]], dim=-1)


def to_matrix(values: Float[Tensor, "*n w"], form: Form) -> Float[Tensor, "*n 3 3"]:
    """The rotation that `values` mean in `form`, made orthonormal where the form leaves that open."""
    match form:
        case "euler":
            return euler_to_matrix(values)
        case "quaternion":
            return quaternion_to_matrix(values)
        case "rotvec":
            return rotvec_to_matrix(values)
        case "matrix":
            return sixd_to_matrix(matrix_to_sixd(values.unflatten(-1, (3, 3))))
        case "6d":
            return sixd_to_matrix(values)


def from_matrix(rotation: Float[Tensor, "*n 3 3"], form: Form) -> Float[Tensor, "*n w"]:
    """The numbers of a rotation in `form`."""
    match form:
        case "euler":
            return matrix_to_euler(rotation)
        case "quaternion":
            return matrix_to_quaternion(rotation)
        case "rotvec":
            return matrix_to_rotvec(rotation)
        case "matrix":
            return rotation.flatten(-2)
        case "6d":
            return matrix_to_sixd(rotation)


def not_a_rotation(values: Float[Tensor, "*n w"], form: Form) -> tuple[Bool[Tensor, "*n"], Float[Tensor, "*n"], str]:
    """Where `values` mean no rotation in `form`, the number that says so, and what that number is.

    Angles and rotation vectors always mean one. A matrix of orthonormal columns is judged by its determinant.
    """
    if form in ("euler", "rotvec"):
        return values.new_zeros(values.shape[:-1], dtype=torch.bool), values[..., 0], ""
    if form == "quaternion":
        norm = torch.linalg.vector_norm(values, dim=-1)
        return (norm - 1).abs() > TOLERANCE, norm, "norm {found:g}, expected 1"
    columns = values.unflatten(-1, (3, 3)) if form == "matrix" else values.unflatten(-1, (2, 3)).mT
    off = (columns.mT @ columns - torch.eye(columns.shape[-1]).to(columns)).abs().flatten(-2).amax(-1)
    if form == "6d" or bool((off > TOLERANCE).any()):
        return off > TOLERANCE, off, "columns that are {found:g} from orthonormal, expected 0"
    determinant = torch.linalg.det(columns)
    return determinant < 0, determinant, "determinant {found:g}, expected 1"


def rotation_between(start: Float[Tensor, "*n 3"], end: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Angles of the rotation R_end R_start^T, which takes one orientation to the other."""
    return matrix_to_euler(euler_to_matrix(end) @ euler_to_matrix(start).mT)


def rotated(angles: Float[Tensor, "*n 3"], change: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Angles of R_change R: an orientation after a further rotation about the fixed axes."""
    return matrix_to_euler(euler_to_matrix(change) @ euler_to_matrix(angles))
