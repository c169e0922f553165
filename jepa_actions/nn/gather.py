"""Batch statistics over all processes, with gradients, so that two processes optimise what one would."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


class _AllGather(torch.autograd.Function):
    """Concatenate every process's rows; the gradient of a row returns to its owner, summed over processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(x: Float[Tensor, "b *rest"]) -> Float[Tensor, "B *rest"]:
    """Rows of all processes in rank order; x itself where there is one process.

    A loss on the gathered rows, averaged over processes by DDP, has exactly the gradient of one process on all rows:
    every process holds the whole loss, the sum over processes counts it `world_size` times, and DDP divides by that.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    out: Tensor = _AllGather.apply(x)
    return out
