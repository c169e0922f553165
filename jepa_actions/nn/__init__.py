"""Building blocks on tensors alone: attention, rotary embedding, transformer block, poolers, heads, distributions."""

from jepa_actions.nn.attention import AttentionBackend, attention, check_backend, set_attention_backend
from jepa_actions.nn.block_causal import BlockCausal
from jepa_actions.nn.distributions import Categorical, Distribution, Gaussian, Mixed, OneHots
from jepa_actions.nn.gather import gather_rows, gather_uneven, process_of, sum_over_processes
from jepa_actions.nn.packed import packed_attention
from jepa_actions.nn.pooler import AttentivePooler, FlattenReadout, PatchReadout, sincos_positions
from jepa_actions.nn.quasimetric import metric_residual
from jepa_actions.nn.rotary import Rotary, apply_rotary, grid_positions, rotary_table
from jepa_actions.nn.rows import whole_rows
from jepa_actions.nn.share import RowDropout, Share, set_share
from jepa_actions.nn.shared_attention import shared_attention
from jepa_actions.nn.standardise import Standardise
from jepa_actions.nn.transformer import (
    Block,
    Mlp,
    SelfAttention,
    compile_blocks,
    init_transformer,
    set_gradient_checkpointing,
)

__all__ = [
    "AttentionBackend",
    "AttentivePooler",
    "Block",
    "BlockCausal",
    "Categorical",
    "Distribution",
    "FlattenReadout",
    "Gaussian",
    "Mixed",
    "Mlp",
    "OneHots",
    "PatchReadout",
    "Rotary",
    "RowDropout",
    "SelfAttention",
    "Share",
    "Standardise",
    "apply_rotary",
    "attention",
    "check_backend",
    "compile_blocks",
    "gather_rows",
    "gather_uneven",
    "grid_positions",
    "init_transformer",
    "metric_residual",
    "packed_attention",
    "process_of",
    "rotary_table",
    "set_attention_backend",
    "set_gradient_checkpointing",
    "set_share",
    "shared_attention",
    "sincos_positions",
    "sum_over_processes",
    "whole_rows",
]
