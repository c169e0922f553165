"""Masked prediction on held-out clips, by mask kind, beside what the visible features alone would answer."""

import time
from dataclasses import dataclass
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
from jepa_actions.training import DataConfig, OpenData, WorldDataset, effective_rank

AGENT_REACH = 2.5  # px beyond a patch's edge within which the agent's dot still marks the patch


@torch.no_grad()
def evaluate_masked(
    model: WorldModel, data: OpenData, config: DataConfig, *, limit: int = 240, batch: int = 8, seed: int = 0
) -> dict[str, Any]:
    """L1 error of predicted features at hidden tokens of held-out clips; targets are the model's own layer-normed
    features of the whole clip.

    Floors: the mean feature over the held-out clips; `nearest_visible`, for the future mask the last visible feature at
    that place and for tube masks the nearest visible feature in space at that time, as encoded from the visible tokens
    alone; and `nearest_visible_full_clip`, the same with features encoded from the whole clip, which have looked at
    what is hidden and so know more than any prediction. A shrunken target would beat any floor, so the effective rank
    of the targets is part of the report. TwoRoom is also reported for patches with the agent alone.

    Returns:
        a report for JSON; `metrics.error` by kind, `floors.*` in the same form, `ci95.margin_over_*` bootstrapped
        over stretches of an episode as long as a clip.

    Raises:
        DataError: if nothing is held out.
        ConfigError: for a model whose encoder is a frozen backbone, which has no masked predictor.
    """
    began = time.perf_counter()
    model.masked_parts()
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
        stretch = clips.episode.numpy() * 1_000_000 + clips.frame[:, 0].numpy() // index.span
        agent = _agent_patches(data, clips.episode.numpy(), clips.frame.numpy(), model)
        for images in model.images(clips.frames).values():
            images = images[:, : steps * model.config.encoder.tubelet]
            features = _normed(model.encoder(images))
            tokens.append(features)
            for kind in MASK_KINDS:
                mask = sample_mask(kind, len(images), grid, generator)
                rows.append(_compare(model, images, features, mask, agent, stretch))
    every = torch.cat(tokens)
    mean = every.mean((0, 1))
    report: dict[str, Any] = {"metrics": {}, "floors": {}, "ci95": {}}
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


@dataclass
class _Rows:
    """One batch under one mask: errors (b, m) of the prediction and of each floor at the hidden tokens."""

    kind: str
    errors: dict[str, Float[Tensor, "b m"]]
    target: Float[Tensor, "b m d"]
    agent: Bool[Tensor, "b m"] | None
    stretch: Int[np.ndarray, "b"]  # clips of one stretch of an episode overlap, and are one block of the bootstrap


def _compare(
    model: WorldModel,
    images: Float[Tensor, "b t c h w"],
    features: Float[Tensor, "b n d"],
    mask: Mask,
    agent: Bool[Tensor, "b n"] | None,
    stretch: Int[np.ndarray, "b"],
) -> _Rows:
    target = take_tokens(features, mask.target)
    encoder, predictor = model.masked_parts()
    seen = encoder(images, mask.visible)
    nearest = nearest_visible(mask.visible, mask.target, mask.kind, model.config.encoder.grid)
    answers = {
        "model": predictor(seen, mask.visible, mask.target, mask.kind),
        "nearest_visible": take_tokens(_normed(seen), nearest),
        "nearest_visible_full_clip": take_tokens(features, mask.visible.gather(1, nearest)),
    }
    errors = {name: (answer - target).abs().mean(-1) for name, answer in answers.items()}
    return _Rows(mask.kind, errors, target, None if agent is None else agent.gather(1, mask.target), stretch)


def _agent_patches(data: OpenData, episodes: Any, frames: Any, model: WorldModel) -> Bool[Tensor, "b n"] | None:
    """Tokens that show the agent's dot, where the simulator knows; None for recordings and for tubelets of frames."""
    dataset = data.heldout_dataset
    if not isinstance(dataset, WorldDataset) or dataset.world.name != "two_room" or model.config.encoder.tubelet != 1:
        return None
    positions = dataset.states(episodes, frames)[0]  # (b, t, 2) x, y
    patch, (rows, cols) = model.config.encoder.patch, model.config.encoder.grid
    centre_x = (torch.arange(cols) + 0.5) * patch
    centre_y = (torch.arange(rows) + 0.5) * patch
    reach = patch / 2 + AGENT_REACH
    near_x = (positions[..., 0, None] - centre_x).abs() < reach
    near_y = (positions[..., 1, None] - centre_y).abs() < reach
    return (near_y[..., :, None] & near_x[..., None, :]).flatten(1)


def _summarise(report: dict[str, Any], kind: str, rows: list[_Rows], mean: Tensor, seed: int) -> None:
    errors = {name: [row.errors[name] for row in rows] for name in rows[0].errors}
    errors["mean_feature"] = [(row.target - mean).abs().mean(-1) for row in rows]
    per_clip = {name: np.concatenate([part.mean(1).numpy() for part in parts]) for name, parts in errors.items()}
    blocks = np.concatenate([row.stretch for row in rows])
    for name, values in per_clip.items():
        _section(report, name).setdefault("error", {})[kind] = float(values.mean())
        if name != "model" and len(np.unique(blocks)) > 1:
            found = block_bootstrap(values - per_clip["model"], blocks, seed=seed)
            report["ci95"].setdefault(f"margin_over_{name}", {})[kind] = [found.low, found.high]
    if rows[0].agent is None:
        return
    for name, parts in errors.items():
        for label, wanted in (("agent", True), ("rest", False)):
            chosen = [part[row.agent == wanted] for part, row in zip(parts, rows, strict=True) if row.agent is not None]
            _section(report, name).setdefault(f"error_{label}", {})[kind] = float(torch.cat(chosen).mean())


def _section(report: dict[str, Any], name: str) -> dict[str, Any]:
    section: dict[str, Any] = report["metrics"] if name == "model" else report["floors"].setdefault(name, {})
    return section


def _normed(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    return F.layer_norm(tokens, tokens.shape[-1:])
