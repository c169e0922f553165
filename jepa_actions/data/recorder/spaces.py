"""What a gymnasium environment shows and takes, as frames, proprioception and actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from jepa_actions.errors import DataError, ShapeError

if TYPE_CHECKING:
    from gymnasium import Space

Policy = Callable[[Any, np.random.Generator], Any]  # (observation, its own random numbers) -> action


@dataclass(frozen=True)
class Actions:
    """How actions of a space are written: names of the dimensions; how many values each has, for whole numbers; lowest
    and highest, where a Box has them."""

    space: Space[Any]
    names: tuple[str, ...]
    discrete: tuple[int, ...] | None
    bounds: tuple[list[float], list[float]] | None = None

    @classmethod
    def of(cls, space: Space[Any], place: str) -> Actions:
        """Of a Box, Discrete, MultiDiscrete or MultiBinary space. Raises DataError for another one."""
        from gymnasium import spaces

        if isinstance(space, spaces.Box):
            low, high = (side.astype(np.float64).ravel() for side in (space.low, space.high))
            bounds = (low.tolist(), high.tolist()) if np.isfinite([low, high]).all() else None
            return cls(space, _numbered("action", low.size), None, bounds)
        if isinstance(space, spaces.Discrete):
            sizes = np.array([space.n + space.start])
        elif isinstance(space, spaces.MultiDiscrete):
            sizes = np.asarray(space.nvec + getattr(space, "start", 0)).ravel()
        elif isinstance(space, spaces.MultiBinary):
            sizes = np.full(int(np.prod(space.shape)), 2)
        else:
            raise DataError(
                f"{place}: action space {space}, expected a Box, Discrete, MultiDiscrete or MultiBinary one"
            )
        if np.min(getattr(space, "start", 0)) < 0:
            raise DataError(f"{place}: action space {space}, expected values from 0")
        return cls(space, _numbered("action", len(sizes)), tuple(int(n) for n in sizes))

    def act(self, action: Any, place: str) -> tuple[Any, Float32[np.ndarray, "a"]]:
        """A policy's action as the environment takes it and as it is recorded: the same number in both, so that a
        replay is exact. Raises DataError or ShapeError for one that the space cannot hold."""
        shape, dtype = self.space.shape or (), np.dtype(self.space.dtype or np.float32)
        try:
            values = np.asarray(action.detach().cpu().numpy() if isinstance(action, Tensor) else action)
            recorded = values.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"{place}: action {action!r}, expected numbers of shape {shape}") from error
        if recorded.shape != shape or not np.isfinite(recorded).all():
            raise ShapeError(f"{place}: action {action!r} of shape {recorded.shape}, expected finite ones of {shape}")
        recorded = self._inside(recorded, values)
        taken = recorded.astype(dtype)
        if self.discrete is not None and ((taken != values).any() or not self.space.contains(taken[()])):
            raise DataError(f"{place}: action {action!r}, expected one of {self.space}")
        return taken[()], recorded.reshape(-1)

    def _inside(self, recorded: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Back inside the space where only rounding has put it outside."""
        if self.bounds is None:
            return recorded
        low, high = (np.reshape(side, recorded.shape) for side in self.bounds)
        over, under = (recorded > high) & (values <= high), (recorded < low) & (values >= low)
        towards = np.where(over, -np.inf, np.inf).astype(np.float32)
        return np.where(over | under, np.nextafter(recorded, towards), recorded)

    def random(self, rng: np.random.Generator) -> Policy:
        """A policy that samples the space."""
        space = deepcopy(self.space)
        space.seed(int(rng.integers(2**31)))
        return lambda observation, rng: space.sample()


@dataclass(frozen=True)
class Observations:
    """Where in an observation the frames and the other numbers are. `images` are paths of the parts that are frames,
    by camera; `numbers` those of the others, with their widths."""

    images: dict[str, tuple[str, ...]]
    numbers: dict[tuple[str, ...], int]

    @classmethod
    def of(cls, space: Space[Any], cameras: Sequence[str], place: str) -> Observations:
        """Of a space. A part named as a camera is one; other parts that look like images are left out.

        Raises DataError for a part that is neither a picture nor numbers.
        """
        parts = dict(_parts(space))
        images: dict[str, tuple[str, ...]] = {}
        for camera in cameras:
            path = () if () in parts else tuple(camera.split("."))
            if path in parts and is_image(parts[path]):
                images[camera] = path
        numbers = {}
        for path, part in parts.items():
            if path not in images.values() and not is_image(part):
                numbers[path] = _width(part, f"{place}: observation {'.'.join(path) or 'space'}")
        return cls(images, numbers)

    def pictures(self, observation: Any) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """The frames of an observation by camera."""
        return {camera: picture(_at(observation, path), camera) for camera, path in self.images.items()}

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the other numbers' dimensions; `None` where there are none."""
        names = [
            name
            for path, width in self.numbers.items()
            for name in (
                _numbered(".".join(path) or "observation", width) if width != 1 or not path else (".".join(path),)
            )
        ]
        return tuple(names) or None

    def state(self, observation: Any) -> Float32[np.ndarray, "p"]:
        """The other numbers of an observation."""
        return np.concatenate([np.asarray(_at(observation, path), np.float32).ravel() for path in self.numbers])


def image_parts(space: Space[Any]) -> list[str]:
    """Names of the parts of an observation that look like images."""
    return [".".join(path) for path, part in _parts(space) if is_image(part)]


def is_image(space: Space[Any]) -> bool:
    """Whether a space holds grey or RGB pictures: bytes of (H, W), or (H, W, c) or (c, H, W) with c of 1 or 3."""
    shape = space.shape or ()
    if space.dtype != np.uint8 or len(shape) not in (2, 3):
        return False
    return len(shape) == 2 or shape[-1] in (1, 3) or shape[0] in (1, 3)


def picture(image: Any, camera: str) -> UInt8[np.ndarray, "h w 3"]:
    """A grey or RGB picture, channels first or last, as RGB (H, W, 3). Raises ShapeError for what is none."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise ShapeError(
            f"camera {camera!r}: found {array.dtype} {array.shape}, expected uint8 (height, width, 3) "
            "(render_mode='rgb_array' where it is rendered)"
        )
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array.copy()


def flat_state(state: Any, place: str) -> Float64[np.ndarray, "s"]:
    """Every number of a simulator's state in one row: arrays, numbers, and dataclasses, mappings and sequences of
    them. Raises DataError for anything else."""
    if isinstance(state, Tensor):
        state = state.detach().cpu().numpy()
    if is_dataclass(state) and not isinstance(state, type):
        state = [getattr(state, field.name) for field in fields(state)]
    if isinstance(state, Mapping):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return np.concatenate([np.zeros(0), *(flat_state(part, place) for part in state)])
    array = np.asarray(state)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{place}: simulator state holds {type(state).__name__}, expected numbers (or state_of=None)")
    return array.astype(np.float64).ravel()


def row(batched: Any, i: int) -> Any:
    """World `i` of a batch of observations or infos."""
    if isinstance(batched, Mapping):
        return {key: row(value, i) for key, value in batched.items() if not str(key).startswith("_")}
    if isinstance(batched, tuple):
        return tuple(row(value, i) for value in batched)
    value = batched[i]
    return value.copy() if isinstance(value, np.ndarray) else value


def _parts(space: Space[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Space[Any]]]:
    from gymnasium import spaces

    inner: Mapping[str, Space[Any]] = {}
    if isinstance(space, spaces.Dict):
        inner = space.spaces
    elif isinstance(space, spaces.Tuple):
        inner = {str(k): part for k, part in enumerate(space.spaces)}
    else:
        yield path, space
    for name, part in inner.items():
        yield from _parts(part, (*path, name))


def _at(observation: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        observation = observation[int(name) if isinstance(observation, tuple) else name]
    return observation


def _width(space: Space[Any], place: str) -> int:
    from gymnasium import spaces

    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise DataError(f"{place}: found {space}, expected pictures or numbers")
    return int(np.prod(space.shape or ()))


def _numbered(name: str, width: int) -> tuple[str, ...]:
    return tuple(f"{name}_{k}" for k in range(width))
