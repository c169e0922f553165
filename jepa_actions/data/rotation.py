"""Rotations as Euler angles: about the fixed axes x, then y, then z (roll, pitch, yaw), in radians."""

import torch
from jaxtyping import Float
from torch import Tensor

POLE = 1e-6  # cosine of the pitch below which roll and yaw turn about one axis


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
    """Roll and yaw in [-pi, pi], pitch in [-pi/2, pi/2]; where the pitch is +-pi/2 the yaw is taken as 0."""
    flat = torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0])
    pole = flat < POLE
    pitch = torch.atan2(-rotation[..., 2, 0], flat)
    roll = torch.where(
        pole,
        torch.atan2(-rotation[..., 1, 2], rotation[..., 1, 1]),
        torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2]),
    )
    yaw = torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0]).masked_fill(pole, 0.0)
    return torch.stack([roll, pitch, yaw], dim=-1)


def rotation_between(start: Float[Tensor, "*n 3"], end: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Angles of the rotation R_end R_start^T, which takes one orientation to the other."""
    return matrix_to_euler(euler_to_matrix(end) @ euler_to_matrix(start).mT)


def rotated(angles: Float[Tensor, "*n 3"], change: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Angles of R_change R: an orientation after a further rotation about the fixed axes."""
    return matrix_to_euler(euler_to_matrix(change) @ euler_to_matrix(angles))
