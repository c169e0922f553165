"""What V-JEPA 2's weights are called in the Hugging Face layout and in the original release's, beside our names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Our module -> theirs. {i} is a layer; several names are joined along the rows; [i] is one row of a stacked tensor.
_ENCODER = {
    "encoder.patch_embed.proj": ("encoder.embeddings.patch_embeddings.proj", "encoder.patch_embed.proj"),
    "encoder.norm": ("encoder.layernorm", "encoder.norm"),
}
_PREDICTOR = {
    "predictor.predictor_embed": ("predictor.embeddings.predictor_embeddings", "predictor.predictor_embed"),
    "predictor.mask_tokens.{i}": ("predictor.embeddings.mask_tokens[{i}]", "predictor.mask_tokens.{i}"),
    "predictor.norm": ("predictor.layernorm", "predictor.predictor_norm"),
    "predictor.predictor_proj": ("predictor.proj", "predictor.predictor_proj"),
}
_BLOCK = {
    "norm1": ("norm1", "norm1"),
    "attn.qkv": (("attention.query", "attention.key", "attention.value"), "attn.qkv"),
    "attn.proj": ("attention.proj", "attn.proj"),
    "norm2": ("norm2", "norm2"),
    "mlp.fc1": ("mlp.fc1", "mlp.fc1"),
    "mlp.fc2": ("mlp.fc2", "mlp.fc2"),
}
_BLOCKS = {  # our list of blocks -> theirs
    "encoder.blocks.{i}": ("encoder.layer.{i}", "encoder.blocks.{i}"),
    "predictor.blocks.{i}": ("predictor.layer.{i}", "predictor.predictor_blocks.{i}"),
}
LAYOUTS = ("hugging_face", "release")


@dataclass(frozen=True)
class Stored:
    """Where one of our parameters lies in a file: whole tensors joined along the rows, or one row of a tensor."""

    names: tuple[str, ...]
    row: int | None = None

    def shape(self, ours: Sequence[int], rows: int) -> tuple[int, ...]:
        """The shape each of `names` must have for a parameter of shape `ours`; `rows` where the tensor is a stack."""
        if self.row is not None:
            return (rows, *ours)
        return (ours[0] // len(self.names), *ours[1:])


def stored_as(parameter: str, layout: str) -> Stored | None:
    """Where a parameter of ours (`encoder.blocks.0.attn.qkv.weight`) lies in a layout; None if it has no counterpart.

    Args:
        parameter: the name, beginning with `encoder.` or `predictor.`.
        layout: one of `LAYOUTS`.
    """
    column = LAYOUTS.index(layout)
    layer = re.search(r"\.(\d+)(?=\.|$)", parameter)
    index = layer.group(1) if layer else ""
    name = parameter if layer is None else parameter.replace(f".{index}", ".{i}", 1)
    module, _, leaf = name.rpartition(".")
    whole = _ENCODER | _PREDICTOR
    if name in whole:  # a parameter of its own: a mask token
        found, leaf = whole[name][column], ""
    elif module in whole:
        found = whole[module][column]
    else:
        block, _, part = module.partition(".{i}.")
        if part not in _BLOCK or f"{block}.{{i}}" not in _BLOCKS:
            return None
        head, tails = _BLOCKS[f"{block}.{{i}}"][column], _BLOCK[part][column]
        tails = (tails,) if isinstance(tails, str) else tails
        return Stored(tuple(f"{head}.{tail}.{leaf}".replace("{i}", index) for tail in tails))
    if found.endswith("[{i}]"):
        return Stored((found.removesuffix("[{i}]"),), int(index))
    return Stored((f"{found}.{leaf}".rstrip(".").replace("{i}", index),))
