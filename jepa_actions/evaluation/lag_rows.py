"""What a lag scan looks at: which actions, beside the motion and the appearance of the frames around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch.nn import functional as F

from jepa_actions.data import Episode, Provenance, Segment, VideoDataset, wrap_angle
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.flow import grey, motion_features

Source = Literal["action", "action_difference", "proprio_difference"]
ANGLES = ("roll", "pitch", "yaw")  # a dimension whose name ends so is an angle in radians
PIECE = 500  # frames, of what is read of a long recording where not all of it is
FEWEST = 8  # actions that a stretch must have to be worth a fit
CHUNK = 128  # frames read at a time, fewer where they are large
CHUNK_BYTES = 64e6
PICTURE = (6, 8)  # cells of the picture that the appearance probe sees


@dataclass(frozen=True)
class Rows:
    """Actions to be explained, and features of every frame pair and frame that was read.

    Row i is the action `target[i]` of frame `frame[i]` of stretch `stretch[i]`; the features of the pair (or frame)
    `lag` later are number `place[i] + lag`.
    """

    target: Float[np.ndarray, "n a"]
    stretch: Int64[np.ndarray, "n"]
    frame: Int64[np.ndarray, "n"]
    place: Int64[np.ndarray, "n"]
    motion: Float[np.ndarray, "p d"]
    picture: Float[np.ndarray, "p e"]
    names: tuple[str, ...]
    stretches: tuple[Segment, ...]
    left_out: int  # episodes too short for the lags, or without a known action


def read_rows(dataset: VideoDataset, source: Source, lags: Sequence[int], *, limit: int, seed: int) -> Rows:
    """Read at most about `limit` frames and pair their actions with what is seen `lags` frames later.

    Every row has all its lags inside its episode, so that all lags are compared on the same actions.

    Raises:
        ConfigError: for an unknown source.
        DataError: where the data set lacks what the source needs, or has too few known actions.
    """
    names = target_names(dataset, source)
    before, after = max(0, -lags[0]), max(0, lags[-1])
    shortest = before + after + 1 + FEWEST
    chosen = stretches(dataset.lengths(), limit=limit, shortest=shortest, seed=seed)
    parts: list[tuple[Segment, np.ndarray, np.ndarray]] = []
    left_out = int((dataset.lengths() < shortest).sum())
    for segment in chosen:
        values, known = targets(dataset.episode(segment.episode), source, names)
        frames = np.arange(segment.start + before, segment.stop - 1 - after)
        frames = frames[known[frames]]
        if len(frames) < FEWEST:
            left_out += 1
            continue
        parts.append((segment, frames, values[frames]))
    found = sum(len(frames) for _, frames, _ in parts)
    if found < 5 * FEWEST:
        raise DataError(
            f"{dataset.name}: {found} known actions ({source}) with frames {lags[0]} to {lags[-1]} around them, "
            f"expected at least {5 * FEWEST}; the longest episode has {dataset.lengths().max()} frames"
        )
    motion, picture, place, base = [], [], [], 0
    for segment, frames, _ in parts:
        flow, seen = read_features(dataset, segment)
        motion.append(np.concatenate([flow, np.zeros_like(flow[:1])]))  # as many as frames: one numbering for both
        picture.append(seen)
        place.append(base + frames - segment.start)
        base += len(segment)
    return Rows(
        target=np.concatenate([values for _, _, values in parts]),
        stretch=np.concatenate([np.full(len(frames), i) for i, (_, frames, _) in enumerate(parts)]),
        frame=np.concatenate([frames for _, frames, _ in parts]),
        place=np.concatenate(place),
        motion=np.concatenate(motion),
        picture=np.concatenate(picture),
        names=names,
        stretches=tuple(segment for segment, _, _ in parts),
        left_out=left_out,
    )


def target_names(dataset: VideoDataset, source: Source) -> tuple[str, ...]:
    """The dimensions that the source has. Raises ConfigError for another source, DataError where it has none."""
    if source not in get_args(Source):
        raise ConfigError(f"source: found {source!r}, expected one of {', '.join(get_args(Source))}")
    names = dataset.proprio_names if source == "proprio_difference" else dataset.action_names
    if names is None:
        lacks = "proprioception" if source == "proprio_difference" else "actions"
        raise DataError(f"{dataset.name}: has no {lacks}, which a lag scan of source {source!r} needs")
    return names


def targets(
    episode: Episode, source: Source, names: Sequence[str]
) -> tuple[Float[np.ndarray, "t-1 a"], Bool[np.ndarray, "t-1"]]:
    """What is to be explained at every step, and where it is known.

    `action`: a_t. `action_difference`: what the command a_t newly asks for, a_t - a_{t-1}. `proprio_difference`:
    s_{t+1} - s_t. Differences of angles (dimensions named roll, pitch, yaw) are wrapped. Inferred actions do not
    count: they were made from the very frames.
    """
    steps = episode.length - 1
    known: Any
    if source == "proprio_difference":
        if episode.proprio is None:
            return np.zeros((steps, len(names))), np.zeros(steps, dtype=bool)
        values = np.diff(episode.proprio.astype(np.float64), axis=0)
        known = np.isfinite(values).all(axis=1)  # a reading that is unknown is not finite
    elif episode.actions is None:
        return np.zeros((steps, len(names))), np.zeros(steps, dtype=bool)
    else:
        values = episode.actions.astype(np.float64)
        known = np.asarray(episode.labelled() & (episode.origins() == Provenance.TRUE))
        bad = np.argwhere(known[:, None] & ~np.isfinite(values))
        if len(bad):
            row, dim = (int(k) for k in bad[0])
            raise DataError(
                f"{episode.dataset}: episode {episode.index}, frame {row}, action {names[dim]}: found "
                f"{values[row, dim]}, expected a finite number"
            )
        if source == "action_difference":
            values = np.diff(values, axis=0, prepend=values[:1])
            known = known & np.concatenate([np.zeros(1, dtype=bool), known])[:-1]
    if source != "action":
        angles = [k for k, name in enumerate(names) if name.lower().endswith(ANGLES)]
        values[:, angles] = wrap_angle(values[:, angles])
    return np.where(known[:, None], values, 0.0), known


def stretches(lengths: Int64[np.ndarray, "e"], *, limit: int, shortest: int, seed: int) -> list[Segment]:
    """Stretches of episodes, `limit` frames in all or a little more: all where that is enough, else pieces of at most
    PIECE frames drawn with `seed`."""
    whole = [Segment(e, 0, int(n)) for e, n in enumerate(lengths) if n >= shortest]
    if sum(len(segment) for segment in whole) <= limit:
        return whole
    size = max(PIECE, shortest)
    pieces = [
        Segment(s.episode, start, min(start + size, s.stop))
        for s in whole
        for start in range(0, len(s), size)
        if min(start + size, s.stop) - start >= shortest
    ]
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(pieces))
    ends = np.cumsum([len(pieces[k]) for k in order])
    taken = order[: int(np.searchsorted(ends, limit)) + 1]
    return [pieces[k] for k in sorted(taken.tolist())]


def read_features(
    dataset: VideoDataset, segment: Segment
) -> tuple[Float[np.ndarray, "t-1 d"], Float[np.ndarray, "t e"]]:
    """Motion of every frame to the next, and a small grey picture of every frame; all cameras side by side."""
    size = sum(3 * height * width for height, width in map(dataset.image_size, dataset.cameras))
    chunk = int(min(max(CHUNK_BYTES // size, 2), CHUNK))
    flows: dict[str, list[torch.Tensor]] = {camera: [] for camera in dataset.cameras}
    pictures: dict[str, list[torch.Tensor]] = {camera: [] for camera in dataset.cameras}
    for start in range(segment.start, segment.stop - 1, chunk):
        numbers = np.arange(start, min(start + chunk + 1, segment.stop))
        clips = dataset.read_clips(np.array([segment.episode]), numbers[None])
        for camera, clip in clips.items():
            images = grey(clip[0])
            flows[camera].append(motion_features(images))
            last = segment.stop - 1 == numbers[-1]
            pictures[camera].append(F.adaptive_avg_pool2d(images if last else images[:-1], PICTURE).flatten(1))
    side_by_side = [
        torch.cat([torch.cat(parts[camera]) for camera in dataset.cameras], dim=1).double().numpy()
        for parts in (flows, pictures)
    ]
    return side_by_side[0], side_by_side[1]
