"""What shows a collapse before the losses do: effective rank, per-dimension spread, error against copying."""

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(x: Float[Tensor, "n d"]) -> float:
    """exp of the entropy of the normalised singular values of centred samples (RankMe, arXiv 2210.02885): 1 to d."""
    values = torch.linalg.svdvals((x - x.mean(0)).to(torch.float64))
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))


def spread(x: Float[Tensor, "n d"]) -> dict[str, float]:
    """Effective rank, and the smallest and mean standard deviation over dimensions."""
    std = x.std(0)
    return {"rank": effective_rank(x), "std_min": float(std.min()), "std_mean": float(std.mean())}
