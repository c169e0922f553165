"""Held-out clips as planning problems: from o_t, with what came before it, to o_{t+k}, and the actions in between."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.data import ActionCodec, ClipIndex, ClipLoader
from jepa_actions.errors import DataError
from jepa_actions.evaluation.latents import Encoded, encode_clips
from jepa_actions.models import Context, WorldModel
from jepa_actions.training import OpenData

STRETCH = 10  # model steps: where all clips are of one episode, those of one stretch are taken for dependent


@dataclass(frozen=True)
class HeldoutClips:
    """Clips of `past` states up to the present and k after it, with every action between them known."""

    model: WorldModel
    codec: ActionCodec
    encoded: Encoded
    past: int
    k: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def recorded(self) -> Float[Tensor, "c k a"]:
        """Model actions from the present to the goal."""
        return self.encoded.actions[:, self.past - 1 :]

    @property
    def goals(self) -> Float[Tensor, "c n d"]:
        """States k steps ahead."""
        return self.encoded.z[:, -1]

    @property
    def others(self) -> Float[Tensor, "c n d"]:
        """Other clips' goals; of other episodes, where there are several, since clips are in their order."""
        return self.goals.roll(max(1, len(self) // 2), 0)

    @property
    def blocks(self) -> Int[np.ndarray, "c"]:
        """Clips with the same number depend on each other: those of an episode, or of a stretch of the only one."""
        if len(np.unique(self.encoded.episode)) > 1:
            return self.encoded.episode
        stretch: np.ndarray = self.encoded.frame[:, 0] // (STRETCH * self.codec.block)
        return stretch

    def context(self, rows: Tensor) -> Context:
        """Where planning starts: the states up to the present, the actions between, and proprio where it is read."""
        z = self.encoded.z[rows, : self.past].to(self.device)
        actions = self.encoded.actions[rows, : self.past - 1].to(self.device)
        read = None if self.encoded.proprio is None else self.encoded.proprio[rows, : self.past].to(z)
        found: Context = self.model.context(z, actions, read)
        return found

    def inferred(self) -> tuple[Float[Tensor, "c k a"], int]:
        """The inverse head's one answer, k times, and how many steps lay between the states that it was shown: k where
        it knows such gaps, otherwise 1, and then it saw the frame after the present one."""
        model, z = self.model, self.encoded.z.to(self.device)
        now, gap = z[:, self.past - 1], self.k
        if model.goal_inverse is not None and gap <= model.goal_inverse.config.max_gap:
            before = z[:, self.past - 2] if self.past > 1 else None
            steps = torch.full((len(z),), gap, device=self.device)
            answer = model.goal_actions(now, z[:, -1], steps, before=before).mean
        else:
            gap = gap if gap <= model.config.inverse.max_gap else 1
            answer = model.infer_actions(now, z[:, self.past - 1 + gap], gap).mean
        return answer.cpu()[:, None].expand(-1, self.k, -1), gap

    def pairs(self) -> Float[Tensor, "c k a"]:
        """The inverse head's answer for every step, each from its own two frames: it sees the way."""
        z = self.encoded.z[:, self.past - 1 :].to(self.device)
        steps = [self.model.infer_actions(z[:, i], z[:, i + 1], 1).mean.cpu() for i in range(self.k)]
        return torch.stack(steps, dim=1)

    def named(self, row: int) -> dict[str, Any]:
        """Episode and present frame of a clip."""
        return {"episode": int(self.encoded.episode[row]), "frame": int(self.encoded.frame[row, self.past - 1])}


def heldout_clips(model: WorldModel, data: OpenData, *, k: int, limit: int, seed: int) -> HeldoutClips:
    """At most `limit` clips of the held-out stretches, drawn with `seed`.

    Raises: DataError for a model without actions, data without the proprio that it reads, nothing held out, or no clip
        whose actions are all known.
    """
    name = data.heldout_dataset.name
    if model.codec is None or model.dynamics is None:
        raise DataError(f"{name}: this model was trained without actions, so it cannot plan")
    if not data.heldout:
        raise DataError(f"{name}: nothing is held out (data.split), so nothing can be evaluated")
    past = model.history
    encoded = encode_clips(model, data.heldout_dataset, data.heldout, frames=past + k, limit=limit, seed=seed)
    if model.dynamics.config.proprio and encoded.proprio is None:
        raise DataError(f"{name}: found no proprio, expected the {model.dynamics.config.proprio} numbers of the model")
    whole = encoded.known.all(1)
    if not bool(whole.any()):
        raise DataError(f"{name}: found no held-out clip of {past + k} frames with all actions known, expected some")
    rows = whole.numpy()
    kept = Encoded(
        z=encoded.z[whole],
        actions=encoded.actions[whole],
        known=encoded.known[whole],
        episode=encoded.episode[rows],
        frame=encoded.frame[rows],
        proprio=None if encoded.proprio is None else encoded.proprio[whole],
    )
    return HeldoutClips(model, model.codec, kept, past, k, next(model.parameters()).device)


def recorded_sequences(
    model: WorldModel, data: OpenData, k: int, *, limit: int = 5000, seed: int = 0
) -> Float[Tensor, "m k a"]:
    """Model actions of k steps in a row from the training stretches, all known; no frame is read.

    Raises: DataError where there is none.
    """
    assert model.codec is not None
    index = ClipIndex(data.train, frames=k + 1, block=model.codec.block)
    ids = np.arange(len(index))
    if limit < len(ids):
        ids = np.sort(np.random.default_rng(seed).choice(ids, limit, replace=False))
    actions, known = ClipLoader(data.dataset, index, model.codec, batch_size=1, seed=0).labels_of(ids)
    if actions is None or known is None or not bool(known.all(1).any()):
        raise DataError(f"{data.dataset.name}: found no {k} training steps in a row with known actions, expected some")
    return actions[known.all(1)]
