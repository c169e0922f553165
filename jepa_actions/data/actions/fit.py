"""An action codec with the statistics of recordings: of their labelled steps, of one provenance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from jaxtyping import Float32

from jepa_actions.data.actions.bounds import ActionBounds
from jepa_actions.data.actions.pose import Displacement, Pose
from jepa_actions.data.actions.read import Source, missing
from jepa_actions.data.types import Provenance, Segment, VideoDataset
from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from jepa_actions.data.actions.codec import ActionCodec

Normalise = Literal["zscore", "quantile", "discrete"]
Scale = Literal["zscore", "quantile"]
T = TypeVar("T")
MOST_CLASSES = 4096  # more than these are numbers, not classes


def fit_codec(
    cls: type[ActionCodec],
    dataset: VideoDataset,
    segments: Sequence[Segment],
    *,
    block: int,
    source: Source = "action",
    columns: Sequence[int] | None = None,
    angles: Sequence[int] = (),
    rotation: Literal["additive", "composed"] = "additive",
    poses: Sequence[Pose] = (),
    absolute: Sequence[int] = (),
    proprio_columns: Sequence[int] | None = None,
    lag: int = 0,
    discrete: Mapping[int, int] | Sequence[int] = (),
    normalise: Scale | Mapping[int, Scale] = "zscore",
    quantiles: tuple[float, float] = (0.01, 0.99),
    bounds: Literal["support", "quantiles"] | ActionBounds = "support",
    ball: bool = False,
    provenance: Collection[Provenance] = (Provenance.TRUE,),
) -> ActionCodec:
    """A codec with the statistics of the labelled steps inside `segments` (the training ones).

    Args:
        dataset, segments: where the steps are.
        block, source, columns, angles, rotation, poses, absolute, proprio_columns, lag: as in `ActionCodec`.
        discrete: picked columns that hold classes, with how many there are; without, they are counted in the data (one
            more than the highest).
        normalise: `zscore`: mean 0 and standard deviation 1; `quantile`: the two `quantiles` become -1 and 1, and where
            these are one number the range takes their place. For all dimensions, or by picked column (`zscore` for
            those not named; a column of a rotation stands for all of its change).
        bounds: `support`, the range of the steps, or their `quantiles`: a box, or with `ball` a ball around zero, of
            the dimensions that are not discrete. Those are bounded by the range of their classes.
        provenance: of the steps that count: true ones, and inferred ones only where asked for.

    A dimension that never changes gets std 1. Raises DataError where there is no such step, a column does not exist, a
    discrete column holds other numbers, or latent actions would be mixed with others.
    """
    if Provenance.LATENT in provenance and len(set(provenance)) > 1:
        raise DataError(f"{dataset.name}: statistics of latent actions together with others, expected either")
    if not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise DataError(f"action codec: quantiles {quantiles}, expected 0 <= lower < upper <= 1")
    chosen = _chosen(dataset, source, columns)
    layout = Displacement(len(chosen), tuple(angles), tuple(absolute), tuple(poses))
    counts = dict(discrete) if isinstance(discrete, Mapping) else dict.fromkeys(discrete, MOST_CLASSES)
    draft = cls(
        names=layout.names(chosen),
        block=block,
        mean=np.zeros(layout.size, np.float32),
        std=np.ones(layout.size, np.float32),
        bounds=ActionBounds("ball", radius=1.0),
        source=source,
        columns=None if columns is None else tuple(columns),
        angles=layout.angles,
        rotation=rotation,
        poses=layout.poses,
        absolute=layout.absolute,
        proprio_columns=None if proprio_columns is None else tuple(proprio_columns),
        lag=lag,
        classes=_by_dimension(layout, "discrete", counts, 0) if counts else (),
    )
    raw = _labelled_steps(draft, dataset, segments, provenance)
    if not isinstance(discrete, Mapping):
        draft = replace(draft, classes=tuple(int(raw[:, d].max()) + 1 if k else 0 for d, k in enumerate(draft.classes)))
    kinds = _kinds(draft, layout, normalise)
    mean, std = _statistics(raw, kinds, quantiles)
    if isinstance(bounds, str):
        bounds = _bounds(raw, kinds, quantiles if bounds == "quantiles" else None, ball=ball)
    return replace(draft, mean=mean, std=std, bounds=bounds, normalise=kinds)


def _chosen(dataset: VideoDataset, source: Source, columns: Sequence[int] | None) -> list[str]:
    """Names of the picked columns of the source."""
    part = missing(dataset, source)
    if part is not None:
        raise DataError(f"{dataset.name}: holds no {part}, which the action codec's source {source!r} needs")
    names = (dataset.proprio_names if source == "proprio_difference" else dataset.action_names) or ()
    chosen = range(len(names)) if columns is None else columns
    if not chosen or any(not 0 <= k < len(names) for k in chosen):
        raise DataError(
            f"{dataset.name}: columns {tuple(chosen)} of the codec's source {source!r}, expected 0 to {len(names) - 1}"
        )
    return [names[k] for k in chosen]


def _kinds(codec: ActionCodec, layout: Displacement, normalise: Scale | Mapping[int, Scale]) -> tuple[Normalise, ...]:
    """How each dimension of a raw action is normalised."""
    if isinstance(normalise, str):
        scales: tuple[Normalise, ...] = (normalise,) * layout.size
    else:
        scales = _by_dimension(layout, "normalise", normalise, "zscore")
    for scale in scales:
        if scale not in ("zscore", "quantile"):
            raise DataError(f"action codec: normalise {scale!r}, expected 'zscore' or 'quantile'")
    return tuple("discrete" if k else s for k, s in zip(codec.scaling.classes, scales, strict=True))


def _by_dimension(layout: Displacement, name: str, given: Mapping[int, T], default: T) -> tuple[T, ...]:
    """What is given by picked column, for every dimension of a raw action."""
    if any(not 0 <= k < layout.width for k in given):
        raise DataError(
            f"action codec: {name} of columns {sorted(given)}, expected picked ones, 0 to {layout.width - 1}"
        )
    column_at, pose_at = layout.places
    out = [default] * layout.size
    for k, value in given.items():
        places = [column_at[k]] if k in column_at else []
        for pose, at in zip(layout.poses, pose_at, strict=True):
            places += at if k in pose.rotation else []
        for place in places:
            out[place] = value
    return tuple(out)


def _labelled_steps(
    codec: ActionCodec, dataset: VideoDataset, segments: Sequence[Segment], provenance: Collection[Provenance]
) -> Float32[np.ndarray, "n a"]:
    """Raw actions of the known steps inside the segments whose provenance is one of those."""
    found, others = [np.zeros((0, len(codec.names)), np.float32)], 0
    by_episode: dict[int, list[Segment]] = {}
    for segment in segments:
        by_episode.setdefault(segment.episode, []).append(segment)
    for number, parts in by_episode.items():
        episode = dataset.episode(number)
        raw = codec.raw_actions(episode)
        if raw is None:
            continue
        inside = np.zeros(len(raw), dtype=bool)
        for part in parts:
            inside[part.start : part.stop - 1] = True
        inside &= codec.step_mask(episode)
        counted = np.isin(codec.step_origins(episode), [int(p) for p in provenance])
        others += int((inside & ~counted).sum())
        found.append(raw[inside & counted])
    steps = np.concatenate(found)
    if len(steps) == 0:
        wanted = " or ".join(p.name.lower() for p in sorted(provenance))
        more = f" that is {wanted} (found {others} of another provenance)" if others else ""
        raise DataError(
            f"{dataset.name}: no labelled step in {len(segments)} training segments{more}, expected at least 1"
        )
    return steps


def _statistics(
    raw: Float32[np.ndarray, "n a"], kinds: Sequence[str], quantiles: tuple[float, float]
) -> tuple[Float32[np.ndarray, "a"], Float32[np.ndarray, "a"]]:
    """Centre and scale of every dimension; 0 and 1 of a discrete one."""
    values = raw.astype(np.float64)
    mean, std, constant = values.mean(0), values.std(0), raw.min(0) == raw.max(0)
    for d, kind in enumerate(kinds):
        if kind == "quantile":
            low, high = np.quantile(values[:, d], quantiles)
            if low == high:
                low, high = values[:, d].min(), values[:, d].max()
            mean[d], std[d] = (low + high) / 2, (high - low) / 2
        elif kind == "discrete":
            mean[d], std[d] = 0.0, 1.0
    return mean.astype(np.float32), np.where(constant, 1.0, std).astype(np.float32)


def _bounds(
    raw: Float32[np.ndarray, "n a"], kinds: Sequence[str], quantiles: tuple[float, float] | None, *, ball: bool
) -> ActionBounds:
    """The range of the steps, or of their quantiles; classes keep their range."""
    discrete = np.array([kind == "discrete" for kind in kinds])
    if ball:
        if discrete.all():
            raise DataError(
                "action codec: a ball of discrete actions, expected a dimension that is not (data.action.ball)"
            )
        if quantiles is None:
            return ActionBounds.of_support(raw[:, ~discrete], ball=True)
        return ActionBounds("ball", radius=float(np.quantile(np.linalg.norm(raw[:, ~discrete], axis=-1), quantiles[1])))
    support = ActionBounds.of_support(raw, ball=False)
    if quantiles is None or support.low is None or support.high is None:
        return support
    low, high = (np.quantile(raw.astype(np.float64), q, axis=0) for q in quantiles)
    return ActionBounds(
        "box",
        low=tuple(np.where(discrete, support.low, low).tolist()),
        high=tuple(np.where(discrete, support.high, high).tolist()),
    )
