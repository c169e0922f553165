"""Products whose rows do not know how many they are."""

import torch
from torch import Tensor

# A product of fewer rows, or of an odd number of them on several threads, rounds differently from one of many, and so
# does attention of a single query where threads share the work. Measured on AVX2 with MKL, 1 and 2 threads, single
# precision: every multiple of 4 agrees with every other one; AVX-512 works on 8.
ROWS = 8


def whole_rows(x: Tensor, dim: int = 0) -> Tensor:
    """`x` with its last row repeated up to a multiple of `ROWS` along `dim`; who asked cuts the answer.

    So that a frame has the same latent, bit for bit, alone and in a batch. Not for training, where it would cost time
    and repeated rows would enter the statistics of the batch.
    """
    missing = -x.shape[dim] % ROWS
    if not missing:
        return x
    last = x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([x, last.repeat_interleave(missing, dim)], dim=dim)
