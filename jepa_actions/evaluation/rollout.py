"""How far imagination holds: open-loop error by horizon, beside copying the last latent and shuffled actions."""

import time
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import DataError
from jepa_actions.evaluation.latents import Encoded, encode_clips
from jepa_actions.evaluation.probe import LinearProbe, fit_probe
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.models import WorldModel
from jepa_actions.training import OpenData


@torch.no_grad()
def evaluate_rollout(
    model: WorldModel, data: OpenData, *, horizon: int = 8, limit: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Root mean squared error after 1 to `horizon` model steps, on held-out stretches.

    In latent units always; in px too where the data set has true positions, by a linear probe fitted on training
    episodes: distance of the probed imagined state from the true position. Floors: the present latent copied (a slow
    latent alone makes this one strong), and the same rollout under another clip's actions.

    Returns:
        a report for JSON: `metrics.latent_error` and `metrics.px_error` by horizon, the same under each floor.

    Raises:
        DataError: if the model has no dynamics or nothing is held out.
    """
    began = time.perf_counter()
    if model.dynamics is None or not data.heldout:
        raise DataError(f"{data.dataset.name}: a rollout needs a model with dynamics and held-out stretches")
    past = model.dynamics.config.history or 1
    test = encode_clips(model, data.heldout_dataset, data.heldout, frames=past + horizon, limit=limit, seed=seed)
    whole = test.known.all(1)
    shuffle = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    imagined = {
        "model": _imagine(model, test, test.actions),
        "shuffled_actions": _imagine(
            model, test, torch.cat([test.actions[:, : past - 1], test.actions[shuffle, past - 1 :]], 1)
        ),
        "copy_last": test.z[:, past - 1 : past].expand(-1, horizon, -1, -1),
    }
    probe = fit_probe(model, data, seed=seed) if test.positions is not None else None
    reports = {name: _errors(z[whole], test, past, whole, probe) for name, z in imagined.items()}
    return {
        "metrics": reports["model"],
        "floors": {name: report for name, report in reports.items() if name != "model"},
        "horizon": horizon,
        "episodes": int(whole.sum()),
        "seeds": 1,
        "seconds_total": time.perf_counter() - began,
        "data": data.heldout_dataset.name,
        "hardware": hardware(),
        "commit": commit(),
    }


def _imagine(model: WorldModel, test: Encoded, actions: Float[Tensor, "c t a"]) -> Float[Tensor, "c h n d"]:
    assert model.dynamics is not None
    past = model.dynamics.config.history or 1
    parts = []
    for rows in torch.arange(len(test)).split(128):
        before, ahead = actions[rows, : past - 1], actions[rows, past - 1 :]
        known: tuple[Tensor, ...] = ()
        imagined: tuple[Tensor, ...] = ()
        if (
            test.proprio is not None and model.dynamics.config.proprio
        ):  # measured up to the present, integrated from there
            known = (test.proprio[rows, : past - 1],)
            imagined = (model.proprio_path(test.proprio[rows, past - 1], ahead),)
        cache = model.dynamics.start(test.z[rows, : past - 1], before, *known)
        parts.append(model.dynamics.rollout(test.z[rows, past - 1], ahead, cache, *imagined))
    return torch.cat(parts)


def _errors(z: Tensor, test: Encoded, past: int, whole: Tensor, probe: LinearProbe | None) -> dict[str, Any]:
    error = (z - test.z[whole, past:]).square().mean((0, 2, 3)).sqrt()
    report: dict[str, Any] = {"latent_error": _by_horizon(error)}
    if probe is not None:
        assert test.positions is not None
        distance = (probe(z) - test.positions[whole, past:].double()).square().sum(-1).mean(0).sqrt()
        report["px_error"] = _by_horizon(distance)
    return report


def _by_horizon(values: Float[Tensor, "h"]) -> dict[str, float]:
    return {str(step): float(value) for step, value in enumerate(values, start=1)}
