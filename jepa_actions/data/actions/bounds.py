"""Where actions may lie, in raw units and in the model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from jepa_actions.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from jepa_actions.data.actions.codec import ActionCodec


@dataclass(frozen=True)
class ActionBounds:
    """Where raw actions may lie, in raw units: a box `low <= a <= high`, or a ball of `radius` around zero.

    Of a discrete dimension a box allows the classes between low and high; a ball is about the others alone.
    """

    kind: Literal["box", "ball"]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.kind == "box":
            if self.low is None or self.high is None or len(self.low) != len(self.high) or self.radius is not None:
                raise DataError("action bounds: a box has low and high of one length and no radius")
            if not all(low <= high for low, high in zip(self.low, self.high, strict=True)):
                raise DataError(f"action bounds: low {self.low} and high {self.high} given, expected low <= high")
        elif self.kind == "ball":
            if self.radius is None or not self.radius > 0 or self.low is not None or self.high is not None:
                raise DataError(
                    f"action bounds: radius {self.radius} given, expected a positive one and neither low nor high"
                )
        else:
            raise DataError(f"action bounds: kind {self.kind!r} given, expected 'box' or 'ball'")

    @classmethod
    def of_support(cls, raw: Float[np.ndarray, "n a"], *, ball: bool) -> ActionBounds:
        """The smallest box, or ball around zero, that holds every action of `raw`."""
        if ball:
            return cls("ball", radius=float(np.linalg.norm(raw, axis=-1).max()))
        return cls("box", low=tuple(raw.min(0).tolist()), high=tuple(raw.max(0).tolist()))

    def project(self, raw: Float[Tensor, "*n a"]) -> Float[Tensor, "*n a"]:
        """The nearest raw actions inside the bounds."""
        if self.radius is not None:
            norm: Tensor = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
            return raw * norm.clamp_min(1e-12).reciprocal().mul(self.radius).clamp_max(1.0)
        return raw.clamp(raw.new_tensor(self.low), raw.new_tensor(self.high))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, read back by `from_dict`."""
        if self.low is None or self.high is None:
            return {"kind": self.kind, "radius": self.radius}
        return {"kind": self.kind, "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ActionBounds:
        """The bounds that `to_dict` wrote. Raises CheckpointError naming keys that are missing or not known."""
        if saved.get("kind") == "ball":
            check_keys("action bounds", saved, {"kind", "radius"})
            return cls("ball", radius=saved["radius"])
        check_keys("action bounds", saved, {"kind", "low", "high"})
        return cls(saved["kind"], low=tuple(saved["low"]), high=tuple(saved["high"]))


@dataclass(frozen=True, eq=False)
class ModelBounds:
    """The action bounds in model space: the enclosing box `low`, `high`, and the exact projection."""

    low: Float32[Tensor, "ba"]
    high: Float32[Tensor, "ba"]
    codec: ActionCodec

    @classmethod
    def of(cls, codec: ActionCodec) -> ModelBounds:
        """Of a codec. A number of a one-hot reaches from 0 to 1; that of a class that is not allowed stays 0."""
        scaling, bounds, affine = codec.scaling, codec.bounds, codec.scaling.affine
        radius = np.full(len(codec.names), bounds.radius or 0.0)
        edges = np.array([-radius, radius] if bounds.low is None else [bounds.low, bounds.high], dtype=np.float32)
        inside = np.zeros_like(edges)
        inside[:, affine] = edges[:, affine]
        low, high = scaling.encode(torch.from_numpy(inside))
        for d, start, count in scaling.hot:
            least, most = (0.0, np.inf) if bounds.low is None else edges[:, d]
            allowed = torch.tensor([least <= k <= most for k in range(count)])
            high[start : start + count] = allowed.to(high)
            low[start : start + count] = (allowed & (allowed.sum() == 1)).to(low)
        return cls(low.repeat(codec.block), high.repeat(codec.block), codec)

    def project(self, actions: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n ba"]:
        """The model actions whose raw actions are the nearest ones inside the bounds, each raw action of a block by
        itself; discrete dimensions become the one-hot of their largest number that is allowed."""
        codec, scaling = self.codec, self.codec.scaling
        codec.check_model(actions)
        rows = actions.unflatten(-1, (codec.block, scaling.width))
        if codec.bounds.kind == "box":
            low, high = (edge[: scaling.width].to(actions) for edge in (self.low, self.high))
            return scaling.with_classes(rows.clamp(low, high), rows, high > 0).flatten(-2)
        # In the model's own precision: planners do this for every candidate, and the last bit of a bound is nobody's.
        mean, std = (torch.from_numpy(x[scaling.affine]).to(actions) for x in (codec.mean, codec.std))
        numbers = rows if not scaling.hot else rows[..., scaling.affine_at]
        numbers = (codec.bounds.project(numbers * std + mean) - mean) / std
        if not scaling.hot:
            return numbers.flatten(-2)
        inside = rows.clone()
        inside[..., scaling.affine_at] = numbers
        return scaling.with_classes(inside, rows, self.high[: scaling.width].to(actions) > 0).flatten(-2)


def check_keys(place: str, saved: Mapping[str, Any], expected: set[str]) -> None:
    """Raise CheckpointError unless `saved` has exactly the expected keys."""
    missing, extra = sorted(expected - set(saved)), sorted(set(saved) - expected)
    if missing or extra:
        raise CheckpointError(
            f"{place}: missing keys {missing}, keys that are not known {extra}, expected {sorted(expected)}"
        )
