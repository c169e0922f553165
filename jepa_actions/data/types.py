"""What a recording is in memory: an episode's labels, a stretch of an episode, a data set, a batch of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
from torch import Tensor

from jepa_actions.errors import DataError, ShapeError


class Provenance(IntEnum):
    """Where an action came from; labels of different provenance are never mixed silently."""

    TRUE = 0
    PSEUDO = 1
    LATENT = 2


@dataclass(frozen=True)
class Segment:
    """Frames `[start, stop)` of one episode."""

    episode: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.episode < 0 or self.start < 0 or self.stop <= self.start:
            raise DataError(f"{self}: expected episode >= 0 and 0 <= start < stop")

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass
class Episode:
    """The labels of one episode of T frames; its frames stay in the data set.

    Action `t` takes frame `t` to frame `t+1`, so T frames have T-1 actions. `actions` is `(T-1, A)` in raw units,
    `proprio` `(T, P)` in raw units, `rewards` `(T-1,)` for the same steps as the actions, `action_mask` `(T-1,)` true
    where the action is known (`None`: all are). `provenance` says where actions come from, for all steps or per step,
    and `labeller` which model gave those that are not true. `times` are seconds from the first frame (`None`: frame
    number / fps). `simulator_state` and `seed` are for evaluation only. `dataset` is the name of the data set, used in
    errors only. Raises ShapeError naming the field, DataError for inferred actions without a labeller.
    """

    index: int
    length: int
    actions: Float32[np.ndarray, "t-1 a"] | None = None
    proprio: Float32[np.ndarray, "t p"] | None = None
    rewards: Float32[np.ndarray, "t-1"] | None = None
    text: str | None = None
    action_mask: Bool[np.ndarray, "t-1"] | None = None
    provenance: Provenance | Int64[np.ndarray, "t-1"] = Provenance.TRUE
    labeller: str | None = None
    times: Float64[np.ndarray, "t"] | None = None
    simulator_state: Float64[np.ndarray, "t s"] | None = None
    seed: int | None = None
    dataset: str = ""

    def __post_init__(self) -> None:
        place = f"{self.dataset or 'episode'}: episode {self.index}"
        if self.length < 1:
            raise ShapeError(f"{place}: length is {self.length}, expected at least 1 frame")
        steps = self.length - 1
        for name, dims, rows, kind in (
            ("actions", 2, steps, "float32"),
            ("proprio", 2, self.length, "float32"),
            ("rewards", 1, steps, "float32"),
            ("action_mask", 1, steps, "bool"),
            ("provenance", 1, steps, "int64"),
            ("times", 1, self.length, "float64"),
            ("simulator_state", 2, self.length, "float64"),
        ):
            value = getattr(self, name)
            if value is None or isinstance(value, Provenance):
                continue
            if value.ndim != dims or value.shape[0] != rows or value.dtype != np.dtype(kind):
                raise ShapeError(
                    f"{place}: {name} is {value.dtype} {value.shape}, expected {kind} with {dims} dimensions and "
                    f"{rows} rows for {self.length} frames"
                )
        if self.labeller is None and (self.origins()[self.labelled()] != Provenance.TRUE).any():
            raise DataError(f"{place}: actions that are not true without a labeller, expected which model gave them")

    def labelled(self) -> Bool[np.ndarray, "t-1"]:
        """True where the action of a step is known; all false in an episode without actions."""
        if self.actions is None:
            return np.zeros(self.length - 1, dtype=bool)
        return np.ones(self.length - 1, dtype=bool) if self.action_mask is None else self.action_mask

    def origins(self) -> Int64[np.ndarray, "t-1"]:
        """Provenance of every step; it means something only where the action is known."""
        if isinstance(self.provenance, np.ndarray):
            return self.provenance
        return np.full(self.length - 1, int(self.provenance), dtype=np.int64)


@runtime_checkable
class VideoDataset(Protocol):
    """Episodes of video with optional labels. `action_names` is `None` exactly where the whole data set has no
    actions."""

    @property
    def name(self) -> str: ...
    @property
    def cameras(self) -> tuple[str, ...]: ...
    @property
    def fps(self) -> float: ...
    @property
    def action_names(self) -> tuple[str, ...] | None: ...
    @property
    def proprio_names(self) -> tuple[str, ...] | None: ...

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        ...

    def __len__(self) -> int:
        """The number of episodes."""
        ...

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        ...

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`."""
        ...

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, RGB, for every camera; the layout in memory may be channels last."""
        ...

    def without_labels(self) -> VideoDataset:
        """The same frames and lengths, from an object through which no action, proprio or reward can be reached."""
        ...

    def fingerprint(self) -> str:
        """A hash of everything that frames and labels depend on: two data sets with one fingerprint read the same."""
        ...


def check_finite(
    values: Float[np.ndarray, "t d"],
    place: str,
    names: Sequence[str] | None,
    known: Bool[np.ndarray, "t"] | None = None,
) -> None:
    """Raise DataError naming the first row and dimension of `values` that is not finite, where `known` is true."""
    bad = ~np.isfinite(values)
    if known is not None:
        bad &= known[:, None]
    if bad.any():
        row, dim = (int(k) for k in np.argwhere(bad)[0])
        label = f"dimension {dim}" + (f" ({names[dim]})" if names is not None else "")
        raise DataError(f"{place}, row {row}, {label}: found {values[row, dim]}, expected a finite number")


def check_clips(lengths: np.ndarray, episodes: np.ndarray, frames: np.ndarray, place: str) -> None:
    """Raise ShapeError or DataError where a request for clips is malformed or leaves its episodes."""
    if episodes.ndim != 1 or frames.ndim != 2 or len(episodes) != len(frames):
        raise ShapeError(
            f"{place}: episodes has shape {episodes.shape} and frames {frames.shape}, expected (b,) and (b, t)"
        )
    if episodes.size and (episodes.min() < 0 or episodes.max() >= len(lengths)):
        raise DataError(f"{place}: episode {int(episodes.max())} asked for, expected 0 to {len(lengths) - 1}")
    bad = (frames < 0) | (frames >= lengths[episodes][:, None])
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        episode = int(episodes[row])
        raise DataError(
            f"{place}: frame {int(frames[row, column])} of episode {episode} asked for, expected 0 to "
            f"{int(lengths[episode]) - 1}"
        )


@dataclass
class Batch:
    """Clips of T frames and what is known of the T-1 steps between them. Raises ShapeError naming the field.

    `actions` are model actions (normalised, several raw actions per step), zero where `action_mask` is false;
    `provenance` holds Provenance values and means something only where `action_mask` is true. `rewards` are summed over
    the raw steps of a model step. `proprio` is in raw units, zero where `proprio_mask` is false. `text` is "" for a
    clip without one. `frame_mask` is false for padding, a frame repeated after an episode's end (`None`: there is
    none). `episode` and `frame` say where each clip comes from, `scene` which clips show the same scene, where a batch
    is made of several clips of each. `tokens` are what a frozen encoder makes of the frames, where they are cached, and
    `z` what encoder and pooler make of them where both are frozen: `frames` is then empty.
    """

    frames: dict[str, UInt8[Tensor, "b t c h w"]]
    episode: Int64[Tensor, "b"]
    frame: Int64[Tensor, "b t"]
    actions: Float[Tensor, "b t-1 a"] | None = None
    action_mask: Bool[Tensor, "b t-1"] | None = None
    provenance: Int64[Tensor, "b t-1"] | None = None
    proprio: Float[Tensor, "b t p"] | None = None
    proprio_mask: Bool[Tensor, "b t"] | None = None
    rewards: Float[Tensor, "b t-1"] | None = None
    reward_mask: Bool[Tensor, "b t-1"] | None = None
    text: list[str] | None = None
    frame_mask: Bool[Tensor, "b t"] | None = None
    tokens: dict[str, Float[Tensor, "b t n d"]] | None = None
    z: Float[Tensor, "b t n d"] | None = None
    scene: Int64[Tensor, "b"] | None = None

    def __post_init__(self) -> None:
        if not self.frames and not self.tokens and self.z is None:
            raise ShapeError("Batch.frames is empty, expected at least one camera")
        _check("frame", self.frame, (None, None), "int64")
        b, t = self.frame.shape
        for camera, images in self.frames.items():
            _check(f"frames[{camera!r}]", images, (b, t, 3, None, None), "uint8")
        for camera, tokens in (self.tokens or {}).items():
            _check(f"tokens[{camera!r}]", tokens, (b, t, None, None), "float")
        _check("z", self.z, (b, t, None, None), "float")
        _check("episode", self.episode, (b,), "int64")
        _check("scene", self.scene, (b,), "int64")
        _check("actions", self.actions, (b, t - 1, None), "float")
        _check("action_mask", self.action_mask, (b, t - 1), "bool")
        _check("provenance", self.provenance, (b, t - 1), "int64")
        _check("proprio", self.proprio, (b, t, None), "float")
        _check("proprio_mask", self.proprio_mask, (b, t), "bool")
        _check("frame_mask", self.frame_mask, (b, t), "bool")
        _check("rewards", self.rewards, (b, t - 1), "float")
        _check("reward_mask", self.reward_mask, (b, t - 1), "bool")
        for group in (("actions", "action_mask", "provenance"), ("rewards", "reward_mask")):
            given = [name for name in group if getattr(self, name) is not None]
            if given and len(given) < len(group):
                missing = [name for name in group if name not in given]
                raise ShapeError(
                    f"Batch.{missing[0]} is None although {given[0]} is given, expected all of {', '.join(group)}"
                )
        if self.text is not None and len(self.text) != b:
            raise ShapeError(f"Batch.text has {len(self.text)} entries, expected {b}")

    @property
    def batch_size(self) -> int:
        return int(self.frame.shape[0])

    @property
    def steps(self) -> int:
        """T, the number of frames of a clip."""
        return int(self.frame.shape[1])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        return replace(
            self,
            frames={camera: value.to(device, non_blocking=True) for camera, value in self.frames.items()},
            episode=self.episode.to(device, non_blocking=True),
            frame=self.frame.to(device, non_blocking=True),
            actions=move(self.actions),
            action_mask=move(self.action_mask),
            provenance=move(self.provenance),
            proprio=move(self.proprio),
            proprio_mask=move(self.proprio_mask),
            frame_mask=move(self.frame_mask),
            rewards=move(self.rewards),
            reward_mask=move(self.reward_mask),
            tokens=None
            if self.tokens is None
            else {camera: value.to(device, non_blocking=True) for camera, value in self.tokens.items()},
            z=move(self.z),
            scene=move(self.scene),
        )


def _check(name: str, value: Tensor | None, shape: tuple[int | None, ...], dtype: str) -> None:
    if value is None:
        return
    fits = value.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, value.shape, strict=True)
    )
    typed = value.is_floating_point() if dtype == "float" else str(value.dtype) == f"torch.{dtype}"
    if not fits or not typed:
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        raise ShapeError(f"Batch.{name} is {value.dtype} {tuple(value.shape)}, expected {dtype} ({wanted})")
