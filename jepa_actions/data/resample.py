"""Another frame rate, by time and not by index: every new frame is the recorded one nearest to its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.types import Episode, Provenance, VideoDataset, check_clips
from jepa_actions.data.view import DatasetView
from jepa_actions.errors import DataError

Reduction = Literal["mean", "sum", "last", "first"]
CHOICES = (
    "'sum' (displacements), 'mean' (velocities), 'last' or 'first' (absolute commands, discrete actions: no angle or "
    "number is averaged)"
)


@dataclass(frozen=True)
class Plan:
    """The recorded frame behind each new one of an episode, and its time in seconds from the first."""

    frames: Int64[np.ndarray, "k"]
    times: Float64[np.ndarray, "k"]


class Resampled(DatasetView):
    """`dataset` at `fps` frames per second: new frame k of an episode is the recorded frame nearest to k / fps.

    Time is the episode's own (`Episode.times`; without them frame number / rate of the data set), so a variable rate
    becomes an even one. Every new frame is another recorded one, at most half a new step away from its time, so a rate
    above the recording's is refused, and so is a gap in a recording that leaves a new frame without one. A rest at an
    episode's end shorter than one step is left out; an episode shorter than one step keeps its first frame.

    `actions` says what the raw actions between two new frames become: their `sum` (displacements), their `mean` over
    time (velocities), the `last` or the `first` (absolute commands). Sums and means are of the raw numbers: angles
    that wrap are not for them. A step with an unknown raw action is unknown. A sum or mean of true and inferred
    (pseudo) actions counts as inferred; latent actions mixed with others are no quantity, and make the step unknown.
    Rewards are summed; proprio, simulator state and times are those of the chosen frames.

    Args:
        dataset: what is seen through it.
        fps: frames per second, at most the recording's.
        actions: needed where the data set has actions.
        plans: per episode, where they are known already (another data set with the same video).

    Raises:
        DataError: for a rate that is no positive number or above a recording's, times that do not rise, a gap (naming
            episode and time), or a data set with actions without `actions`.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        fps: float,
        *,
        actions: Reduction | None = None,
        plans: Sequence[Plan] | None = None,
    ) -> None:
        super().__init__(dataset)
        if not (np.isfinite(fps) and fps > 0):
            raise DataError(f"{dataset.name}: {fps} frames per second asked for, expected a number above 0")
        if actions is None and dataset.action_names is not None:
            raise DataError(
                f"{dataset.name}: resampled to {fps:g} frames per second without saying what becomes of its actions, "
                f"expected actions = {CHOICES}"
            )
        if actions is not None and actions not in get_args(Reduction):
            raise DataError(f"{dataset.name}: actions {actions!r} to resample by, expected {CHOICES}")
        self._fps, self.actions = float(fps), actions
        self._plans = tuple(plans) if plans is not None else tuple(self._plan(i) for i in range(len(dataset)))
        self._lengths = np.array([len(plan.frames) for plan in self._plans], dtype=np.int64)

    def _plan(self, i: int) -> Plan:
        episode = self.dataset.episode(i)
        place = f"{self.dataset.name}: episode {i}"
        times = episode.times
        if times is None:
            times = np.arange(episode.length) / self.dataset.fps
        return plan_frames(times - times[0], self._fps, place)

    @property
    def fps(self) -> float:
        return self._fps

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode, at the new rate."""
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        """The labels of episode `i`, one action for every new step."""
        raw, plan = self.dataset.episode(i), self._plans[i]
        frames = plan.frames
        actions, mask, provenance = self._steps(raw, frames)
        return replace(
            raw,
            length=len(frames),
            actions=actions,
            action_mask=mask,
            provenance=provenance,
            proprio=None if raw.proprio is None else raw.proprio[frames],
            rewards=None if raw.rewards is None else _added(raw.rewards, frames).astype(np.float32),
            simulator_state=None if raw.simulator_state is None else raw.simulator_state[frames],
            times=plan.times,
        )

    def _steps(
        self, raw: Episode, frames: Int64[np.ndarray, "k"]
    ) -> tuple[
        Float32[np.ndarray, "k-1 a"] | None, Bool[np.ndarray, "k-1"] | None, Provenance | Int64[np.ndarray, "k-1"]
    ]:
        """Actions, which of them are known, and where they come from, of the steps between `frames`."""
        if raw.actions is None or self.actions is None:
            return None, None, raw.provenance if isinstance(raw.provenance, Provenance) else Provenance.TRUE
        labelled, origins = raw.labelled(), raw.origins()
        counts = np.diff(frames)
        known = _added(labelled.astype(np.int64), frames) == counts
        if self.actions in ("first", "last"):
            chosen = frames[:-1] if self.actions == "first" else frames[1:] - 1
            actions, provenance = raw.actions[chosen], origins[chosen]
        else:
            values = np.where(labelled[:, None], raw.actions, 0.0).astype(np.float64)
            if self.actions == "sum":
                total = _added(values, frames)
            else:  # over time: a raw action that lasted twice as long counts twice
                lasted = np.diff(self._raw_times(raw))
                total = _added(values * lasted[:, None], frames) / _added(lasted, frames)[:, None]
            actions = total.astype(np.float32)
            latent = _added((origins == Provenance.LATENT).astype(np.int64), frames)
            known &= (latent == 0) | (latent == counts)
            provenance = _reduced(np.maximum, origins, frames)  # the least certain
        actions = np.where(known[:, None], actions, np.float32(0.0))
        mask = None if raw.action_mask is None and bool(known.all()) else known
        same = isinstance(raw.provenance, Provenance)
        return actions, mask, raw.provenance if same else provenance

    def _raw_times(self, raw: Episode) -> Float64[np.ndarray, "t"]:
        return np.arange(raw.length) / self.dataset.fps if raw.times is None else raw.times

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named new frames of the named episodes, for every camera."""
        check_clips(self._lengths, episodes, frames, self.name)
        rows = [self._plans[e].frames[row] for e, row in zip(episodes, frames, strict=True)]
        return self.dataset.read_clips(episodes, np.stack(rows) if rows else frames)

    def over(self, dataset: VideoDataset) -> VideoDataset:
        """The same frames of another data set with the same video."""
        return Resampled(dataset, self._fps, actions=self.actions, plans=self._plans)

    def facts(self) -> Any:
        """The rate and what becomes of the actions."""
        return {"fps": self._fps, "actions": self.actions}


def plan_frames(times: Float64[np.ndarray, "t"], fps: float, place: str) -> Plan:
    """Which recorded frames, shown at `times` (seconds from the first), make an even rate of `fps`.

    Raises DataError, naming `place` and the time, where times do not rise, the recording is slower than `fps`, or has
    a gap.
    """
    gaps = np.diff(times)
    if not np.isfinite(times).all() or (gaps <= 0).any():
        k = int(np.flatnonzero(~np.isfinite(times))[0] if not np.isfinite(times).all() else np.argmax(gaps <= 0) + 1)
        raise DataError(f"{place}: frame {k} is shown at {times[k]:.4f} s, expected later than the frame before it")
    if len(gaps) == 0:
        return Plan(np.zeros(1, dtype=np.int64), np.zeros(1))
    rate = len(gaps) / float(times[-1])
    # A last frame that is a little early still ends a whole step; a rest of a step does not make one.
    count = int(np.floor((times[-1] + 0.25 * float(np.median(gaps))) * fps)) + 1
    if count > len(times) or fps > 1.02 * rate:  # time stamps are rounded, in short episodes by as much as that
        raise DataError(
            f"{place}: recorded at {rate:.4g} frames per second, {fps:g} asked for, expected at most the recording's: "
            "frames would repeat"
        )
    wanted = np.arange(count) / fps
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    frames = np.where(wanted - times[after - 1] <= times[after] - wanted, after - 1, after).astype(np.int64)
    late = np.abs(times[frames] - wanted) > 0.5 / fps + 1e-9
    late[1:] |= np.diff(frames) == 0
    if late.any():
        k = int(np.argmax(late))
        raise DataError(
            f"{place}: a gap in the recording: no frame of its own for {wanted[k]:.3f} s at {fps:g} frames per second, "
            f"the nearest is frame {int(frames[k])} at {times[frames[k]]:.3f} s"
        )
    return Plan(frames, times[frames])


def _added(values: np.ndarray, frames: Int64[np.ndarray, "k"]) -> np.ndarray:
    """Sums over the raw steps between chosen frames, `(k-1, ...)`."""
    return _reduced(np.add, values, frames)


def _reduced(how: np.ufunc, values: np.ndarray, frames: Int64[np.ndarray, "k"]) -> np.ndarray:
    if len(frames) < 2:
        return values[:0]
    reduced: np.ndarray = how.reduceat(values[: frames[-1]], frames[:-1], axis=0)
    return reduced
