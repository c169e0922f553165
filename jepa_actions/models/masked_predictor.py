"""Narrow transformer that fills in the features of hidden tokens (V-JEPA 2, arXiv 2506.09985)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ShapeError
from jepa_actions.models.encoder import EncoderConfig, check_heads, take_tokens
from jepa_actions.models.masks import MASK_KINDS, nearest_visible
from jepa_actions.nn import Block, Rotary, grid_positions, init_transformer, rotary_table


@dataclass(frozen=True)
class PredictorConfig:
    """Size of a `MaskedPredictor`. V-JEPA 2 uses width 384, depth 12."""

    width: int = 48
    depth: int = 2
    heads: int = 4
    residual: bool = False  # True starts from the nearest visible token, as far as it is believed; V-JEPA 2 does not
    mlp_ratio: float = 4.0
    mask_tokens: int = len(MASK_KINDS)  # learned tokens for hidden places; V-JEPA 2 has 10

    def __post_init__(self) -> None:
        check_heads("predictor", self.width, self.heads)
        if self.mask_tokens < 1:
            raise ShapeError(f"predictor.mask_tokens: expected at least 1, found {self.mask_tokens}")


class MaskedPredictor(nn.Module):
    """Visible tokens and the numbers of hidden ones -> predicted features at the hidden places."""

    def __init__(self, config: PredictorConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = encoder.grid
        self.predictor_embed = nn.Linear(encoder.width, config.width)
        self.mask_tokens = nn.ParameterList(
            [nn.Parameter(torch.zeros(1, 1, config.width)) for _ in range(config.mask_tokens)]
        )
        self.blocks = nn.ModuleList([Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.predictor_proj = nn.Linear(config.width, encoder.width)
        for linear in (self.predictor_embed, self.predictor_proj):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        init_transformer(self.blocks)
        if config.residual:
            self.trust = nn.Linear(config.width, 1)
        self._tables: dict[tuple[int, torch.device], Rotary] = {}

    def forward(
        self,
        tokens: Float[Tensor, "b v d"],
        visible: Int[Tensor, "b v"],
        target: Int[Tensor, "b m"],
        kind: str,
        mask_token: int | None = None,
    ) -> Float[Tensor, "b m d"]:
        """Predict the features of the target tokens.

        The i-th kind of `MASK_KINDS` uses mask token i modulo their number, so each has its own where there are
        enough. V-JEPA 2 numbers them by clip length instead: in its released recipes, which have one clip length,
        training only ever chose token 0, for all masks; its evaluations and `transformers` use token 1, which is
        "long" here. `mask_token` chooses one outright.

        Args:
            tokens: encoder output at the visible places.
            visible, target: token numbers of the clip's grid, in any order.
            kind: one of `MASK_KINDS`.
            mask_token: number of the mask token, modulo their number; None is the kind's.
        """
        chosen = MASK_KINDS.index(kind) if mask_token is None else mask_token
        hidden_token = self.mask_tokens[chosen % len(self.mask_tokens)]
        hidden = hidden_token.expand(target.shape[0], target.shape[1], -1)
        x = torch.cat([self.predictor_embed(tokens), hidden.to(tokens.dtype)], dim=1)
        places = self.grid[0] * self.grid[1]
        steps = int(torch.maximum(visible.max(), target.max())) // places + 1
        rotary = self._rotary(steps, tokens.device).take(torch.cat([visible, target], dim=1))
        for block in self.blocks:
            x = block(x, rotary)
        x = self.norm(x[:, visible.shape[1] :])
        out: Tensor = self.predictor_proj(x)
        if self.config.residual:
            nearest = nearest_visible(visible, target, kind, self.grid)
            gate = torch.sigmoid(self.trust(x))  # how far the nearest one is to be believed
            out = out + gate * F.layer_norm(take_tokens(tokens, nearest), tokens.shape[-1:])
        return out

    def _rotary(self, steps: int, device: torch.device) -> Rotary:
        if (steps, device) not in self._tables:
            positions = grid_positions(steps, *self.grid, device=device)
            head_dim = self.config.width // self.config.heads
            self._tables[steps, device] = rotary_table(positions, head_dim, tiled=True)
        return self._tables[steps, device]
