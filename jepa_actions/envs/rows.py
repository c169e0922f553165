"""What worlds whose state is a row of numbers share: checks of rows, differences of angles, one random stream per
episode.
"""

import math
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.envs.world import Split
from jepa_actions.errors import ConfigError, DataError, ShapeError


def wrap(angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The same angles, rad, from -pi to pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def check_rows(what: str, rows: Tensor, names: tuple[str, ...], leading: tuple[int, ...] | None = None) -> None:
    """Raise ShapeError unless `rows` is floating point with one column per name (and the leading dimensions given),
    DataError, naming the first bad row, unless every number is finite.
    """
    shape = tuple(rows.shape)
    if not rows.is_floating_point() or rows.ndim == 0 or shape[-1] != len(names) or leading not in (None, shape[:-1]):
        wanted = ("...",) if leading is None else leading
        raise ShapeError(
            f"{what}: found shape {shape} {rows.dtype}, expected ({', '.join(map(str, (*wanted, len(names))))}) "
            f"floating point, [{', '.join(names)}]"
        )
    if names and not bool(torch.isfinite(rows).all()):
        flat = rows.reshape(-1, len(names))
        row = int((~torch.isfinite(flat)).any(dim=1).nonzero()[0, 0])
        raise DataError(f"{what}: found {flat[row].tolist()} in row {row}, expected finite [{', '.join(names)}]")


def check_request(what: str, counts: dict[str, int], seed: int, split: Split) -> None:
    """Raise ConfigError unless every count is at least 1, the seed is in [0, 2**63) and the split is one of three."""
    if min(counts.values()) < 1 or not 0 <= seed < 2**63:
        found = ", ".join(f"{name}={value}" for name, value in (counts | {"seed": seed}).items())
        raise ConfigError(f"{what}: found {found}, expected counts >= 1 and a seed in [0, 2**63)")
    check_split(what, split)


def check_split(what: str, split: Split) -> None:
    """Raise ConfigError unless the split is one of three."""
    if split not in get_args(Split):
        raise ConfigError(f"{what} split: found {split!r}, expected one of {', '.join(get_args(Split))}")


def stream(seed: int, episode: int) -> np.random.Generator:
    """The random numbers of one episode, which depend on nothing but the two."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, episode], dtype=np.uint64)))
