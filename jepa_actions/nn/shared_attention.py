"""Attention of many candidates to one shared past: the past's keys and values are read where they are, never copied."""

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.nn.transformer import KeyValue


def shared_attention(
    q: Float[Tensor, "ps heads n d"], shared: KeyValue, own: KeyValue, *, fused: bool | None = None
) -> Float[Tensor, "ps heads n d"]:
    """softmax(q [K_shared, K_own]^T / sqrt(d)) [V_shared, V_own], with K_shared the same for all candidates.

    The candidates of a problem are queries of one product with the shared keys; what each of them sees of its own is a
    second attention. The two are merged by their log-sum-exp, as flash attention merges blocks (arXiv 2205.14135), or
    by one softmax over both score matrices.

    Args:
        q: queries of p problems times s candidates, the candidates of a problem side by side.
        shared: keys and values per problem, `(p, heads, m, d)`.
        own: keys and values per candidate, `(p * s, heads, k, d)`.
        fused: True merges two fused attentions, which has no gradient; False builds the scores. None takes the fused
            form where no gradient is recorded and the device has a kernel that gives its log-sum-exp.
    """
    problems = shared.key.shape[0]
    if fused is None:
        tracked = torch.is_grad_enabled() and any(x.requires_grad for x in (q, *shared, *own))
        fused = not tracked and q.device.type in ("cpu", "cuda")
    folded = _fold(q, problems)
    if fused:
        past, past_sum = _attention_and_sum(folded, shared)
        out, out_sum = _attention_and_sum(q, own)
        weight = (_unfold(past_sum, q.shape[0]) - out_sum).sigmoid()[..., None].to(out.dtype)
        merged: Tensor = torch.lerp(out, _unfold(past, q.shape[0]), weight)
        return merged
    scale = q.shape[-1] ** -0.5
    past_scores = _unfold(folded @ shared.key.mT, q.shape[0])
    weights = torch.cat([past_scores, q @ own.key.mT], dim=-1).mul(scale).softmax(-1)
    of_past, of_own = weights.split([shared.key.shape[2], own.key.shape[2]], dim=-1)
    read: Tensor = _unfold(_fold(of_past, problems) @ shared.value, q.shape[0]) + of_own @ own.value
    return read


def _fold(x: Float[Tensor, "ps heads n d"], problems: int) -> Float[Tensor, "p heads sn d"]:
    return x.reshape(problems, -1, *x.shape[1:]).transpose(1, 2).flatten(2, 3)


def _unfold(x: Float[Tensor, "p heads sn *d"], rows: int) -> Float[Tensor, "ps heads n *d"]:
    candidates = rows // x.shape[0]
    return x.reshape(*x.shape[:2], candidates, -1, *x.shape[3:]).transpose(1, 2).flatten(0, 1)


def _attention_and_sum(q: Tensor, past: KeyValue) -> tuple[Tensor, Tensor]:
    """Fused attention and the log of each query's softmax denominator, `(b, heads, n)`."""
    ops = torch.ops.aten  # torch's public function keeps the second result to itself
    if q.device.type == "cpu":
        out, log_sum = ops._scaled_dot_product_flash_attention_for_cpu(q, past.key, past.value)[:2]
    elif q.dtype in (torch.float16, torch.bfloat16):
        out, log_sum = ops._scaled_dot_product_flash_attention(q, past.key, past.value)[:2]
    else:
        out, log_sum = ops._scaled_dot_product_efficient_attention(q, past.key, past.value, None, True)[:2]
    return out, log_sum[..., : q.shape[2]]
