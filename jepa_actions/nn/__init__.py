"""Building blocks on tensors alone: attention, rotary embedding, transformer block, poolers, heads, distributions."""

from jepa_actions.nn.attention import attention
from jepa_actions.nn.distributions import Categorical, Distribution, Gaussian
from jepa_actions.nn.gather import gather_rows
from jepa_actions.nn.pooler import AttentivePooler, PatchReadout, sincos_positions
from jepa_actions.nn.rotary import Rotary, apply_rotary, grid_positions, rotary_table
from jepa_actions.nn.standardise import Standardise
from jepa_actions.nn.transformer import Block, Mlp, SelfAttention, init_transformer

__all__ = [
    "AttentivePooler",
    "Block",
    "Categorical",
    "Distribution",
    "Gaussian",
    "Mlp",
    "PatchReadout",
    "Rotary",
    "SelfAttention",
    "Standardise",
    "apply_rotary",
    "attention",
    "gather_rows",
    "grid_positions",
    "init_transformer",
    "rotary_table",
    "sincos_positions",
]
