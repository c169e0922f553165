"""Raw numbers to model numbers, dimension by dimension: an affine map, or a class as a one-hot vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from jepa_actions.errors import DataError


def wide(numbers: Tensor) -> Tensor:
    """The same numbers in double precision; in single where the device has none."""
    return numbers if numbers.device.type == "mps" else numbers.double()


@dataclass(frozen=True, eq=False)
class Scaling:
    """Raw dimension d is `(raw - mean[d]) / std[d]` in the model, or where `classes[d]` is k > 0 one of k classes,
    0 to k-1, as k numbers of which one is 1 and the others are 0.

    Computed in double precision and rounded once. A model number is then the nearest there is, so that decoding gives
    the raw number back to the bit wherever a float32 model number does, and otherwise to within one unit in the last
    place of max(|raw|, |raw - mean|). Classes come back exactly.
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
        return np.concatenate([[0], np.cumsum([max(1, k) for k in self.classes])[:-1]]).astype(int).tolist()

    @cached_property
    def affine(self) -> list[int]:
        """Raw dimensions that are scaled."""
        return [d for d, k in enumerate(self.classes) if not k]

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
        out[..., [self.starts[d] for d in self.affine]] = ((wide(raw) - mean) / std).to(raw.dtype)[..., self.affine]
        for d, start, count in self.hot:
            bad = not_a_class(raw[..., d], count)
            if bool(bad.any()):
                raise DataError(f"action codec: {self.names[d]}: found {wrong_class(raw[..., d][bad][0], count)}")
            out[..., start : start + count] = torch.nn.functional.one_hot(raw[..., d].long(), count).to(raw.dtype)
        return out

    def decode(self, model: Float[Tensor, "*n w"]) -> Float[Tensor, "*n a"]:
        """Raw numbers; of a discrete dimension the class with the largest number."""
        mean, std = self._statistics(model)
        if not self.hot:
            return (wide(model) * std + mean).to(model.dtype)
        raw = model.new_zeros(*model.shape[:-1], len(self.classes))
        scaled = wide(model[..., [self.starts[d] for d in self.affine]]) * std[self.affine] + mean[self.affine]
        raw[..., self.affine] = scaled.to(model.dtype)
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


def not_a_class(values: Float[Tensor, "*n"], count: int) -> Bool[Tensor, "*n"]:
    """True where a number is none of the classes 0 to count - 1."""
    return ~((values >= 0) & (values < count) & (values == values.floor()))


def wrong_class(value: Tensor, count: int) -> str:
    """What was found and what was expected, for an error."""
    return f"{float(value):g}, expected a class, a whole number from 0 to {count - 1}"
