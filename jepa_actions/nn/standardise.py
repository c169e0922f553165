"""Standardisation of each channel over the batch: batch normalisation without scale and shift, over all processes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jepa_actions.nn.gather import gather_rows


class Standardise(nn.Module):
    """Zero mean and unit variance per channel (arXiv 1502.03167, without the affine part).

    As the last layer of a latent it rules out the trivial collapse, a latent that shrinks to please a forward loss
    (LeWM and SMWM end their projectors the same way). In training the statistics are those of the batch of all
    processes, with gradients; in evaluation the running ones, so that a state depends on its own frame alone.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, dim: int, momentum: float = 0.05, eps: float = 1e-8) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        x = x.to(self.mean.dtype)  # statistics of bf16 activations are taken in single precision
        if not self.training:
            return (x - self.mean) / (self.var + self.eps).sqrt()
        rows = gather_rows(x.flatten(0, -2))
        mean, var = rows.mean(0), rows.var(0, correction=0)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.var.lerp_(var, self.momentum)
        return (x - mean) / (var + self.eps).sqrt()
