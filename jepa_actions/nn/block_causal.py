"""Frame-causal masks as three numbers, from which each back end makes the form it reads."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from jepa_actions.errors import ShapeError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True)
class BlockCausal:
    """A token sees every token of its own frame and of the frames before, `history` frames in all.

    The queries are the last frames; `past_frames` frames of keys, from a cache, precede them. Hashable: masks made from
    it are kept, per number of queries and device.
    """

    tokens_per_frame: int
    history: int | None = None  # frames a query looks at, its own included; None is all of them
    past_frames: int = 0  # frames of keys before the first query's

    def __post_init__(self) -> None:
        if self.tokens_per_frame < 1 or self.past_frames < 0 or (self.history is not None and self.history < 1):
            raise ShapeError(f"{self}: expected tokens_per_frame and history of at least 1, past_frames of at least 0")

    def allows(self, query: Int[Tensor, "*n"], key: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Whether the query numbered so, from 0, may look at the key numbered so, from 0; both broadcast."""
        age = query // self.tokens_per_frame + self.past_frames - key // self.tokens_per_frame
        return age >= 0 if self.history is None else (age >= 0) & (age < self.history)

    def keys(self, queries: int) -> int:
        """How many keys there are beside so many queries."""
        return self.past_frames * self.tokens_per_frame + queries

    def hides_nothing(self, queries: int) -> bool:
        """True where every query may look at every key: one frame, and no past that is too old."""
        one_frame = queries <= self.tokens_per_frame
        return one_frame and (self.history is None or self.past_frames < self.history)

    def dense(self, queries: int, device: torch.device) -> Bool[Tensor, "q k"]:
        """The mask as a tensor, True where a query may look; made once per number of queries and device."""
        return _dense(self, queries, torch.device(device))

    def blocks(self, queries: int, device: torch.device) -> "BlockMask":
        """The mask as `flex_attention` reads it: which blocks of the score matrix are empty, full or mixed."""
        return _blocks(self, queries, torch.device(device))


@lru_cache(maxsize=64)
def _dense(mask: BlockCausal, queries: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or a mask first made while planning could not be used in training
        query = torch.arange(queries, device=device)[:, None]
        return mask.allows(query, torch.arange(mask.keys(queries), device=device))


@lru_cache(maxsize=64)
def _blocks(mask: BlockCausal, queries: int, device: torch.device) -> "BlockMask":
    from torch.nn.attention.flex_attention import create_block_mask

    def allows(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask.allows(query, key)

    with torch.inference_mode(False):
        return create_block_mask(allows, None, None, queries, mask.keys(queries), device=device)
