"""What a training step keeps in memory on this process's device: weights, gradients, optimiser, EMA, activations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 1 << 30


@dataclass(frozen=True)
class MemoryReport:
    """Bytes of one process; where weights are sharded, of its shards."""

    weights: int
    gradients: int
    optimizer: int
    target: int  # the EMA copy
    activations: int  # the most that forward and backward pass hold beside all that, temporary results too
    measured: Literal["cuda", "cpu"]  # by the allocator's peak, or by counting living tensors

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.target + self.activations

    def line(self) -> str:
        """The report in a line."""
        parts = ("weights", "gradients", "optimizer", "target", "activations")
        text = ", ".join(f"{part} {_shown(getattr(self, part))}" for part in parts)
        return f"memory {_shown(self.total)}: {text} ({self.measured})"


def memory_report(
    module: nn.Module,
    target: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    backward: Callable[[], object],
    device: torch.device,
) -> MemoryReport:
    """Run a step's forward and backward pass twice and report what it holds; weights stay, gradients are left.

    The first pass makes the gradients, so that the second, which adds to them, allocates activations alone.

    Args:
        module: what is trained.
        target: the EMA copy.
        optimizer: after at least one step, as before it has no state.
        backward: forward and backward pass, such as a call of `GlobalStep`.
        device: of this process.
    """
    backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        backward()
        torch.cuda.synchronize(device)
        activations = torch.cuda.max_memory_allocated(device) - before
    else:
        with LivingBytes() as living:
            backward()
        activations = living.peak
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return MemoryReport(
        weights=size_of([*module.parameters(), *module.buffers()]),
        gradients=size_of(gradients),
        optimizer=size_of(states),
        target=0 if target is None else size_of([*target.parameters(), *target.buffers()]),
        activations=activations,
        measured="cuda" if device.type == "cuda" else "cpu",
    )


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of these tensors on this process, shared ones once."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    seen = {tensor.data_ptr(): tensor.nbytes for tensor in local}
    return sum(seen.values())


class LivingBytes(TorchDispatchMode):
    """While it is entered, counts the bytes of tensors that were made since and still live; `peak` is the most.

    Where there is no allocator to ask. Views share their storage and count once; what an operation uses inside is not
    seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if _plain(leaf)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if _plain(leaf) and id(leaf.untyped_storage()) not in given:
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


def _plain(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, DTensor)


def _shown(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB // 10 else f"{size / (1 << 20):.1f} MiB"
