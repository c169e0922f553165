"""Batch statistics over all processes, with gradients, so that two processes optimise what one would."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
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


def process_of() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) where there is one."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather_rows(x: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "B *rest"]:
    """Rows of all processes in rank order; x itself where there is one process. All must have equally many.

    A loss on the gathered rows, averaged over processes by DDP, has exactly the gradient of one process on all rows:
    every process holds the whole loss, the sum over processes counts it `world_size` times, and DDP divides by that.
    """
    if process_of()[1] == 1:
        return x
    out: Tensor = _AllGather.apply(x)
    return out


def gather_uneven(x: Float[Tensor, "k *rest"], counts: Sequence[int]) -> Float[Tensor, "K *rest"]:
    """`gather_rows` where process i has `counts[i]` rows, which all processes must know."""
    rank, world = process_of()
    if len(counts) != world or counts[rank] != len(x):
        raise ValueError(f"gather: {len(x)} rows on process {rank} of {world}, but counts {list(counts)}")
    if world == 1:
        return x
    most = max(counts)
    padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
    rows = [torch.arange(count) + i * most for i, count in enumerate(counts)]
    return gather_rows(padded)[torch.cat(rows).to(x.device)]


@torch.no_grad()
def sum_over_processes(x: Shaped[Tensor, "*s"]) -> Shaped[Tensor, "*s"]:
    """The sum of every process's x, without gradient; x itself where there is one process."""
    if process_of()[1] == 1:
        return x
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
