"""Masked prediction on held-out clips, by mask kind, beside what the visible features alone would answer."""

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from jepa_actions.data import ClipIndex, ClipLoader
from jepa_actions.errors import DataError
from jepa_actions.evaluation.report import commit, hardware
from jepa_actions.evaluation.statistics import block_bootstrap
from jepa_actions.models import MASK_KINDS, Mask, WorldModel, nearest_visible, sample_mask, take_tokens
from jepa_actions.training import DataConfig, OpenData, TwoRoomDataset, effective_rank

AGENT_REACH = 2.5  # px beyond a patch's edge within which the agent's dot still marks the patch


@torch.no_grad()
def evaluate_masked(
    model: WorldModel, data: OpenData, config: DataConfig, *, limit: int = 240, batch: int = 8, seed: int = 0
) -> dict[str, Any]:
    """L1 error of predicted features at hidden tokens of held-out clips; targets are the model's own layer-normed
    features of the whole clip.

    Floors: the mean feature over the held-out clips; for the future mask the last visible feature at that place; for
    tube masks the nearest visible feature in space at that time. The floors' features too are taken from the encoding
    of the whole clip, so they know more than the prediction does. A shrunken target would beat any floor, so the
    effective rank of the targets is part of the report. TwoRoom is also reported for patches with the agent alone.

    Returns:
        a report for JSON; `metrics.error` by kind, `floors.*` in the same form, `ci95.margin_over_*` bootstrapped
        over clips.

    Raises:
        DataError: if nothing is held out.
    """
    began = time.perf_counter()
    if not data.heldout:
        raise DataError(f"{data.heldout_dataset.name}: nothing is held out (data.split), so nothing can be evaluated")
    index = ClipIndex(data.heldout, frames=config.frames, block=config.block)
    ids = np.arange(len(index))
    if limit < len(ids):
        ids = np.sort(np.random.default_rng(seed).choice(ids, limit, replace=False))
    loader = ClipLoader(data.heldout_dataset, index, None, batch_size=1, seed=0)
    generator = torch.Generator().manual_seed(seed)
    steps = config.frames // model.config.encoder.tubelet
    grid = (steps, *model.config.encoder.grid)
    rows: list[_Rows] = []
    tokens = []
    for part in np.array_split(ids, max(1, len(ids) // batch)):
        clips = loader.clips(part)
        agent = _agent_patches(data, clips.episode.numpy(), clips.frame.numpy(), model)
        for images in model.images(clips.frames).values():
            images = images[:, : steps * model.config.encoder.tubelet]
            features = _normed(model.encoder(images))
            tokens.append(features)
            for kind in MASK_KINDS:
                mask = sample_mask(kind, len(images), grid, generator)
                rows.append(_compare(model, images, features, mask, grid, agent, clips.episode.numpy()))
    every = torch.cat(tokens)
    mean = every.mean((0, 1))
    report: dict[str, Any] = {
        "metrics": {"error": {}},
        "floors": {"mean_feature": {"error": {}}, "nearest_visible": {"error": {}}},
        "ci95": {},
    }
    for kind in MASK_KINDS:
        _summarise(report, kind, [row for row in rows if row.kind == kind], mean, seed)
    sample = every.flatten(0, 1)
    picked = torch.randperm(len(sample), generator=generator)[:4096]
    report["metrics"]["effective_rank_of_targets"] = effective_rank(sample[picked])
    report["metrics"]["feature_width"] = sample.shape[1]
    return report | {
        "episodes": len(np.unique(index.clip(ids)[0])),
        "clips": len(ids),
        "seeds": 1,
        "seconds_total": time.perf_counter() - began,
        "data": data.heldout_dataset.name,
        "hardware": hardware(),
        "commit": commit(),
    }


class _Rows:
    """One batch under one mask: per clip and hidden token, errors of prediction and of the nearest visible feature."""

    def __init__(
        self, kind: str, model: Tensor, nearest: Tensor, target: Tensor, agent: Tensor | None, owner: Any
    ) -> None:
        self.kind, self.model, self.nearest, self.target, self.agent, self.owner = (
            kind,
            model,
            nearest,
            target,
            agent,
            owner,
        )


def _compare(
    model: WorldModel,
    images: Float[Tensor, "b t c h w"],
    features: Float[Tensor, "b n d"],
    mask: Mask,
    grid: tuple[int, int, int],
    agent: Bool[Tensor, "b n"] | None,
    owner: Int[np.ndarray, "b"],
) -> _Rows:
    target = take_tokens(features, mask.target)
    predicted = model.predictor(model.encoder(images, mask.visible), mask.visible, mask.target, mask.kind)
    nearest = take_tokens(
        features, mask.visible.gather(1, nearest_visible(mask.visible, mask.target, mask.kind, grid[1:]))
    )
    return _Rows(
        mask.kind,
        (predicted - target).abs().mean(-1),
        (nearest - target).abs().mean(-1),
        target,
        None if agent is None else agent.gather(1, mask.target),
        owner,
    )


def _agent_patches(data: OpenData, episodes: Any, frames: Any, model: WorldModel) -> Bool[Tensor, "b n"] | None:
    """Tokens that show the agent's dot, where the simulator knows; None for recordings and for tubelets of frames."""
    if not isinstance(data.heldout_dataset, TwoRoomDataset) or model.config.encoder.tubelet != 1:
        return None
    positions = data.heldout_dataset.states(episodes, frames)[0]  # (b, t, 2) x, y
    patch, (rows, cols) = model.config.encoder.patch, model.config.encoder.grid
    centre_x = (torch.arange(cols) + 0.5) * patch
    centre_y = (torch.arange(rows) + 0.5) * patch
    reach = patch / 2 + AGENT_REACH
    near_x = (positions[..., 0, None] - centre_x).abs() < reach
    near_y = (positions[..., 1, None] - centre_y).abs() < reach
    return (near_y[..., :, None] & near_x[..., None, :]).flatten(1)


def _summarise(report: dict[str, Any], kind: str, rows: list[_Rows], mean: Tensor, seed: int) -> None:
    errors = {
        "model": [row.model for row in rows],
        "nearest_visible": [row.nearest for row in rows],
        "mean_feature": [(row.target - mean).abs().mean(-1) for row in rows],
    }
    per_clip = {name: np.concatenate([part.mean(1).numpy() for part in parts]) for name, parts in errors.items()}
    _section(report, "model")["error"][kind] = float(per_clip["model"].mean())
    for floor in ("nearest_visible", "mean_feature"):
        _section(report, floor)["error"][kind] = float(per_clip[floor].mean())
        found = block_bootstrap(per_clip[floor] - per_clip["model"], np.arange(len(per_clip["model"])), seed=seed)
        report["ci95"].setdefault(f"margin_over_{floor}", {})[kind] = [found.low, found.high]
    if rows[0].agent is None:
        return
    for name, parts in errors.items():
        section = _section(report, name)
        for label, wanted in (("agent", True), ("rest", False)):
            values = [part[row.agent == wanted] for part, row in zip(parts, rows, strict=True) if row.agent is not None]
            section.setdefault(f"error_{label}", {})[kind] = float(torch.cat(values).mean())


def _section(report: dict[str, Any], name: str) -> dict[str, Any]:
    section: dict[str, Any] = report["metrics"] if name == "model" else report["floors"][name]
    return section


def _normed(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    return F.layer_norm(tokens, tokens.shape[-1:])
