"""Inverse dynamics on held-out recordings: R2 per action dimension, beside what less than a pair of frames can tell."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import DataError
from jepa_actions.evaluation.heads import FitBudget, fit_head
from jepa_actions.evaluation.latents import Encoded, encode_clips
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import block_bootstrap
from jepa_actions.models import InverseHead, WorldModel
from jepa_actions.training import OpenData

APART = ("gripper",)  # dimensions reported, but not part of the mean: they are switches, not motion


@torch.no_grad()
def predict(
    model: WorldModel, head: InverseHead, before: Float[Tensor, "b n d"], after: Float[Tensor, "b n d"]
) -> Float[np.ndarray, "b block r"]:
    """The head's mean action in raw units; of a discrete dimension the likeliest class."""
    assert model.codec is not None
    parts = []
    for some, later in zip(before.split(512), after.split(512), strict=True):
        mean = head(some, later, torch.ones(len(some), dtype=torch.int64)).mean
        parts.append(model.codec.decode(mean))
    return torch.cat(parts).double().numpy()


def r2(actual: Float[np.ndarray, "b r"], predicted: Float[np.ndarray, "b r"]) -> Float[np.ndarray, "r"]:
    """1 - squared error over variance, per raw dimension, pooled over all rows."""
    variance = ((actual - actual.mean(0)) ** 2).sum(0)
    score: np.ndarray = 1.0 - ((actual - predicted) ** 2).sum(0) / np.maximum(variance, 1e-12)
    return score


def evaluate_inverse(
    model: WorldModel,
    data: OpenData,
    *,
    train_limit: int = 5000,
    limit: int = 3000,
    seed: int = 0,
    block_rows: int = 10,
    budget: FitBudget | None = None,
) -> dict[str, Any]:
    """R2 of the block's mean action, and of discrete dimensions the accuracy, from two frames of held-out stretches.

    Rows are clips of three states (before, now, next): the action is the one from now to next. Floors: predicting the
    mean, the episode's own training mean, the model's head on shuffled pairs, and fresh heads of the same form that
    see now alone, next alone, or before and now (`past`: what a driver's habit tells). `pair_refit` is the same fresh
    head on now and next, the fair partner of the other fresh heads. For TwoRoom, `true_state` sees the true positions
    and the walls: the most that any pair can tell.

    Returns:
        a report for JSON; `metrics.r2_mean` is over raw dimensions except grippers, `metrics.r2` per dimension. With
        discrete dimensions, `metrics.accuracy` per such dimension and their mean, `metrics.accuracy_mean`; `mean` as a
        floor is then the commonest class.
        `ci95` holds block-bootstrap intervals (`block_rows` neighbouring rows of an episode are one block), also of
        the margin over every floor.

    Raises:
        DataError: if the model has no inverse head, or nothing is held out.
    """
    began = time.perf_counter()
    head, codec = model.inverse, model.codec
    if head is None or codec is None:
        raise DataError(f"{data.dataset.name}: this model has no inverse head: it was trained without actions")
    if not data.heldout:
        raise DataError(f"{data.heldout_dataset.name}: nothing is held out (data.split), so nothing can be evaluated")
    train = encode_clips(model, data.dataset, data.train, frames=3, limit=train_limit, seed=seed)
    test = encode_clips(model, data.heldout_dataset, data.heldout, frames=3, limit=limit, seed=seed)
    known = test.known[:, 1].numpy()
    actual = codec.decode(test.actions[:, 1]).double().numpy()[known]
    before, now, after = (test.z[torch.from_numpy(known), i] for i in range(3))

    shuffle = torch.from_numpy(np.random.default_rng(seed).permutation(len(now)))
    predictions = {
        "model": predict(model, head, now, after),
        "mean": np.repeat(_typical(model, _raw(model, train))[None], len(actual), 0),
        "episode_mean": _episode_means(model, train, test.episode[known], same=data.heldout_dataset is data.dataset),
        "shuffled_pairs": predict(model, head, now, after[shuffle]),
    }
    views = {"z_now": (1, 1), "z_next": (2, 2), "past": (0, 1), "pair_refit": (1, 2)}
    states = (before, now, after)
    for name, (one, two) in views.items():
        fresh = _fit(model, train, train.z[:, one], train.z[:, two], budget, seed, single=one == two)
        predictions[name] = predict(model, fresh, states[one], states[two])
    if train.positions is not None and test.positions is not None:
        fresh = _fit(model, train, _truth(train, 1), _truth(train, 2), budget, seed, truth=True)
        rows = torch.from_numpy(known)
        predictions["true_state"] = predict(model, fresh, _truth(test, 1)[rows], _truth(test, 2)[rows])

    names = list(codec.names)
    blocks = _blocks(test.episode[known], test.frame[known, 1], block_rows * codec.block)
    measure = _Measure(names, codec.scaling.classes)
    scores = {name: measure.scores(actual, predicted) for name, predicted in predictions.items()}
    floors = [name for name in scores if name not in ("model", "pair_refit", "true_state")]
    return {
        "metrics": {**scores["model"], "rows": len(actual)},
        "floors": {name: scores[name] for name in floors},
        "references": {name: scores[name] for name in ("pair_refit", "true_state") if name in scores},
        "ci95": _intervals(actual, predictions, floors, measure, blocks, seed),
        "episodes": len(np.unique(test.episode)),
        "seeds": 1,
        "seconds_total": time.perf_counter() - began,
        "data": data.heldout_dataset.name,
        "hardware": hardware(),
        "commit": commit(),
    }


class _Measure:
    """R2 of the block's mean for continuous dimensions, accuracy for discrete ones; `headline` names the first mean."""

    def __init__(self, names: list[str], classes: Sequence[int]) -> None:
        self.discrete = {name: i for i, name in enumerate(names) if classes[i]}
        self.continuous = {name: i for i, name in enumerate(names) if not classes[i]}
        wanted = {name: i for name, i in self.continuous.items() if name not in APART}
        self.columns = list((wanted or self.continuous).values())
        self.headline = "r2_mean" if self.continuous else "accuracy_mean"

    def scores(self, actual: Any, predicted: Any) -> dict[str, Any]:
        """Every figure of one prediction."""
        found: dict[str, Any] = {}
        if self.continuous:
            values = r2(actual.mean(1), predicted.mean(1))
            found["r2_mean"] = float(values[self.columns].mean())
            found["r2"] = {name: float(values[i]) for name, i in self.continuous.items()}
        if self.discrete:
            right = (actual == predicted).mean((0, 1))
            found["accuracy_mean"] = float(right[list(self.discrete.values())].mean())
            found["accuracy"] = {name: float(right[i]) for name, i in self.discrete.items()}
        return found


def _intervals(
    actual: Any, predictions: dict[str, Any], floors: list[str], measure: _Measure, blocks: Any, seed: int
) -> dict[str, Any]:
    def score(name: str, rows: Any) -> dict[str, Any]:
        return measure.scores(actual[rows], predictions[name][rows])

    def interval(statistic: Any) -> list[float]:
        found = block_bootstrap(statistic, blocks, seed=seed, resamples=1000)
        return [found.low, found.high]

    head = measure.headline
    report: dict[str, Any] = {head: interval(lambda rows: score("model", rows)[head])}
    for kind, names in (("r2", measure.continuous), ("accuracy", measure.discrete)):
        if names:
            report[kind] = {name: interval(lambda rows, k=kind, n=name: score("model", rows)[k][n]) for name in names}
    report["margin_over"] = {
        floor: interval(lambda rows, f=floor: score("model", rows)[head] - score(f, rows)[head]) for floor in floors
    }
    report["refit_margin_over_past"] = {
        name: interval(lambda rows, k=kind, n=name: score("pair_refit", rows)[k][n] - score("past", rows)[k][n])
        for kind, names in (("r2", measure.continuous), ("accuracy", measure.discrete))
        for name in names
    }
    return report


def _fit(
    model: WorldModel,
    train: Encoded,
    one: Tensor,
    two: Tensor,
    budget: FitBudget | None,
    seed: int,
    *,
    truth: bool = False,
    single: bool = False,
) -> InverseHead:
    assert model.codec is not None
    config = model.config.inverse
    if single:  # a head that answers "no motion" to two equal states would be no floor at all
        config = replace(config, motion=replace(config.motion, antisymmetric=False))
    if truth:
        config = type(config)(width=config.width, distribution=config.distribution, bins=config.bins)
    return fit_head(
        config,
        model.codec,
        one,
        two,
        train.actions[:, 1],
        train.known[:, 1],
        budget=budget,
        seed=seed,
        grid=model.grid,
        cameras=len(model.config.cameras),
    )


def _truth(encoded: Encoded, step: int) -> Float[Tensor, "c 1 4"]:
    """Position and layout, scaled to about [-1, 1], as one latent token."""
    assert encoded.positions is not None
    assert encoded.layout is not None
    return (torch.cat([encoded.positions[:, step], encoded.layout], dim=-1)[:, None] - 32.0) / 16.0


def _raw(model: WorldModel, encoded: Encoded) -> Float[np.ndarray, "c block r"]:
    assert model.codec is not None
    raw: np.ndarray = model.codec.decode(encoded.actions[:, 1]).double().numpy()
    rows: np.ndarray = raw[encoded.known[:, 1].numpy()]
    return rows


def _typical(model: WorldModel, raw: Float[np.ndarray, "c block r"]) -> Float[np.ndarray, "block r"]:
    """The mean action over rows and block; of a discrete dimension the commonest class."""
    assert model.codec is not None
    typical = raw.mean((0, 1))
    for i, count in enumerate(model.codec.scaling.classes):
        if count:
            typical[i] = np.bincount(raw[..., i].astype(np.int64).ravel(), minlength=count).argmax()
    return np.broadcast_to(typical, raw.shape[1:]).copy()


def _episode_means(
    model: WorldModel, train: Encoded, episodes: np.ndarray, *, same: bool
) -> Float[np.ndarray, "b block r"]:
    """The typical action of the training part of each row's episode; the overall one where it has none.

    Without `same` the held-out episodes are another data set's: equal numbers are different episodes.
    """
    raw = _raw(model, train)
    owner = train.episode[train.known[:, 1].numpy()]
    means = {int(e): _typical(model, raw[owner == e]) for e in np.unique(owner)} if same else {}
    overall = _typical(model, raw)
    return np.stack([means.get(int(e), overall) for e in episodes])


def _blocks(episodes: np.ndarray, frames: np.ndarray, length: int) -> np.ndarray:
    """One number per stretch of `length` raw frames of an episode."""
    return np.unique(np.stack([episodes, frames // length]), axis=1, return_inverse=True)[1].reshape(-1)
