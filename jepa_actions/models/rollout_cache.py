"""What a rollout remembers: keys and values of past frames, shared by all candidates, and each candidate's own."""

from typing import NamedTuple

import torch
from torch import Tensor

from jepa_actions.models.frame_block import FrameBlock
from jepa_actions.nn import AttentionBackend, Rotary, attention, shared_attention
from jepa_actions.nn.transformer import KeyValue


class Cache(NamedTuple):
    """Per layer the keys and values of past frames, `(p, heads, m, head_dim)`, and how many frames have passed; of
    dynamics without attention the past states themselves, `(p, history - 1, n, d)`.
    """

    layers: tuple[KeyValue, ...]
    frames: int
    states: Tensor | None = None

    def repeated(self, times: int) -> "Cache":
        """Of every problem so many, side by side."""
        layers = tuple(KeyValue(*(x.repeat_interleave(times, dim=0) for x in layer)) for layer in self.layers)
        states = None if self.states is None else self.states.repeat_interleave(times, dim=0)
        return Cache(layers, self.frames, states)


class CandidateMemory:
    """Attention of imagined frames to the shared past and to their own.

    Each candidate's keys and values go into a buffer made once, as long as the shorter of horizon and history: keys
    carry their place in time, so where they lie does not matter and a new frame takes the place of one that is too old.
    Where gradients are recorded nothing may be overwritten, and the parts are joined anew at every step.

    Args:
        cache: the past of p problems.
        candidates: s, per problem.
        horizon: frames to be imagined.
        history: frames that a query sees, its own included; None is all.
        tokens: per frame.
    """

    def __init__(self, cache: Cache, candidates: int, horizon: int, history: int | None, tokens: int) -> None:
        self.tokens, self.history, self.frame = tokens, history, -1
        self.room = horizon if history is None else min(horizon, history)
        self.recording = torch.is_grad_enabled()
        self.past = cache.layers
        self.own: dict[int, KeyValue] = {}
        if self.recording and candidates == 1:  # nothing to share: the past is this candidate's own
            self.own, self.past = dict(enumerate(cache.layers)), ()

    def next_frame(self) -> None:
        """Say that the next keys and values are those of another frame."""
        self.frame += 1

    def through(self, layer: int, block: FrameBlock, x: Tensor, rotary: Rotary, condition: Tensor | None) -> Tensor:
        """One layer on the present frame of every candidate."""
        backend = block.attn.attention_backend
        return block.around(x, rotary, condition, lambda q, k, v: self._attend(layer, q, k, v, backend))

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, backend: AttentionBackend) -> Tensor:
        """Remember the keys and values of the present frame, and let its queries see all that they may."""
        own = self._joined(layer, k, v) if self.recording else self._stored(layer, k, v)
        shared = self._shared(layer)
        if shared is None:
            return attention(q, *own, None, backend)
        return shared_attention(q, shared, own, fused=None if backend in ("auto", "sdpa") else False)

    def _stored(self, layer: int, k: Tensor, v: Tensor) -> KeyValue:
        if self.room == 1:
            return KeyValue(k, v)
        if layer not in self.own:
            size = (*k.shape[:2], self.room * self.tokens, k.shape[3])
            self.own[layer] = KeyValue(k.new_empty(size), v.new_empty(size))
        buffer, start = self.own[layer], self.frame % self.room * self.tokens
        filled = min(self.frame + 1, self.room) * self.tokens
        for whole, part in zip(buffer, (k, v), strict=True):
            whole[:, :, start : start + self.tokens] = part
        return KeyValue(buffer.key[:, :, :filled], buffer.value[:, :, :filled])

    def _joined(self, layer: int, k: Tensor, v: Tensor) -> KeyValue:
        self.own[layer] = join(self.own.get(layer), k, v, self.history, self.tokens)
        return self.own[layer]

    def _shared(self, layer: int) -> KeyValue | None:
        """The part of the shared past that is not too old for the present frame."""
        if not self.past:
            return None
        key, value = self.past[layer]
        if self.history is None:
            return KeyValue(key, value)
        seen = (self.history - 1 - self.frame) * self.tokens
        return KeyValue(key[:, :, -seen:], value[:, :, -seen:]) if seen > 0 else None


def join(past: KeyValue | None, k: Tensor, v: Tensor, history: int | None, tokens: int) -> KeyValue:
    """Keys and values with those of one more frame, the last `history` frames of them."""
    if past is not None:
        k, v = torch.cat([past.key, k], dim=2), torch.cat([past.value, v], dim=2)
    return KeyValue(k, v) if history is None else latest(KeyValue(k, v), history, tokens)


def latest(past: KeyValue, frames: int, tokens: int) -> KeyValue:
    """Keys and values of the last `frames` frames, at least one."""
    return KeyValue(past.key[:, :, -frames * tokens :], past.value[:, :, -frames * tokens :])
