"""Distances that keep the triangle inequality by construction, so that short known ways bound long unknown ones."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def metric_residual(x: Float[Tensor, "*b e"], y: Float[Tensor, "*b e"], directed: int) -> Float[Tensor, "*b"]:
    """d(x, y) = max_i relu(y_i - x_i) over the first `directed` channels + |y - x|_2 over the rest.

    At least 0, 0 from a point to itself, d(x, z) <= d(x, y) + d(y, z), and not symmetric: the way back may be longer.
    Source: Metric Residual Networks (arXiv 2208.08133, section 4).
    """
    change = y - x
    there = F.relu(change[..., :directed]).amax(-1)
    length = change[..., directed:].square().sum(-1)
    return there + torch.sqrt(length + 1e-12) - 1e-6
