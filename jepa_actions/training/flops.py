"""What a training step computes, and how fast this device could: the two sides of model-FLOP utilisation.

FLOPs are those of matrix products, convolutions and attention (`torch.utils.flop_counter`), once: what gradient
checkpointing or a fused attention's gradient computes again does not count. The rate is that of a large matrix product
in the same precision, measured here: no table of data sheets, whose figures no product reaches.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from jepa_actions.nn import set_gradient_checkpointing

Precision = Literal["float32", "bf16"]
FLOPS_NOTE = (
    "matrix products, convolutions and attention, counted by torch.utils.flop_counter; a fused attention's gradient "
    "counts four of the five products it does, because one computes scores again"
)


class ModelFlops(FlopCounterMode):
    """A context that counts the FLOPs of a model while it runs, and changes no number."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=_attention_on_cpu())

    def total(self) -> int:
        """FLOPs since the context was entered."""
        total = self.get_total_flops()
        for operation, flops in self.get_flop_counts().get("Global", {}).items():
            name = str(operation)
            if "attention" in name and "backward" in name:
                total -= flops // 5
        return int(total)

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        # Inside a gradient only a checkpointed block's second forward pass records gradients.
        again = torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()
        return out if again else super()._count_flops(func_packet, out, args, kwargs)  # type: ignore[no-untyped-call]


class StepFlops:
    """The FLOPs of this process's part of a training step, counted while one step runs.

    They are counted again when terms of the loss begin or end. A step that takes the collapse meters is not counted,
    because these are no part of training, unless every step takes them.

    Args:
        always_measured: whether every step takes them.
        compiled: the model's blocks are: `flops_of_copy` counts, and `known` is told.
    """

    def __init__(self, *, always_measured: bool, compiled: bool) -> None:
        self.flops: int | None = None
        self._always, self._compiled = always_measured, compiled
        self._terms, self._sum, self._wanted = frozenset[str](), 0, True

    @property
    def wants_copy(self) -> bool:
        """Whether a copy should be counted before the next step."""
        return self._compiled and self._wanted

    def known(self, flops: int | None) -> None:
        """Tell what a copy's step took; None where it cannot be known."""
        self.flops, self._wanted = flops, False

    @contextmanager
    def counting(self, measured: bool) -> Iterator[None]:
        """Around a step's forward and backward passes; does nothing once a step has been counted."""
        if not self._wanted or self._compiled or (measured and not self._always):
            yield
            return
        with ModelFlops() as counter:
            yield
        self._sum += counter.total()

    def step_done(self, terms: frozenset[str]) -> None:
        """Tell which terms of the loss the step had."""
        if self._sum:
            self.flops, self._sum, self._wanted = self._sum, 0, False
        elif self._terms and terms != self._terms:
            self._wanted = True
        self._terms = terms


def flops_of_copy(module: nn.Module, step: Callable[[nn.Module], object]) -> int | None:
    """FLOPs of a step's forward and backward passes on a copy of `module`, which stays as it is.

    For compiled blocks: they cannot be counted while they run, and would round otherwise if they ran uncompiled; a deep
    copy of them is not compiled. None where weights are sharded, which cannot be copied.
    """
    if any(isinstance(weight, DTensor) for weight in module.parameters()):
        return None
    twin = copy.deepcopy(module)
    set_gradient_checkpointing(twin, on=False)
    with ModelFlops() as counter:
        step(twin)
    return int(counter.total())


def matrix_product_rate(
    device: torch.device,
    precision: Precision,
    size: int | None = None,
    repeats: int = 10,
    seconds: float = 3.0,
) -> float:
    """FLOP/s of the product of two square matrices: the fastest of some runs, as many as fit into `seconds`.

    A processor without bf16 products takes a hundred times as long for them: on a CPU they are of smaller matrices.
    """
    size = size or (8192 if device.type == "cuda" else 2048 if precision == "float32" else 512)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    runs = [seconds_of(lambda: a @ b, device)]
    while len(runs) <= repeats and sum(runs) < seconds:
        runs.append(seconds_of(lambda: a @ b, device))
    return 2 * size**3 / min(runs)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes until the device has done it."""
    synchronise(device)
    began = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait for the work that was given to a CUDA device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def eagerly() -> AbstractContextManager[Any]:
    """Run compiled functions uncompiled inside: a counter sees no compiled graph."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _attention_on_cpu() -> dict[Any, Any]:
    """Formulas for the processor's attention, which torch has not had in all versions."""
    aten = torch.ops.aten

    def counted(formula: Callable[..., int]) -> Callable[..., int]:
        def flops(*inputs: Any, **more: Any) -> int:
            return formula(*inputs, **more)

        flops._get_raw = True  # type: ignore[attr-defined]  # torch's formulas take shapes from tensors themselves
        return flops

    return {
        aten._scaled_dot_product_flash_attention_for_cpu: counted(sdpa_flop),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: counted(sdpa_backward_flop),
    }
