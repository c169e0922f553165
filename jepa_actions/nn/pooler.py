"""From patch tokens to the latent tokens a planner sees: a few attention queries, or all patches."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.nn.attention import AttentionBackend, attention
from jepa_actions.nn.rows import whole_rows
from jepa_actions.nn.standardise import Standardise
from jepa_actions.nn.transformer import Mlp


def sincos_positions(height: int, width: int, dim: int) -> Float[Tensor, "n d"]:
    """Fixed two-dimensional sine and cosine code of each patch's place, half the channels per axis.

    Wavelengths run from two patches to the whole grid, so that small grids are told apart by every channel.
    """
    if dim % 4:
        raise ValueError(f"position code needs a width that is a multiple of 4, found {dim}")
    quarter = dim // 4
    longest = 2.0 * max(height, width)
    omega = torch.pi / torch.logspace(0, torch.log2(torch.tensor(longest / 2)).item(), quarter, base=2.0)
    rows = torch.arange(height)[:, None] * omega
    cols = torch.arange(width)[:, None] * omega
    row_code = torch.cat([rows.sin(), rows.cos()], dim=-1)[:, None].expand(height, width, -1)
    col_code = torch.cat([cols.sin(), cols.cos()], dim=-1)[None].expand(height, width, -1)
    return torch.cat([row_code, col_code], dim=-1).reshape(height * width, dim)


class AttentivePooler(nn.Module):
    """N learned queries read the patch tokens of one frame; each answer, through an MLP and a standardisation, is one
    latent token.

    Rotary encoders carry places only inside attention; the pooler therefore adds a fixed place code to the tokens
    before it reads them, or "where" would be lost in the weighted mean.
    """

    positions: Tensor

    def __init__(self, dim: int, out_dim: int, latents: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.attention_backend: AttentionBackend = "auto"
        self.queries = nn.Parameter(torch.randn(latents, dim))
        self.key_value = nn.Linear(dim, 2 * dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.proj = nn.Linear(dim, dim)
        self.mlp = Mlp(dim, 4 * dim, out_dim)
        self.standardise = Standardise(out_dim)
        without_bias(self.mlp.fc2)
        self.register_buffer("positions", sincos_positions(*grid, dim), persistent=False)

    def forward(self, tokens: Float[Tensor, "b p d"]) -> Float[Tensor, "b n o"]:
        """Patch tokens of one frame in raster order -> N latent tokens."""
        tokens = tokens + self.positions.to(tokens.dtype)
        k, v = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q = self.queries.unflatten(-1, (self.heads, -1)).transpose(0, 1)[None]
        q = q if self.training else whole_rows(q, dim=2)
        read = attention(q.expand(tokens.shape[0], -1, -1, -1), k, v, None, self.attention_backend)
        rows = read[:, :, : len(self.queries)].transpose(1, 2).flatten(2).flatten(0, 1)
        pooled: Tensor = self.proj(rows if self.training else whole_rows(rows))
        answers: Tensor = self.standardise(self.mlp(self.norm(pooled)))
        out: Tensor = answers[: len(rows)].unflatten(0, (-1, len(self.queries)))
        return out


def without_bias(layer: nn.Linear) -> None:
    """Leave a layer's bias as it is: the standardisation after it takes it out again.

    Its gradient is rounding alone, which Adam makes into steps of full length; and the running mean of an EMA target,
    which is the online one's, would not fit the target's slower bias.
    """
    layer.bias.requires_grad_(False)


class PatchReadout(nn.Module):
    """Every patch is a latent token, projected where the latent is narrower than the encoder.

    With `normalise`, layer norm without parameters comes last: V-JEPA 2-AC's latents (`normalize_reps` in its code).
    """

    def __init__(self, dim: int, out_dim: int, *, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.proj = nn.Identity() if dim == out_dim else nn.Linear(dim, out_dim)

    def forward(self, tokens: Float[Tensor, "b p d"]) -> Float[Tensor, "b p o"]:
        out = tokens
        if isinstance(self.proj, nn.Linear):
            rows = tokens.flatten(0, 1)
            projected: Tensor = self.proj(rows if self.training else whole_rows(rows))
            out = projected[: len(rows)].view(*tokens.shape[:2], -1)
        return F.layer_norm(out, out.shape[-1:]) if self.normalise else out


class FlattenReadout(nn.Module):
    """One latent token from all patches side by side, each with weights of its own, through one hidden layer.

    What is small and stands somewhere, such as a door, survives; an attentive pooler keeps what its losses ask for. The
    convolutional encoders of PLDM (arXiv 2502.14819) and eb_jepa end this way.

    Args:
        dim: channels of a patch token.
        patches: tokens of a frame.
        out_dim: channels of the latent.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: int, patches: int, out_dim: int, hidden: int) -> None:
        super().__init__()
        self.patches = patches
        self.standardise_in = Standardise(dim)
        self.fc_in = nn.Linear(dim * patches, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, out_dim)
        self.standardise = Standardise(out_dim)
        without_bias(self.out)

    def forward(self, tokens: Float[Tensor, "b p d"]) -> Float[Tensor, "b 1 o"]:
        """Patch tokens of one frame in raster order -> one latent token."""
        x = self.standardise_in(tokens).flatten(1)
        x = self.norm(F.gelu(self.fc_in(x if self.training else whole_rows(x))))
        out: Tensor = self.standardise(self.out(x))
        return out[: len(tokens), None]
