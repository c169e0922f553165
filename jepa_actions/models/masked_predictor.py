"""Narrow transformer that fills in the features of hidden tokens (V-JEPA 2, arXiv 2506.09985)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jepa_actions.errors import ShapeError
from jepa_actions.models.encoder import EncoderConfig, check_heads
from jepa_actions.models.interpolation import Interpolation
from jepa_actions.models.masks import MASK_KINDS
from jepa_actions.nn import Block, Rotary, init_transformer, rotary_table


@dataclass(frozen=True)
class PredictorConfig:
    """Size of a `MaskedPredictor`. V-JEPA 2 uses width 384, depth 12.

    With `residual` the transformer only corrects an `Interpolation`; at depth 0 it adds one constant for each mask
    token, which is as much as two or three short videos can teach.
    """

    width: int = 48
    depth: int = 2
    heads: int = 4
    residual: bool = False  # True adds to an interpolation of the visible features; V-JEPA 2 does not
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
            self.interpolation = Interpolation(encoder.width)

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
        embedded = self.predictor_embed(tokens)
        hidden = self._hidden(kind, mask_token, tokens.dtype).expand(target.shape[0], target.shape[1], -1)
        x = torch.cat([embedded, hidden], dim=1)
        rotary = self._rotary(torch.cat([visible, target], dim=1))
        for block in self.blocks:
            x = block(x, rotary)
        x = self.norm(x[:, visible.shape[1] :])
        out: Tensor = self.predictor_proj(x)
        if self.config.residual:
            out = out + self.interpolation(tokens, visible, target, kind, self.grid)
        return out

    def packed(
        self,
        tokens: Sequence[Float[Tensor, "v d"]],
        visible: Sequence[Int[Tensor, "v"]],
        target: Sequence[Int[Tensor, "m"]],
        kinds: Sequence[str],
        mask_token: int | None = None,
    ) -> list[Float[Tensor, "m d"]]:
        """Predict for samples with different numbers of tokens and kinds in one pass: each as `forward` would alone.

        Args:
            tokens: encoder output at the visible places of each sample.
            visible, target: token numbers of each sample.
            kinds: the mask kind of each sample.
            mask_token: as in `forward`, for all samples.
        """
        seen, asked = [len(ids) for ids in visible], [len(ids) for ids in target]
        embedded = self.predictor_embed(torch.cat(list(tokens)))
        hidden = [
            self._hidden(kind, mask_token, tokens[0].dtype).expand(m, -1) for kind, m in zip(kinds, asked, strict=True)
        ]
        pairs = zip(embedded.split(seen), hidden, strict=True)
        x = torch.cat([part for pair in pairs for part in pair])
        rotary = self._rotary(torch.cat([ids for pair in zip(visible, target, strict=True) for ids in pair]))
        lengths = tuple(v + m for v, m in zip(seen, asked, strict=True))
        for block in self.blocks:
            x = block(x, rotary, lengths=lengths)
        sizes = [size for pair in zip(seen, asked, strict=True) for size in pair]
        x = self.norm(torch.cat(x.split(sizes)[1::2]))
        out = list(self.predictor_proj(x).split(asked))
        if not self.config.residual:
            return out
        samples = zip(out, tokens, visible, target, kinds, strict=True)
        return [
            answer + self.interpolation(features[None], v[None], m[None], kind, self.grid)[0]
            for answer, features, v, m, kind in samples
        ]

    def _hidden(self, kind: str, mask_token: int | None, dtype: torch.dtype) -> Float[Tensor, "d"]:
        chosen = MASK_KINDS.index(kind) if mask_token is None else mask_token
        token: Tensor = self.mask_tokens[chosen % len(self.mask_tokens)]
        return token.flatten().to(dtype)

    def _rotary(self, ids: Int[Tensor, "*n"]) -> Rotary:
        """The angles of the numbered tokens. No table is kept: its length would have to be read from the device."""
        rows, cols = self.grid
        place = ids % (rows * cols)
        positions = torch.stack([ids // (rows * cols), place // cols, place % cols], dim=-1)
        return rotary_table(positions, self.config.width // self.config.heads, tiled=True)
