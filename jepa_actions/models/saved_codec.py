"""The action codec in a `config.json` of somebody else: every field of its type, and of a size that robots have."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jepa_actions.data import ActionCodec
from jepa_actions.errors import CheckpointError, JepaActionsError
from jepa_actions.models.decode import decode

MAX_DIMENSIONS = 1024  # of a raw action
MAX_WIDTH = 16_384  # numbers of a model action: dimensions, or classes, times block


@dataclass(frozen=True)
class _Box:
    kind: Literal["box"]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class _Ball:
    kind: Literal["ball"]
    radius: float


@dataclass(frozen=True)
class _Pose:
    rotation: tuple[int, ...]
    form: str
    change: str
    position: tuple[int, ...] | None
    frame: str


@dataclass(frozen=True)
class _Codec:
    """The types of `ActionCodec.to_dict`, its bounds aside."""

    names: tuple[str, ...]
    block: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    columns: tuple[int, ...] | None
    angles: tuple[int, ...]
    rotation: str
    poses: tuple[_Pose, ...]
    absolute: tuple[int, ...]
    proprio_columns: tuple[int, ...] | None
    lag: int
    classes: tuple[int, ...]
    normalise: tuple[str, ...]


def decode_codec(saved: Any, where: str) -> ActionCodec | None:
    """The codec of a model folder; `None` for a model of video alone.

    Raises:
        CheckpointError: naming the field that is missing, unknown, mistyped, too large, or does not fit the others.
    """
    if saved is None:
        return None
    bounds = saved.get("bounds") if isinstance(saved, dict) else None
    plain = {key: value for key, value in saved.items() if key != "bounds"} if isinstance(saved, dict) else saved
    found = decode(_Codec, plain, where)
    ball = isinstance(bounds, dict) and bounds.get("kind") == "ball"
    decode(_Ball if ball else _Box, bounds, f"{where}.bounds")
    columns = [found.angles, found.absolute, found.columns or (), found.proprio_columns or (), found.classes]
    longest = max(map(len, (found.names, found.mean, found.std, found.poses, *columns)))
    width = max(found.block, 1) * (len(found.names) + sum(max(0, k) for k in found.classes))
    largest = max((abs(n) for some in columns for n in some), default=0)
    if longest > MAX_DIMENSIONS or width > MAX_WIDTH or max(largest, abs(found.lag)) >= 1 << 31:
        raise CheckpointError(
            f"{where}: {longest} dimensions, {width} numbers a model action, columns up to {largest} and lag "
            f"{found.lag}, expected at most {MAX_DIMENSIONS} dimensions, {MAX_WIDTH} numbers, and less than 2^31"
        )
    try:
        with np.errstate(over="ignore"):  # too large for single precision is infinite, which the codec refuses
            codec = ActionCodec.from_dict(saved)
            bounds_of = codec.model_bounds
    except JepaActionsError as error:
        raise CheckpointError(f"{where}: {error}") from error
    if not bool(bounds_of.low.isfinite().all() & bounds_of.high.isfinite().all()):
        raise CheckpointError(f"{where}.bounds: not finite in the model's units")
    return codec
