"""What an action codec must be before it converts anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from jepa_actions.data.actions.codec import ActionCodec

SOURCES = ("action", "proprio_difference", "action_minus_proprio")


def check_codec(codec: ActionCodec) -> None:
    """Raise DataError naming what does not fit together."""
    _check_statistics(codec)
    _check_columns(codec)
    _check_classes(codec)


def _check_statistics(codec: ActionCodec) -> None:
    size, mean, std = len(codec.names), codec.mean, codec.std
    bounded = size if codec.bounds.low is None else len(codec.bounds.low)
    if codec.block < 1 or size < 1 or mean.shape != (size,) or std.shape != (size,) or bounded != size:
        raise DataError(
            f"action codec: block {codec.block}, mean {mean.shape}, std {std.shape}, bounds of {bounded} "
            f"dimensions, expected block >= 1 and {size} dimensions as in names"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise DataError(f"action codec: mean {mean}, std {std}, expected finite numbers and std > 0")


def _check_columns(codec: ActionCodec) -> None:
    if codec.source not in SOURCES:
        raise DataError(f"action codec: source {codec.source!r}, expected one of {', '.join(SOURCES)}")
    if codec.rotation not in ("additive", "composed"):
        raise DataError(f"action codec: rotation {codec.rotation!r}, expected 'additive' or 'composed'")
    if codec.rotation == "composed" and (codec.source == "action" or len(codec.angles) != 3):
        raise DataError(
            f"action codec: rotation composed with source {codec.source} and {len(codec.angles)} angles, expected "
            "proprio_difference or action_minus_proprio and the 3 angles roll, pitch, yaw"
        )
    width = codec.displacement.width
    if codec.columns is not None and (len(codec.columns) != width or min(codec.columns) < 0):
        raise DataError(f"action codec: columns {codec.columns}, expected {width} of them as in names, none negative")
    if codec.proprio_columns is not None:
        relative = width - len(codec.displacement.absolute)
        fits = len(codec.proprio_columns) == relative and min(codec.proprio_columns, default=0) >= 0
        if codec.source != "action_minus_proprio" or not fits:
            raise DataError(
                f"action codec: proprio_columns {codec.proprio_columns} with source {codec.source}, expected source "
                f"action_minus_proprio and one for each of the {relative} columns that are not absolute, none negative"
            )
    if codec.lag and codec.source == "proprio_difference":
        raise DataError(
            f"action codec: lag {codec.lag} with changes of proprio, expected 0: nothing recorded is shifted"
        )


def _check_classes(codec: ActionCodec) -> None:
    size = len(codec.names)
    for name, value in (("classes", codec.classes), ("normalise", codec.normalise)):
        if value and len(value) != size:
            raise DataError(f"action codec: {name} {value}, expected one for each of {size} dimensions, or none")
    if any(k < 0 for k in codec.classes):
        raise DataError(f"action codec: classes {codec.classes}, expected 0 or the number of classes")
    rotations = {place for at in codec.displacement.places[1] for place in at}
    for d, count in enumerate(codec.classes):
        if count and d in rotations:
            raise DataError(f"action codec: {codec.names[d]} is discrete, expected no part of a rotation")
        if count and codec.bounds.low is not None and codec.bounds.high is not None:
            low, high = codec.bounds.low[d], codec.bounds.high[d]
            if not any(low <= k <= high for k in range(count)):
                raise DataError(
                    f"action codec: bounds of {codec.names[d]}, {low:g} to {high:g}, hold no class of 0 to {count - 1}"
                )
