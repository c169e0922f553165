"""Planned against recorded: what two action sequences add up to, and how far apart that is."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.data import ActionCodec
from jepa_actions.errors import DataError
from jepa_actions.evaluation.inverse import APART

Scores = dict[str, Float[np.ndarray, "c *d"]]
BETTER = {  # what is averaged over clips, and whether more (1) or less (-1) is better
    "cosine": 1,
    "error": -1,
    "cosine_scaled": 1,
    "error_scaled": -1,
    "rank": -1,
    "top10": 1,
    "rank_recorded": -1,
    "top10_recorded": 1,
}


class Displacement:
    """The sum of a sequence's raw actions, in the dimensions that are numbers.

    `vector` are those that are no gripper: what moves. `scale` is how much k recorded steps spread in each of them.

    Arguments:
        recorded: sequences that the spread is taken from.

    Raises: DataError where every dimension is a choice among classes.
    """

    def __init__(self, codec: ActionCodec, recorded: Float[Tensor, "m k a"]) -> None:
        self.codec = codec
        self.columns = [i for i, count in enumerate(codec.scaling.classes) if not count]
        if not self.columns:
            raise DataError(f"actions {', '.join(codec.names)}: found classes alone, expected numbers that add up")
        self.names = [codec.names[i] for i in self.columns]
        moving = [i for i, name in enumerate(self.names) if name not in APART]
        self.vector = moving or list(range(len(self.names)))
        self.scale = self.of(recorded)[:, self.vector].std(0, correction=0).clamp_min(1e-9)

    def of(self, actions: Float[Tensor, "*c k a"]) -> Float[Tensor, "*c d"]:
        """Displacement in raw units, double precision."""
        raw: Tensor = self.codec.decode(actions)[..., self.columns]
        return raw.double().sum((-3, -2))

    def compare(self, planned: Float[Tensor, "c k a"], recorded: Float[Tensor, "c k a"]) -> Scores:
        """Cosine and length of the difference of every clip, in raw and scaled units, and both displacements."""
        one, two = self.of(planned), self.of(recorded)
        scores: dict[str, Any] = {}
        for name, unit in (("", torch.ones_like(self.scale)), ("_scaled", self.scale)):
            a, b = one[:, self.vector] / unit, two[:, self.vector] / unit
            scores["cosine" + name] = torch.cosine_similarity(a, b, dim=-1, eps=1e-12).numpy()
            scores["error" + name] = (a - b).norm(dim=-1).numpy()
        return scores | {"planned": one.numpy(), "recorded": two.numpy()}

    def apart(self, some: Float[Tensor, "c s k a"], answer: Float[Tensor, "c k a"]) -> Float[Tensor, "c s"]:
        """How far the displacements of candidates are from that of an answer, in scaled units."""
        difference = self.of(some)[..., self.vector] - self.of(answer)[:, None, self.vector]
        distance: Tensor = (difference / self.scale).norm(dim=-1)
        return distance

    def summary(self, scores: Scores) -> dict[str, Any]:
        """Means over clips, and error and cosine by dimension."""
        found: dict[str, Any] = {name: float(scores[name].mean()) for name in BETTER if name in scores}
        planned, recorded = scores["planned"], scores["recorded"]
        lengths = np.sqrt((planned**2).sum(0) * (recorded**2).sum(0))
        cosine = (planned * recorded).sum(0) / np.maximum(lengths, 1e-12)
        error = np.abs(planned - recorded).mean(0)
        found["error_by_dimension"] = {name: float(error[i]) for i, name in enumerate(self.names)}
        found["cosine_by_dimension"] = {name: float(cosine[i]) for i, name in enumerate(self.names)}
        return found


def ranks(cost: Float[Tensor, "c s"]) -> Float[np.ndarray, "c"]:
    """The rank of the first candidate of every row, 1 is best; candidates that cost the same share their places."""
    first, others = cost[:, :1], cost[:, 1:]
    found: np.ndarray = (1 + (others < first).sum(1) + 0.5 * (others == first).sum(1)).double().numpy()
    return found
