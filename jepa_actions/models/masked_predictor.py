"""Narrow transformer that fills in the features of hidden tokens (V-JEPA 2, arXiv 2506.09985)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.models.encoder import EncoderConfig, take_tokens
from jepa_actions.models.masks import MASK_KINDS, nearest_visible
from jepa_actions.nn import Block, Rotary, grid_positions, init_transformer, rotary_table


@dataclass(frozen=True)
class PredictorConfig:
    """Size of a `MaskedPredictor`. V-JEPA 2 uses width 384, depth 12."""

    width: int = 48
    depth: int = 2
    heads: int = 4
    residual: bool = False  # True starts from the nearest visible token, as far as it is believed; V-JEPA 2 does not


class MaskedPredictor(nn.Module):
    """Visible tokens and the numbers of hidden ones -> predicted features at the hidden places."""

    def __init__(self, config: PredictorConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = encoder.grid
        self.predictor_embed = nn.Linear(encoder.width, config.width)
        self.mask_tokens = nn.ParameterList([nn.Parameter(torch.zeros(1, 1, config.width)) for _ in MASK_KINDS])
        self.blocks = nn.ModuleList([Block(config.width, config.heads) for _ in range(config.depth)])
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
        self, tokens: Float[Tensor, "b v d"], visible: Int[Tensor, "b v"], target: Int[Tensor, "b m"], kind: str
    ) -> Float[Tensor, "b m d"]:
        """Predict the features of the target tokens; each mask kind has its own mask token.

        Args:
            tokens: encoder output at the visible places.
            visible, target: token numbers of the clip's grid.
            kind: one of `MASK_KINDS`.
        """
        mask_token = self.mask_tokens[MASK_KINDS.index(kind)]
        hidden = mask_token.expand(target.shape[0], target.shape[1], -1)
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
