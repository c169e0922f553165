"""Raw numbers to model numbers, dimension by dimension: an affine map, or a class as a one-hot vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from jepa_actions.errors import DataError


def wide(numbers: Tensor) -> Tensor:
    """The same numbers in double precision; in single where the device has none."""
    return numbers if numbers.device.type == "mps" else numbers.double()


@dataclass(frozen=True, eq=False)
class Scaling:
    """Raw dimension d is `(raw - mean[d]) / std[d]` in the model, or where `classes[d]` is k > 0 one of k classes,
    0 to k-1, as k numbers of which one is 1 and the others are 0.

    Computed in double precision and rounded once, so that a model number is the nearest there is. What is decoded is
    never farther from the raw number than one epsilon (2^-23 in single precision) of |raw - mean|, and is that number
    to the bit where it is a multiple of a power of two of at least that size: whole numbers, readings of few bits,
    differences of larger numbers. Classes come back exactly.
    """

    names: tuple[str, ...]
    mean: Float32[np.ndarray, "a"]
    std: Float32[np.ndarray, "a"]
    classes: tuple[int, ...]

    @cached_property
    def width(self) -> int:
        """Model numbers of one raw action."""
        return sum(max(1, k) for k in self.classes)

    @cached_property
    def starts(self) -> list[int]:
        """Where each raw dimension begins among the model's."""
        return [sum(max(1, k) for k in self.classes[:d]) for d in range(len(self.classes))]

    @cached_property
    def affine(self) -> list[int]:
        """Raw dimensions that are scaled."""
        return [d for d, k in enumerate(self.classes) if not k]

    @cached_property
    def affine_at(self) -> list[int]:
        """Where these stand among the model's."""
        return [self.starts[d] for d in self.affine]

    @cached_property
    def hot(self) -> list[tuple[int, int, int]]:
        """Raw dimension, place among the model's and number of classes, of every discrete dimension."""
        return [(d, self.starts[d], k) for d, k in enumerate(self.classes) if k]

    def encode(self, raw: Float[Tensor, "*n a"]) -> Float[Tensor, "*n w"]:
        """Model numbers. Raises DataError naming the dimension of a number that is none of its classes."""
        mean, std = self._statistics(raw)
        if not self.hot:
            return ((wide(raw) - mean) / std).to(raw.dtype)
        out = raw.new_zeros(*raw.shape[:-1], self.width)
        out[..., self.affine_at] = ((wide(raw) - mean) / std).to(raw.dtype)[..., self.affine]
        for d, start, count in self.hot:
            bad = not_a_class(raw[..., d], count)
            if bool(bad.any()):
                raise DataError(f"action codec: {self.names[d]}: found {wrong_class(raw[..., d][bad][0], count)}")
            out[..., start : start + count] = torch.nn.functional.one_hot(raw[..., d].long(), count).to(raw.dtype)
        return out

    def decode(self, model: Float[Tensor, "*n w"], *, exact: bool = True) -> Float[Tensor, "*n a"]:
        """Raw numbers; of a discrete dimension the class with the largest number.

        Without `exact` the affine map alone, for whoever decodes every candidate of a plan.
        """
        mean, std = self._statistics(model)
        numbers = model
        if self.hot:
            numbers, mean, std = model[..., self.affine_at], mean[self.affine], std[self.affine]
        numbers = (simplest(numbers, mean, std) if exact else wide(numbers) * std + mean).to(model.dtype)
        if not self.hot:
            return numbers
        raw = model.new_zeros(*model.shape[:-1], len(self.classes))
        raw[..., self.affine] = numbers
        for d, start, count in self.hot:
            raw[..., d] = model[..., start : start + count].argmax(-1).to(model.dtype)
        return raw

    def with_classes(
        self, model: Float[Tensor, "*n w"], scores: Float[Tensor, "*n w"], allowed: Bool[Tensor, "w"]
    ) -> Float[Tensor, "*n w"]:
        """`model` with every discrete dimension a one-hot: of the class with the highest score among the allowed."""
        if not self.hot:
            return model
        out = model.clone()
        for _, start, count in self.hot:
            part = slice(start, start + count)
            best = scores[..., part].masked_fill(~allowed[part], -torch.inf).argmax(-1)
            out[..., part] = torch.nn.functional.one_hot(best, count).to(model.dtype)
        return out

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = torch.from_numpy(self.mean).to(like.device), torch.from_numpy(self.std).to(like.device)
        return wide(mean), wide(std)


def simplest(model: Float[Tensor, "*n a"], mean: Float[Tensor, "a"], std: Float[Tensor, "a"]) -> Float[Tensor, "*n a"]:
    """The number of fewest binary digits among those whose model number is `model`, all near `model * std + mean`.

    There may be several. Recorded numbers rarely use every digit (they are counts, readings of few bits, differences of
    larger numbers), so the simplest is the one that was most likely encoded: whole numbers come back whole.
    """
    exact = wide(model) * std + mean
    if exact.dtype == model.dtype:
        return exact
    with torch.no_grad():
        spacing = _power_of_two(wide(model)) * torch.finfo(model.dtype).eps * std
        grid = _power_of_two(spacing)  # the coarsest that has a multiple in any such stretch
        off = torch.zeros_like(exact)
        for step in (grid, 2 * grid):
            other = (exact / step).round_().mul_(step).sub_(exact)
            off = torch.where(other.abs() <= spacing / 2, other, off)
    return exact + off


def _power_of_two(numbers: Float64[Tensor, "*n"]) -> Float64[Tensor, "*n"]:
    """The largest power of two that is no larger than a number, its sign aside; 0 of 0."""
    return (numbers.view(torch.int64) & 0x7FF0000000000000).view(torch.float64)


def not_a_class(values: Float[Tensor, "*n"], count: int) -> Bool[Tensor, "*n"]:
    """True where a number is none of the classes 0 to count - 1."""
    return ~((values >= 0) & (values < count) & (values == values.floor()))


def wrong_class(value: Tensor, count: int) -> str:
    """What was found and what was expected, for an error."""
    return f"{float(value):g}, expected a class, a whole number from 0 to {count - 1}"
