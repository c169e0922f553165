"""Which rows of the global batch are here: one process's, or one of the parts that a process works through in turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from jepa_actions.nn.gather import process_of


@dataclass(frozen=True)
class Share:
    """Part `index` of `of` equal parts of the global batch, in row order.

    What a part returns is such that the mean over all parts is what one process would find on all rows: DDP takes the
    mean over processes, gradient accumulation over a process's parts.
    """

    index: int = 0
    of: int = 1

    @staticmethod
    def of_process() -> Share:
        """The part of the global batch that belongs to this process."""
        return Share(*process_of())

    def bounds(self, total: int) -> tuple[int, int]:
        """First row and the one after the last, of `total`, which must be a multiple of `of`."""
        size, rest = divmod(total, self.of)
        if rest:
            raise ValueError(f"share: {total} rows in {self.of} parts, expected equally many in each")
        return self.index * size, (self.index + 1) * size

    def mine(self, x: Shaped[Tensor, "B *rest"]) -> Shaped[Tensor, "b *rest"]:
        """This part's rows."""
        return x if self.of == 1 else x[slice(*self.bounds(len(x)))]

    def mean(self, x: Shaped[Tensor, "k *rest"], total: int) -> Shaped[Tensor, ""]:
        """This part of a mean over `total` rows of which x holds this part's: the mean of all parts' is the mean."""
        if len(x) == 0:  # no nan, and still a gradient, of zeros
            return x.sum()
        return x.mean() * (self.of * len(x) / total)


class RowDropout(torch.nn.Module):
    """Dropout whose noise is drawn for the rows of all parts, of which each takes its own.

    The noise of one process is `torch.nn.Dropout`'s, from torch's global generator, which training seeds at each step.

    Args:
        p: probability of a zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.share = p, Share()

    def forward(self, x: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
        if not self.training or self.p == 0.0:
            return x
        whole = x.new_empty(self.share.of * len(x), *x.shape[1:])
        return x * self.share.mine(whole.bernoulli_(1.0 - self.p).div_(1.0 - self.p))


def set_share(module: torch.nn.Module, share: Share) -> None:
    """Tell every layer inside that draws on its own which rows of the global batch it will see."""
    for part in module.modules():
        if isinstance(part, RowDropout):
            part.share = share
