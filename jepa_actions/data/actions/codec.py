"""Between a robot's own action units and the model's: the only place where actions are normalised and denormalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from jepa_actions.data.actions.bounds import ActionBounds, ModelBounds, check_keys
from jepa_actions.data.actions.check import check_codec
from jepa_actions.data.actions.fit import Normalise, fit_codec
from jepa_actions.data.actions.pose import Displacement, Pose, wrap_angle
from jepa_actions.data.actions.read import Source, known_steps, read_raw, step_origins
from jepa_actions.data.actions.scaling import Scaling, wide
from jepa_actions.data.types import Episode
from jepa_actions.errors import ShapeError

__all__ = ["ActionCodec", "ModelBounds", "Rotation", "Source", "wrap_angle"]

Rotation = Literal["additive", "composed"]


@dataclass(frozen=True, eq=False)
class ActionCodec:
    """Blocks of raw actions as model actions: `block` consecutive raw actions, each normalised, side by side.

    What a raw action is:
        source: `action`, what was recorded; `proprio_difference`, what leads from the proprio of a frame to that of the
            next; `action_minus_proprio`, what leads from the proprio of a frame to the command recorded there.
        columns: the dimensions of the source, in this order (`None`: all). What follows counts among these.
        angles: columns in radians that wrap to (-pi, pi].
        poses: columns that are rotations, with their positions, and how their change is written (`Pose`).
        absolute: columns taken as they are, where the others are differences; so are discrete ones.
        rotation: `composed` is short for one pose of three `angles`, roll, pitch and yaw, in the frame of the base
            (V-JEPA 2-AC's `poses_to_diff` and `compute_new_pose`); `additive` takes their differences.
        proprio_columns: for `action_minus_proprio`, the columns of proprio that the columns that are not absolute are
            seen from, in their order (`None`: those of the same numbers).
        lag: the step from frame s to s+1 shows the action recorded at s - lag: positive where the action leads.

    How it is normalised, per dimension of a raw action:
        mean, std: model numbers are `(raw - mean) / std`; see `Scaling` for what comes back.
        normalise: where these come from: mean and standard deviation (`zscore`), or middle and half distance of two
            quantiles, which become -1 and 1 (`quantile`); `discrete` dimensions have classes instead.
        classes: number of classes of a discrete dimension, 0 to k-1, one-hot in the model; 0 for the others. None of
            the dimensions is discrete where it is empty.
    """

    names: tuple[str, ...]
    block: int
    mean: Float32[np.ndarray, "a"]
    std: Float32[np.ndarray, "a"]
    bounds: ActionBounds
    source: Source = "action"
    columns: tuple[int, ...] | None = None
    angles: tuple[int, ...] = ()
    rotation: Rotation = "additive"
    poses: tuple[Pose, ...] = ()
    absolute: tuple[int, ...] = ()
    proprio_columns: tuple[int, ...] | None = None
    lag: int = 0
    classes: tuple[int, ...] = ()
    normalise: tuple[Normalise, ...] = ()

    fit = classmethod(fit_codec)

    def __post_init__(self) -> None:
        check_codec(self)

    # -- what a raw action is ------------------------------------------------------------------------------------

    @cached_property
    def displacement(self) -> Displacement:
        """What leads from one row of the source's columns to another."""
        poses, angles = self.poses, self.angles
        if self.rotation == "composed":
            poses, angles = (*poses, Pose(self.angles, "euler", "euler")), ()
        width = len(self.names) - sum(pose.growth for pose in poses)
        made = Displacement(width, angles, self.absolute, poses)
        classes = [k for k, place in made.places[0].items() if self.classes and self.classes[place]]
        return replace(made, absolute=tuple(sorted({*self.absolute, *classes})))

    def raw_actions(self, episode: Episode) -> Float32[np.ndarray, "t-1 a"] | None:
        """The raw actions of an episode, `None` where it has none; steps that are not labelled are zero.

        Raises DataError naming data set, episode, row and dimension of a labelled action that is not finite, is no
        rotation or is none of the classes.
        """
        return read_raw(self, episode)

    def step_mask(self, episode: Episode) -> Bool[np.ndarray, "t-1"]:
        """True where the raw action of a step is known; a change of proprio always is."""
        return known_steps(self, episode)

    def step_origins(self, episode: Episode) -> Int64[np.ndarray, "t-1"]:
        """Provenance of every step's raw action; means something where it is known. Changes of proprio are true."""
        return step_origins(self, episode)

    def still(self) -> Float32[Tensor, "block a"]:
        """The raw actions that change nothing, or command zeros; of a discrete dimension class 0."""
        origin = self.displacement.origin()
        return self.displacement.between(origin, origin).float().repeat(self.block, 1)

    def integrate(self, proprio: Float[Tensor, "*n p"], model: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n p"]:
        """Proprio after a model action, in raw units: each change of its block applied.

        Dimensions that the codec does not pick stay as they are. Commands relative to proprio count as reached; what
        recorded commands (`source="action"`) do to proprio nobody knows: all of it is held as it is. Values are not
        clipped (a gripper's opening may leave [0, 1]). A path of many steps drifts by its rounding where `proprio` is
        in single precision, and does not in double. Raises ShapeError where proprio lacks the codec's dimensions.
        """
        self.check_model(model)
        if self.source == "action":
            return proprio
        picked, columns = self.seen_from
        last = self.path(proprio, model)[..., -1, :]
        after = proprio.expand(*last.shape[:-1], -1).clone()
        after[..., columns] = last[..., picked]
        return after

    def path(self, proprio: Float[Tensor, "*n p"] | None, model: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n block w"]:
        """What to command: the source's columns after each raw action, absolute, in raw units.

        The recorded command itself for `source="action"`, which needs no proprio; otherwise the changes, one after the
        other, from the present proprio on. Raises ShapeError where proprio lacks the codec's dimensions.
        """
        displacement = self.displacement
        if self.source == "action":
            raw = wide(self.decode(model))
            return displacement.after(displacement.origin().to(raw), raw).to(model.dtype)
        raw = self.decode(wide(model), exact=False)
        origin = displacement.origin().to(raw)
        picked, columns = self.seen_from
        fits = proprio is not None and proprio.is_floating_point() and proprio.shape[-1] > max(columns, default=-1)
        exact = self.columns is None and len(columns) == displacement.width
        if proprio is None or not fits or (exact and proprio.shape[-1] != len(columns)):
            found = "none" if proprio is None else f"{proprio.dtype} {tuple(proprio.shape)}"
            raise ShapeError(
                f"action codec: proprio is {found}, expected float with the codec's dimensions, {', '.join(self.names)}"
            )
        row = origin.expand(*proprio.shape[:-1], -1).clone()
        row[..., picked] = wide(proprio[..., columns])
        rows = []
        for change in raw.unbind(-2):
            row = displacement.after(row, change)
            rows.append(row)
        return torch.stack(rows, dim=-2).to(proprio.dtype)

    @cached_property
    def seen_from(self) -> tuple[list[int], list[int]]:
        """Columns of the source that proprio has a part in, and which of its columns these are."""
        picked = list(range(self.displacement.width))
        if self.source == "action_minus_proprio":
            picked = [k for k in picked if k not in self.displacement.absolute]
            if self.proprio_columns is not None:
                return picked, list(self.proprio_columns)
        return picked, picked if self.columns is None else [self.columns[k] for k in picked]

    # -- between raw and model actions ----------------------------------------------------------------------------

    @cached_property
    def scaling(self) -> Scaling:
        """Raw numbers to model numbers, one raw action at a time."""
        return Scaling(self.names, self.mean, self.std, self.classes or (0,) * len(self.names))

    @cached_property
    def discrete(self) -> tuple[tuple[int, int], ...]:
        """Where one-hots lie in a model action: start and number of classes, raw action after raw action."""
        width = self.scaling.width
        return tuple((k * width + start, count) for k in range(self.block) for _, start, count in self.scaling.hot)

    @property
    def action_dim(self) -> int:
        """Length of a model action: per raw action of the block one number a dimension, or one a class."""
        return self.block * self.scaling.width

    def encode(self, raw: Float[Tensor, "*n block a"]) -> Float[Tensor, "*n ba"]:
        """Model actions of blocks of raw actions.

        Raises ShapeError where the last two dimensions are not (block, A), DataError for a class that is none.
        """
        expected = (self.block, len(self.names))
        if raw.ndim < 2 or tuple(raw.shape[-2:]) != expected or not raw.is_floating_point():
            raise ShapeError(
                f"action codec: raw actions are {raw.dtype} {tuple(raw.shape)}, expected float (..., {self.block}, "
                f"{len(self.names)})"
            )
        return self.scaling.encode(raw).flatten(-2)

    def decode(self, model: Float[Tensor, "*n ba"], *, exact: bool = True) -> Float[Tensor, "*n block a"]:
        """Blocks of raw actions of model actions; see `Scaling.decode`.

        Raises ShapeError where the last dimension is not `action_dim`.
        """
        self.check_model(model)
        return self.scaling.decode(model.unflatten(-1, (self.block, self.scaling.width)), exact=exact)

    def check_model(self, model: Tensor) -> None:
        """Raise ShapeError unless `model` holds model actions."""
        if model.ndim < 1 or model.shape[-1] != self.action_dim or not model.is_floating_point():
            raise ShapeError(
                f"action codec: model actions are {model.dtype} {tuple(model.shape)}, expected float "
                f"(..., {self.action_dim})"
            )

    @property
    def model_bounds(self) -> ModelBounds:
        """The bounds in model space."""
        return ModelBounds.of(self)

    # -- saved with the model -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, read back by `from_dict`."""

        def listed(value: tuple[Any, ...] | None) -> list[Any] | None:
            return None if value is None else list(value)

        return {
            "names": list(self.names),
            "block": self.block,
            "mean": [float(x) for x in self.mean],
            "std": [float(x) for x in self.std],
            "bounds": self.bounds.to_dict(),
            "source": self.source,
            "columns": listed(self.columns),
            "angles": listed(self.angles),
            "rotation": self.rotation,
            "poses": [pose.to_dict() for pose in self.poses],
            "absolute": listed(self.absolute),
            "proprio_columns": listed(self.proprio_columns),
            "lag": self.lag,
            "classes": listed(self.classes),
            "normalise": listed(self.normalise),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ActionCodec:
        """The codec that `to_dict` wrote. Raises CheckpointError naming keys that are missing or not known."""
        check_keys("action codec", saved, {f.name for f in fields(cls)})
        made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        made["mean"], made["std"] = (np.array(saved[key], dtype=np.float32) for key in ("mean", "std"))
        made["bounds"] = ActionBounds.from_dict(saved["bounds"])
        made["poses"] = tuple(Pose.from_dict(pose) for pose in saved["poses"])
        return cls(**made)
