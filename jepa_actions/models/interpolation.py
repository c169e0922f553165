r"""What hidden features are likely to be, from where the visible ones are: a kernel over places and times.

    x_i = g_i * sum_j softmax_j( -s |p_i - p_j|^2 - a |t_i - t_j| ) LN(x_j)  +  (1 - g_i) * mean,
    g_i = sigmoid(c - d * distance of i to the nearest visible token)

Four numbers for each kind of mask and one mean feature, whatever the video shows: with few clips to learn from, that
much carries over to other clips where a transformer's answer does not. The nearest visible feature is the limit of
large s and a. Distances are in patches and token times.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.models.masks import MASK_KINDS

SPEED = 10.0  # the few scalars move this much faster than weights do at the same learning rate
# Where each scalar begins, for tubes and for the future mask: narrow in the dimension that is surely alike.
STARTS = {"space": (0.0, 4.0), "age": (1.0, 2.0), "trust": (1.5, 5.0), "decay": (-2.0, -2.0)}


class Interpolation(nn.Module):
    """Visible features spread over hidden places, and drawn to the mean feature where the nearest one is far."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dim))
        for name, (tube, future) in STARTS.items():
            start = torch.tensor([future if kind == "future" else tube for kind in MASK_KINDS])
            self.register_parameter(name, nn.Parameter(start / SPEED))

    def forward(
        self,
        tokens: Float[Tensor, "b v d"],
        visible: Int[Tensor, "b v"],
        target: Int[Tensor, "b m"],
        kind: str,
        grid: tuple[int, int],
    ) -> Float[Tensor, "b m d"]:
        """Features at the target tokens.

        Args:
            tokens: encoder output at the visible places.
            visible, target: token numbers of the clip's grid.
            kind: one of `MASK_KINDS`.
            grid: rows and columns of a frame.
        """
        row = MASK_KINDS.index(kind)
        narrow, aging, trust, decay = (SPEED * self.get_parameter(name)[row] for name in STARTS)
        (t, y, x), (vt, vy, vx) = (_coordinates(ids, grid) for ids in (target[:, :, None], visible[:, None, :]))
        space, age = (y - vy) ** 2 + (x - vx) ** 2, (t - vt).abs()
        weight = (-F.softplus(narrow) * space - F.softplus(aging) * age).softmax(-1)
        spread = weight.to(tokens.dtype) @ F.layer_norm(tokens, tokens.shape[-1:])
        nearest = (space + age**2).amin(-1).sqrt()
        gate = torch.sigmoid(trust - F.softplus(decay) * nearest)[..., None].to(tokens.dtype)
        return gate * spread + (1 - gate) * self.mean


def _coordinates(ids: Int[Tensor, "*n"], grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    places = grid[0] * grid[1]
    place = ids % places
    return (ids // places).float(), (place // grid[1]).float(), (place % grid[1]).float()
