"""What masked pretraining would take on hardware that is not at hand: parameters, FLOPs, memory and days, worked out.

Nothing here is measured but the activations of one block, counted on a CPU in the recipe's precision. Days follow from
a data sheet's rate and a utilisation that must be assumed, or read off the progress line of a run on that hardware.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jepa_actions.errors import ConfigError
from jepa_actions.models import MaskedPredictor, VideoEncoder, sample_ragged_mask
from jepa_actions.models.masks import sample_mask
from jepa_actions.nn import Block, set_gradient_checkpointing
from jepa_actions.objectives import MaskedConfig
from jepa_actions.training.config import TrainConfig
from jepa_actions.training.memory import GIB, LivingBytes

DRAWS = 64  # masks whose mean size is taken
TOKENS = 64  # of the block that is counted


@dataclass(frozen=True)
class Hardware:
    """A device by its maker's data sheet."""

    name: str
    flops: float  # dense bf16 matrix products, FLOP/s
    memory: float  # bytes


HARDWARE = {  # NVIDIA's data sheets of H100 and A100, dense rates
    "h100": Hardware("H100 SXM 80 GB", 989e12, 80e9),
    "a100": Hardware("A100 SXM 80 GB", 312e12, 80e9),
}


@dataclass(frozen=True)
class Pass:
    """One pass of a transformer: tokens of each sequence, and how many passes' worth of FLOPs its training takes."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float
    tokens: float
    times: float  # 3 with a gradient (one forward, two backward), 1 without
    share: float = 1.0  # of the clips that take it

    def flops(self) -> float:
        """Of one clip, by the usual count: 2 per multiplication and addition of matrix products."""
        n, d = self.tokens, self.width
        return self.share * self.times * self.depth * (2 * n * d * d * (4 + 2 * self.mlp_ratio) + 4 * n * n * d)


@dataclass(frozen=True)
class Estimate:
    """Memory of one device in bytes and the time of a run, computed."""

    hardware: Hardware
    devices: int
    parameters: int  # of encoder and masked predictor
    clip_flops: float  # of one clip and step, without what checkpointing computes again
    states: float  # weights, gradients, moments and EMA
    activations_per_clip: float
    clips: int  # on a device at a time
    days: float

    @property
    def memory(self) -> float:
        return self.states + self.clips * self.activations_per_clip

    @property
    def fits(self) -> bool:
        """Whether nine tenths of the memory are enough; the rest is the allocator's and the library's."""
        return self.memory <= 0.9 * self.hardware.memory

    @property
    def most_clips(self) -> int:
        """As many as fit at a time."""
        return max(0, int((0.9 * self.hardware.memory - self.states) // self.activations_per_clip))

    def line(self) -> str:
        """The estimate in a line."""
        return (
            f"{self.devices} x {self.hardware.name}: {self.parameters / 1e6:.0f} M parameters, "
            f"{self.clip_flops / 1e12:.2f} TFLOP a clip, {self.memory / GIB:.1f} GiB with {self.clips} clips at a time "
            f"(states {self.states / GIB:.1f}, {self.activations_per_clip / GIB:.2f} a clip; "
            f"{'fits' if self.fits else 'does not fit'}, at most {self.most_clips}), {self.days:.1f} days"
        )


def estimate(config: TrainConfig, hardware: str = "h100", devices: int = 8, utilisation: float = 0.4) -> Estimate:
    """What masked pretraining of a recipe takes.

    Args:
        config: with the masked term alone; its batch, steps, precision, `accumulate`, `shard` and
            `gradient_checkpointing` count.
        hardware: a key of `HARDWARE`.
        devices: processes, one device each.
        utilisation: share of the data sheet's rate that a step reaches (model-FLOP utilisation).

    Raises:
        ConfigError: for another recipe, unknown hardware, or a batch that the devices cannot share.
    """
    masked = _masked_alone(config)
    if hardware not in HARDWARE:
        raise ConfigError(f"hardware: expected one of {', '.join(HARDWARE)}, found {hardware!r}")
    parts = devices * config.train.accumulate
    if config.train.batch_size % parts:
        raise ConfigError(f"train.batch_size {config.train.batch_size}: expected a multiple of {parts} parts")
    device = HARDWARE[hardware]
    with torch.device("meta"):
        encoder = VideoEncoder(config.model.encoder)
        predictor = MaskedPredictor(config.model.predictor, config.model.encoder)
    target, other = (sum(p.numel() for p in part.parameters()) for part in (encoder, predictor))
    parameters = target + other
    used = passes(config, masked)
    clip_flops = masked.share * (sum(one.flops() for one in used) + _ends(config, used))
    saving = config.train.gradient_checkpointing
    kept = sum(one.share * one.tokens * one.depth * token_bytes(one, config) for one in used)
    if saving:  # and the one block that is being computed again
        kept += max(one.share * one.tokens * token_bytes(one, config, whole=True) for one in used)
    again = sum(one.flops() / 3 for one in used if one.times == 3.0) if saving else 0.0
    states = 4.0 * (4 * parameters + target) / (devices if config.train.shard else 1)  # float32: p, g, two moments, EMA
    work = config.train.steps * config.train.batch_size * (clip_flops + masked.share * again)
    seconds = work / (devices * device.flops * utilisation)
    clips = config.train.batch_size // parts
    return Estimate(device, devices, parameters, clip_flops, states, masked.share * kept, clips, seconds / 86400)


def passes(config: TrainConfig, masked: MaskedConfig) -> list[Pass]:
    """Every pass of a clip through encoder, EMA encoder and predictor.

    Unless packed, all samples of a batch keep as many tokens as the smallest mask of the batch: fewer, the more there
    are.
    """
    encoder, predictor = config.model.encoder, config.model.predictor
    grid = (config.data.frames // encoder.tubelet, *encoder.grid)
    tokens = grid[0] * grid[1] * grid[2]
    size = (encoder.width, encoder.depth, encoder.heads, encoder.mlp_ratio)
    small = (predictor.width, predictor.depth, predictor.heads, predictor.mlp_ratio)
    found = [Pass(*size, tokens, 1.0)]
    share = 1.0 / len(masked.kinds) if masked.split else 1.0
    generator = torch.Generator().manual_seed(0)
    for kind in masked.kinds:
        if masked.packed:
            ragged = sample_ragged_mask(kind, DRAWS, grid, generator)
            visible = sum(len(row) for row in ragged.visible) / DRAWS
            hidden = tokens - visible
        else:
            samples = max(1, round(share * masked.share * config.train.batch_size))
            draws = max(4, 8 * DRAWS // samples)
            drawn = [sample_mask(kind, samples, grid, generator) for _ in range(draws)]
            visible = sum(mask.visible.shape[1] for mask in drawn) / draws
            hidden = sum(mask.target.shape[1] for mask in drawn) / draws
        found += [Pass(*size, visible, 3.0, share), Pass(*small, visible + hidden, 3.0, share)]
    return found


def token_bytes(one: Pass, config: TrainConfig, *, whole: bool = False) -> float:
    """Bytes that one block keeps of one token for the gradient: counted on a block of this width on a CPU.

    `whole` asks for those of a block that is not checkpointed.
    """
    if one.times == 1.0:
        return 0.0
    bf16 = config.train.mixed_precision == "bf16"
    block = Block(one.width, one.heads, one.mlp_ratio).train()
    set_gradient_checkpointing(block, config.train.gradient_checkpointing and not whole)
    x = torch.randn(1, TOKENS, one.width).requires_grad_()
    with LivingBytes() as living, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = block(x)
        cast = sum(weight.numel() * 2 for weight in block.parameters() if weight.dim() > 1) if bf16 else 0
        kept = living.now - cast  # autocast's copies of the weights belong to the block, not to its tokens
    del out
    return float(kept) / TOKENS


def _ends(config: TrainConfig, used: list[Pass]) -> float:
    """FLOPs before and after the blocks: patches to tokens, tokens to the predictor and back."""
    encoder, predictor = config.model.encoder, config.model.predictor
    cell = encoder.channels * encoder.tubelet * encoder.patch**2
    total = 2.0 * used[0].tokens * cell * encoder.width
    for seen, asked in zip(used[1::2], used[2::2], strict=True):
        embed = seen.tokens * (cell + predictor.width) * encoder.width
        answer = (asked.tokens - seen.tokens) * predictor.width * encoder.width
        total += seen.share * 3 * 2.0 * (embed + answer)
    return total


def _masked_alone(config: TrainConfig) -> MaskedConfig:
    terms = config.objectives
    if terms.masked is None or any(term is not None for name, term in vars(terms).items() if name != "masked"):
        raise ConfigError("estimate: expected objectives.masked alone (pretraining), found another recipe")
    return terms.masked
