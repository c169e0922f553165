"""Linear probe: is the agent's true position a linear function of the latent state, on layouts never trained on?"""

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import DataError
from jepa_actions.evaluation.latents import encode_clips
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.models import WorldModel
from jepa_actions.training import OpenData


class LinearProbe:
    """Ridge regression from flattened latents to positions in px."""

    def __init__(self, z: Float[Tensor, "b n d"], positions: Float[Tensor, "b 2"], ridge: float = 1e-4) -> None:
        x = z.flatten(1).double()
        self.mean, self.offset = x.mean(0), positions.double().mean(0)
        x, y = x - self.mean, positions.double() - self.offset
        scale = (ridge * len(x) * x.var()).clamp_min(1e-9)  # a collapsed encoder gets the mean, not an error
        if x.shape[1] > len(x):  # more numbers than frames, as in all patches: the same solution, in the frames' space
            self.weight = x.T @ torch.linalg.solve(x @ x.T + scale * torch.eye(len(x), dtype=x.dtype), y)
        else:
            self.weight = torch.linalg.solve(x.T @ x + scale * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)

    def __call__(self, z: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b 2"]:
        out: Tensor = (z.flatten(-2).double() - self.mean) @ self.weight + self.offset
        return out


def fit_probe(model: WorldModel, data: OpenData, *, limit: int = 4000, seed: int = 0) -> LinearProbe:
    """A probe fitted on training episodes. Raises DataError where the data set has no true positions."""
    train = encode_clips(model, data.dataset, data.train, frames=1, limit=limit, seed=seed)
    if train.positions is None:
        raise DataError(f"{data.dataset.name}: a position probe needs a simulator's true positions (env:two_room)")
    return LinearProbe(train.z[:, 0], train.positions[:, 0])


def evaluate_probe(
    model: WorldModel, data: OpenData, *, untrained: WorldModel | None = None, limit: int = 3000, seed: int = 0
) -> dict[str, Any]:
    """Root mean squared error per axis of the probe on held-out episodes, in px.

    Floors: the mean position, and the same probe on an untrained encoder of the same form.

    Returns:
        a report for JSON: `metrics.rmse_px` per axis and `metrics.rmse_px_mean`, their root mean square.
    """
    began = time.perf_counter()
    scores = {"model": _errors(model, data, limit, seed)}
    if untrained is not None:
        scores["untrained"] = _errors(untrained, data, limit, seed)
    actual = encode_clips(model, data.heldout_dataset, data.heldout, frames=1, limit=limit, seed=seed).positions
    assert actual is not None
    scores["mean"] = actual[:, 0].double().std(0, correction=0).numpy()
    reports = {name: _report(errors) for name, errors in scores.items()}
    return {
        "metrics": reports["model"],
        "floors": {name: report for name, report in reports.items() if name != "model"},
        "episodes": len(data.heldout),
        "seeds": 1,
        "seconds_total": time.perf_counter() - began,
        "data": data.heldout_dataset.name,
        "hardware": hardware(),
        "commit": commit(),
    }


def _errors(model: WorldModel, data: OpenData, limit: int, seed: int) -> Float[np.ndarray, "2"]:
    probe = fit_probe(model, data, seed=seed)
    test = encode_clips(model, data.heldout_dataset, data.heldout, frames=1, limit=limit, seed=seed)
    assert test.positions is not None
    difference = probe(test.z[:, 0]) - test.positions[:, 0]
    errors: np.ndarray = difference.square().mean(0).sqrt().numpy()
    return errors


def _report(errors: Float[np.ndarray, "2"]) -> dict[str, Any]:
    return {
        "rmse_px": {"x": float(errors[0]), "y": float(errors[1])},
        "rmse_px_mean": float(np.sqrt((errors**2).mean())),
    }
