"""What building a model may allocate: a configuration of a few bytes can ask for any size."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from jepa_actions.errors import CheckpointError

_SIZES = {"size", "repeats", "output_size", "pad"}  # arguments that make a result larger than what is given
TABLES = 128 << 20  # bytes of what is not stored: position codes, temporary results


class Budget(TorchDispatchMode):
    """While it is entered, refuses operations before they allocate more than a model with these weights has use for.

    Every tensor of a model is made once, and initialised by a few operations; what all of them make together stays
    below some multiple of the weights, or the configuration is not that of these weights.

    Args:
        weights: bytes of all tensors stored.
        tensors: how many there are.
        where: what an error begins with.
    """

    def __init__(self, weights: int, tensors: int, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes, self.count, self.where = 6 * weights + TABLES, 4 * tensors + 2000, where
        self.weights = weights

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would import its compiler, for four seconds, to keep it out of here; nothing is compiled here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        returns = func._schema.returns
        makes = any(str(r.type) == "Tensor" and r.alias_info is None for r in returns)
        if makes:
            self._spend(_size(func, args, kwargs))
        return func(*args, **kwargs)

    def _spend(self, size: int) -> None:
        self.bytes, self.count = self.bytes - size, self.count - 1
        if self.bytes < 0 or self.count < 0:
            raise CheckpointError(
                f"{self.where}: asks for {'more tensors' if self.count < 0 else 'a larger model'} than the weights "
                f"beside it are of, which take {self.weights} bytes; refused before it is built"
            )


def _size(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes of the tensor that an operation makes, or more.

    Of an operation on tensors that is told no size it is the size they are broadcast to (a constructor multiplies no
    matrices); of the others torch's meta device is asked, which computes shapes and allocates nothing.
    """
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    names = {argument.name for argument in func._schema.arguments}
    if given and not names & _SIZES:
        try:
            numbers = int(torch.broadcast_shapes(*(x.shape for x in given)).numel())
        except RuntimeError:  # of different shapes: side by side at most
            numbers = sum(x.numel() for x in given)
        return int(max(numbers, sum(x.numel() for x in given)) * max(x.element_size() for x in given))
    args, kwargs = tree_map_only(torch.Tensor, lambda x: torch.empty_like(x, device="meta"), (args, kwargs))
    if "device" in names:
        kwargs = {**kwargs, "device": torch.device("meta")}
    kwargs.pop("generator", None)
    out = func(*args, **kwargs)
    return int(out.nbytes) if isinstance(out, torch.Tensor) else 0


def check_memory(weights: int, where: str) -> None:
    """Raise CheckpointError where a machine has less memory left than weights take, as far as it says."""
    left = _available()
    if left is not None and weights > left:
        raise CheckpointError(f"{where}: weights of {weights / 1e9:.1f} GB, {left / 1e9:.1f} GB of memory are free")


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
