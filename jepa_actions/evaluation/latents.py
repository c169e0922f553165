"""Latents of recorded frames, each frame encoded once and alone, gathered into short clips for the evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from jepa_actions.data import ClipIndex, ClipLoader, Segment, VideoDataset
from jepa_actions.errors import DataError
from jepa_actions.models import WorldModel
from jepa_actions.training import WorldDataset


@dataclass
class Encoded:
    """Clips of T latent states and the model actions between them; `positions` and `layout` where a simulator knows."""

    z: Float[Tensor, "c t n d"]
    actions: Float[Tensor, "c t-1 a"]
    known: Bool[Tensor, "c t-1"]
    episode: Int64[np.ndarray, "c"]
    frame: Int64[np.ndarray, "c t"]
    positions: Float[Tensor, "c t 2"] | None = None
    layout: Float[Tensor, "c 2"] | None = None
    proprio: Float[Tensor, "c t p"] | None = None  # raw units, where the data set has it

    def __len__(self) -> int:
        return len(self.episode)


@torch.no_grad()
def encode_clips(
    model: WorldModel,
    dataset: VideoDataset,
    segments: Sequence[Segment],
    *,
    frames: int,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 128,
) -> Encoded:
    """Encode clips of `frames` frames, a model step apart, from the given stretches.

    Args:
        limit: at most this many clips, drawn without replacement with `seed`; None takes every clip.
        batch: frames per encoder pass.

    Raises:
        DataError: if the stretches hold no such clip, or the model has no action codec.
    """
    if model.codec is None:
        raise DataError(f"{dataset.name}: this model was trained without actions, so there is nothing to compare with")
    index = ClipIndex(segments, frames=frames, block=model.codec.block)
    ids = np.arange(len(index))
    if limit is not None and limit < len(ids):
        ids = np.sort(np.random.default_rng(seed).choice(ids, limit, replace=False))
    loader = ClipLoader(dataset, index, model.codec, batch_size=1, seed=0)
    episodes, numbers = index.clip(ids)
    labels = [loader.labels_of(chunk) for chunk in np.array_split(ids, max(1, len(ids) // 4096))]
    if any(actions is None for actions, _ in labels):
        raise DataError(f"{dataset.name}: holds no actions for the model's codec ({', '.join(model.codec.names)})")
    unique, place = np.unique(
        np.stack([np.repeat(episodes, frames), numbers.ravel()], axis=1), axis=0, return_inverse=True
    )
    latents = []
    device = next(model.parameters()).device
    for part in np.array_split(unique, max(1, -(-len(unique) // batch))):
        images = dataset.read_clips(part[:, 0], part[:, 1:])
        latents.append(model.encode_frames({name: image.to(device) for name, image in images.items()})[:, 0].cpu())
    z = torch.cat(latents)[torch.from_numpy(place.reshape(-1))].unflatten(0, (len(ids), frames))
    encoded = Encoded(
        z=z,
        actions=torch.cat([actions for actions, _ in labels if actions is not None]),
        known=torch.cat([known for _, known in labels if known is not None]),
        episode=episodes,
        frame=numbers,
    )
    if dataset.proprio_names is not None:
        readings = {int(e): dataset.episode(int(e)).proprio for e in np.unique(episodes)}
        width = len(dataset.proprio_names)
        rows = [_rows(readings[int(e)], row, width) for e, row in zip(episodes, numbers, strict=True)]
        encoded.proprio = torch.from_numpy(np.stack(rows))
    if isinstance(dataset, WorldDataset) and dataset.world.name == "two_room":
        states, encoded.layout = dataset.states(episodes, numbers)
        encoded.positions = states[..., :2]  # the rest is the distractors'
    return encoded


def _rows(proprio: Float32[np.ndarray, "t p"] | None, rows: Int64[np.ndarray, "t"], width: int) -> np.ndarray:
    return np.zeros((len(rows), width), np.float32) if proprio is None else proprio[rows]
