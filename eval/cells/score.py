"""What every cell is asked, the same way: tasks solved, the action between two latents, where the agent is."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from jepa_actions.envs import Distractors
from jepa_actions.evaluation import Control, PlanningProtocol, evaluate_planning, load_protocol
from jepa_actions.evaluation.heads import fit_head
from jepa_actions.evaluation.inverse import predict, r2
from jepa_actions.evaluation.latents import Encoded, encode_clips
from jepa_actions.evaluation.probe import LinearProbe
from jepa_actions.models import InverseHead, WorldModel
from jepa_actions.training import DataConfig, LabelsConfig, OpenData, open_data

TRAIN_CLIPS, TEST_CLIPS = 4000, 2000


def in_room(name: str, distractors: Distractors | None, *, tuning: bool = False) -> PlanningProtocol:
    """A protocol in the room a model is asked about; for tuning, other tasks, on training layouts."""
    protocol = replace(load_protocol(name), distractors=distractors)
    return replace(protocol, layouts="train", seed_base=1) if tuning else protocol


def plan_scores(
    model: WorldModel, protocols: Iterable[PlanningProtocol], control: Control, tasks: int
) -> dict[str, Any]:
    """Success on each protocol's first tasks, and which of them were solved, as a row of 0 and 1."""
    found: dict[str, Any] = {}
    for protocol in protocols:
        report = evaluate_planning(
            model, protocol, control=control, episodes=tasks, history=model.history, oracle=False
        )
        short = protocol.name.rpartition("/")[2]
        found[short] = report["metrics"]["success_rate"]
        found[f"{short}_solved"] = "".join("1" if row["success"] else "0" for row in report["rows"])
        found[f"{short}_hash"] = protocol.hash
    return found


def open_all(config: DataConfig, image_size: tuple[int, int]) -> OpenData:
    """A recipe's data with every label, however few its training was shown: what is asked of latents is the same."""
    return open_data(replace(config, label=LabelsConfig()), image_size)


def latent_scores(model: WorldModel, data: OpenData, *, own_head: bool, seed: int = 0) -> dict[str, float]:
    """R2 of a block's mean action from two latents, by a fresh head on the frozen encoder and (`own_head`) by the
    model's; error of a linear probe for the position, px. Fitted on training layouts, held-out ones are scored."""
    train = encode_clips(model, data.dataset, data.train, frames=2, limit=TRAIN_CLIPS, seed=seed)
    test = encode_clips(model, data.heldout_dataset, data.heldout, frames=2, limit=TEST_CLIPS, seed=seed)
    assert model.codec is not None
    fresh = fit_head(
        model.config.inverse,
        model.codec,
        train.z[:, 0],
        train.z[:, 1],
        train.actions[:, 0],
        train.known[:, 0],
        seed=seed,
        grid=model.grid,
        cameras=len(model.config.cameras),
    )
    assert train.positions is not None
    assert test.positions is not None
    probe = LinearProbe(train.z[:, 0], train.positions[:, 0])
    error = (probe(test.z[:, 0]) - test.positions[:, 0]).square().mean().sqrt()
    found = {"inverse_r2": _action_r2(model, fresh, test), "probe_px": float(error)}
    if own_head:
        found["own_inverse_r2"] = own_r2(model, test)
    return found


def own_r2(model: WorldModel, test: Encoded) -> float:
    """R2 of the model's own inverse head."""
    assert model.inverse is not None
    return _action_r2(model, model.inverse, test)


def heldout_r2(model: WorldModel, config: DataConfig, image_size: tuple[int, int], seed: int = 0) -> float:
    """R2 of the model's own inverse head on held-out behaviour in a room that it may not have been trained in."""
    few = replace(config, env=replace(config.env, episodes=1))
    data = open_all(few, image_size)
    return own_r2(model, encode_clips(model, data.heldout_dataset, data.heldout, frames=2, limit=TEST_CLIPS, seed=seed))


def _action_r2(model: WorldModel, head: InverseHead, test: Encoded) -> float:
    assert model.codec is not None
    known = test.known[:, 0]
    actual = model.codec.decode(test.actions[:, 0]).double().numpy()[known.numpy()]
    with torch.no_grad():
        predicted = predict(model, head, test.z[known, 0], test.z[known, 1])
    return float(np.mean(r2(actual.mean(1), predicted.mean(1))))
