"""Scaled dot-product attention behind one function, so that a back end can be chosen in one place."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def attention(
    q: Float[Tensor, "b heads q d"],
    k: Float[Tensor, "b heads k d"],
    v: Float[Tensor, "b heads k d"],
    mask: Bool[Tensor, "*m q k"] | None = None,
) -> Float[Tensor, "b heads q d"]:
    """Softmax attention, softmax(q k^T / sqrt(d)) v.

    Args:
        q, k, v: queries, keys and values, heads already split.
        mask: True where a query may look; broadcast over batch and heads. None lets everything see everything.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
