"""Between a robot's own action units and the model's: the only place where actions are normalised and denormalised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from jepa_actions.data.bounds import ActionBounds, check_keys
from jepa_actions.data.rotation import rotated, rotation_between
from jepa_actions.data.types import Episode, Segment, VideoDataset, check_finite
from jepa_actions.errors import DataError, ShapeError

Source = Literal["action", "proprio_difference"]
Rotation = Literal["additive", "composed"]


def wrap_angle(angle: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The same angles in (-pi, pi], in radians."""
    turned = np.pi - np.mod(np.pi - angle, 2 * np.pi)
    turned = np.where(turned <= -np.pi, np.pi, turned)
    inside = (angle > -np.pi) & (angle <= np.pi)
    return np.where(inside, angle, turned)


@dataclass(frozen=True, eq=False)
class ModelBounds:
    """The action bounds in model space: the enclosing box `low`, `high`, and the exact projection."""

    low: Float32[Tensor, "ba"]
    high: Float32[Tensor, "ba"]
    codec: ActionCodec

    def project(self, actions: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n ba"]:
        """The model actions whose raw actions are the nearest ones inside the bounds, each raw action of a block by
        itself."""
        if self.codec.bounds.kind == "box":
            self.codec.check_model(actions)
            return actions.clamp(self.low.to(actions), self.high.to(actions))
        return self.codec.encode(self.codec.bounds.project(self.codec.decode(actions)))


@dataclass(frozen=True, eq=False)
class ActionCodec:
    """z-scored blocks of raw actions: a model action is `block` consecutive raw actions, each normalised, side by side.

    `source` says what a raw action is: the recorded action, or the change of proprio from one frame to the next.
    `columns` picks and orders the dimensions of the source (`None`: all); `angles` counts among the picked ones and
    names those in radians that wrap to (-pi, pi]. `mean` and `std` are per raw dimension. `rotation` says what a change
    of three angles of proprio is: `additive`, their differences; `composed`, the rotation from one orientation to the
    next, with roll, pitch and yaw about fixed axes (V-JEPA 2-AC's `poses_to_diff` and `compute_new_pose`).
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

    def __post_init__(self) -> None:
        size = len(self.names)
        bounded = size if self.bounds.low is None else len(self.bounds.low)
        if self.block < 1 or size < 1 or self.mean.shape != (size,) or self.std.shape != (size,) or bounded != size:
            raise DataError(
                f"action codec: block {self.block}, mean {self.mean.shape}, std {self.std.shape}, bounds of {bounded} "
                f"dimensions, expected block >= 1 and {size} dimensions as in names"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise DataError(f"action codec: mean {self.mean}, std {self.std}, expected finite numbers and std > 0")
        if self.source not in ("action", "proprio_difference"):
            raise DataError(f"action codec: source {self.source!r}, expected 'action' or 'proprio_difference'")
        if self.columns is not None and (len(self.columns) != size or min(self.columns) < 0):
            raise DataError(f"action codec: columns {self.columns}, expected {size} of them as in names, none negative")
        if any(not 0 <= k < size for k in self.angles):
            raise DataError(f"action codec: angles {self.angles}, expected dimensions of the action, 0 to {size - 1}")
        if self.rotation not in ("additive", "composed"):
            raise DataError(f"action codec: rotation {self.rotation!r}, expected 'additive' or 'composed'")
        if self.rotation == "composed" and (self.source != "proprio_difference" or len(self.angles) != 3):
            raise DataError(
                f"action codec: rotation composed with source {self.source} and {len(self.angles)} angles, expected "
                "proprio_difference and the 3 angles roll, pitch, yaw"
            )

    @classmethod
    def fit(
        cls,
        dataset: VideoDataset,
        segments: Sequence[Segment],
        *,
        block: int,
        source: Source = "action",
        columns: Sequence[int] | None = None,
        angles: Sequence[int] = (),
        rotation: Rotation = "additive",
        bounds: Literal["support"] | ActionBounds = "support",
        ball: bool = False,
    ) -> ActionCodec:
        """A codec with the statistics of the labelled steps inside `segments` (the training ones).

        A dimension that never changes gets std 1. `bounds="support"` takes the range of those steps: a box, or with
        `ball` a ball around zero. Raises DataError where there is no labelled step, or a column does not exist.
        """
        available = dataset.action_names if source == "action" else dataset.proprio_names
        if available is None:
            part = "actions" if source == "action" else "proprio"
            raise DataError(f"{dataset.name}: holds no {part}, which the action codec's source {source!r} needs")
        chosen = tuple(range(len(available))) if columns is None else tuple(columns)
        if not chosen or any(not 0 <= k < len(available) for k in chosen):
            raise DataError(
                f"{dataset.name}: columns {chosen} of the codec's source {source!r}, expected 0 to {len(available) - 1}"
            )
        size = len(chosen)
        draft = cls(
            names=tuple(available[k] for k in chosen),
            block=block,
            mean=np.zeros(size, np.float32),
            std=np.ones(size, np.float32),
            bounds=ActionBounds("ball", radius=1.0),
            source=source,
            columns=None if columns is None else chosen,
            angles=tuple(angles),
            rotation=rotation,
        )
        raw = draft._labelled_steps(dataset, segments)
        if len(raw) == 0:
            raise DataError(
                f"{dataset.name}: no labelled step in {len(segments)} training segments, expected at least 1"
            )
        constant = raw.min(0) == raw.max(0)
        values = raw.astype(np.float64)
        return cls(
            names=draft.names,
            block=block,
            mean=values.mean(0).astype(np.float32),
            std=np.where(constant, 1.0, values.std(0)).astype(np.float32),
            bounds=ActionBounds.of_support(raw, ball=ball) if isinstance(bounds, str) else bounds,
            source=source,
            columns=draft.columns,
            angles=draft.angles,
            rotation=rotation,
        )

    def _labelled_steps(self, dataset: VideoDataset, segments: Sequence[Segment]) -> Float32[np.ndarray, "n a"]:
        found = [np.zeros((0, len(self.names)), np.float32)]
        by_episode: dict[int, list[Segment]] = {}
        for segment in segments:
            by_episode.setdefault(segment.episode, []).append(segment)
        for number, parts in by_episode.items():
            episode = dataset.episode(number)
            raw = self.raw_actions(episode)
            if raw is None:
                continue
            inside = np.zeros(len(raw), dtype=bool)
            for part in parts:
                inside[part.start : part.stop - 1] = True
            found.append(raw[inside & self.step_mask(episode)])
        return np.concatenate(found)

    def raw_actions(self, episode: Episode) -> Float32[np.ndarray, "t-1 a"] | None:
        """The raw actions of an episode, `None` where it has none; steps that are not labelled are zero.

        Raises DataError naming data set, episode, row and dimension of a labelled action that is not finite.
        """
        values = episode.actions if self.source == "action" else episode.proprio
        if values is None:
            return None
        part = "action" if self.source == "action" else "proprio"
        place = f"{episode.dataset}: {part} of episode {episode.index}"
        chosen = tuple(range(values.shape[1])) if self.columns is None else self.columns
        if len(chosen) != len(self.names) or max(chosen) >= values.shape[1]:
            raise DataError(
                f"{place} has {values.shape[1]} dimensions, expected those of the codec, {', '.join(self.names)}"
            )
        picked = values[:, list(chosen)].astype(np.float64)
        mask = self.step_mask(episode)
        check_finite(picked, place, self.names, mask if self.source == "action" else None)
        raw = picked if self.source == "action" else np.diff(picked, axis=0)
        raw = np.where(mask[:, None], raw, 0.0)
        angles = list(self.angles)
        if self.rotation == "composed":
            pose = torch.from_numpy(picked[:, angles])
            raw[:, angles] = rotation_between(pose[:-1], pose[1:]).numpy()
        raw[:, angles] = wrap_angle(raw[:, angles])
        return raw.astype(np.float32)

    def step_mask(self, episode: Episode) -> Bool[np.ndarray, "t-1"]:
        """True where the raw action of a step is known; a change of proprio always is."""
        if self.source == "action":
            return episode.labelled()
        return np.full(episode.length - 1, episode.proprio is not None)

    def integrate(self, proprio: Float[Tensor, "*n p"], model: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n p"]:
        """Proprio after a model action, in raw units: each change of its block added, angles wrapped or composed.

        Dimensions that the codec does not pick stay as they are. Where actions are not changes of proprio
        (`source="action"`) nobody knows what they do to it: all of it is held as it is. Values are not clipped (a
        gripper's opening may leave [0, 1]). Raises ShapeError where proprio lacks the codec's dimensions.
        """
        self.check_model(model)
        if self.source == "action":
            return proprio
        columns = list(range(len(self.names)) if self.columns is None else self.columns)
        fits = proprio.shape[-1] == len(columns) if self.columns is None else proprio.shape[-1] > max(columns)
        if not fits or not proprio.is_floating_point():
            raise ShapeError(
                f"action codec: proprio is {proprio.dtype} {tuple(proprio.shape)}, expected float with the codec's "
                f"dimensions, {', '.join(self.names)}"
            )
        angles, pose = list(self.angles), proprio[..., columns]
        for change in self.decode(model).unbind(-2):
            moved = pose + change.to(pose)
            if self.rotation == "composed":
                moved[..., angles] = rotated(pose[..., angles], change[..., angles].to(pose))
            elif angles:
                moved[..., angles] = torch.remainder(moved[..., angles] + math.pi, 2 * math.pi) - math.pi
            pose = moved
        after = proprio.expand(*pose.shape[:-1], -1).clone()
        after[..., columns] = pose
        return after

    @property
    def action_dim(self) -> int:
        """Length of a model action, `block * A`."""
        return self.block * len(self.names)

    def encode(self, raw: Float[Tensor, "*n block a"]) -> Float[Tensor, "*n ba"]:
        """Model actions of blocks of raw actions. Raises ShapeError where the last two dimensions are not (block,
        A)."""
        expected = (self.block, len(self.names))
        if raw.ndim < 2 or tuple(raw.shape[-2:]) != expected or not raw.is_floating_point():
            raise ShapeError(
                f"action codec: raw actions are {raw.dtype} {tuple(raw.shape)}, expected float (..., {self.block}, "
                f"{len(self.names)})"
            )
        mean, std = self._statistics(raw)
        return ((raw - mean) / std).flatten(-2)

    def decode(self, model: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n block a"]:
        """Blocks of raw actions of model actions. Raises ShapeError where the last dimension is not block * A."""
        self.check_model(model)
        mean, std = self._statistics(model)
        return model.reshape(*model.shape[:-1], self.block, len(self.names)) * std + mean

    def check_model(self, model: Tensor) -> None:
        """Raise ShapeError unless `model` holds model actions."""
        if model.ndim < 1 or model.shape[-1] != self.action_dim or not model.is_floating_point():
            raise ShapeError(
                f"action codec: model actions are {model.dtype} {tuple(model.shape)}, expected float "
                f"(..., {self.action_dim})"
            )

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.mean).to(like), torch.from_numpy(self.std).to(like)

    @property
    def model_bounds(self) -> ModelBounds:
        """The bounds in model space."""
        if self.bounds.kind == "box":
            edges = np.array([self.bounds.low, self.bounds.high], dtype=np.float32)
        else:
            edges = np.outer([-1.0, 1.0], np.full(len(self.names), self.bounds.radius)).astype(np.float32)
        low, high = self.encode(torch.from_numpy(edges)[:, None].repeat(1, self.block, 1))
        return ModelBounds(low, high, self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, read back by `from_dict`."""
        return {
            "names": list(self.names),
            "block": self.block,
            "mean": [float(x) for x in self.mean],
            "std": [float(x) for x in self.std],
            "bounds": self.bounds.to_dict(),
            "source": self.source,
            "columns": None if self.columns is None else list(self.columns),
            "angles": list(self.angles),
            "rotation": self.rotation,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ActionCodec:
        """The codec that `to_dict` wrote. Raises CheckpointError naming keys that are missing or not known."""
        check_keys("action codec", saved, {f.name for f in fields(cls)})
        return cls(
            names=tuple(saved["names"]),
            block=saved["block"],
            mean=np.array(saved["mean"], dtype=np.float32),
            std=np.array(saved["std"], dtype=np.float32),
            bounds=ActionBounds.from_dict(saved["bounds"]),
            source=saved["source"],
            columns=None if saved["columns"] is None else tuple(saved["columns"]),
            angles=tuple(saved["angles"]),
            rotation=saved["rotation"],
        )
