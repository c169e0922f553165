"""Video encoder with the V-JEPA 2 architecture: a pre-norm ViT over tubelets with a three-axis rotary embedding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ShapeError
from jepa_actions.nn import Block, Rotary, grid_positions, init_transformer, rotary_table


@dataclass(frozen=True)
class EncoderConfig:
    """Size of a `VideoEncoder`. The defaults are the laptop preset."""

    image_size: tuple[int, int] = (64, 64)  # height, width in pixels
    patch: int = 8  # pixels a side
    tubelet: int = 1  # frames per token in time; V-JEPA 2 uses 2
    width: int = 64
    depth: int = 2
    heads: int = 2
    mlp_ratio: float = 4.0
    channels: int = 3

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.patch < 1 or self.tubelet < 1:
            raise ShapeError(f"encoder.patch {self.patch} and encoder.tubelet {self.tubelet}: expected at least 1 each")
        if height % self.patch or width % self.patch:
            raise ShapeError(f"encoder.image_size {height}x{width} is not a multiple of encoder.patch {self.patch}")
        check_heads("encoder", self.width, self.heads)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per row."""
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch

    @property
    def patches(self) -> int:
        """Patches per frame."""
        return self.grid[0] * self.grid[1]


def check_heads(part: str, width: int, heads: int) -> None:
    """Raise a `ShapeError` where the channels of a head cannot carry a three-axis rotary embedding."""
    if heads < 1 or width % heads:
        raise ShapeError(f"{part}.width {width} is not a multiple of {part}.heads {heads}")
    channels = width // heads
    if channels < 6 or channels % 2:
        raise ShapeError(f"{part}.width / heads is {channels}: rotary embedding needs at least 6, and an even number")


class PatchEmbed(nn.Module):
    """Tubelet embedding. Holds a Conv3d's parameters (the published layout) and applies them as one matrix product."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = (config.tubelet, config.patch, config.patch)
        self.proj = nn.Conv3d(config.channels, config.width, kernel_size=size, stride=size)

    def forward(
        self, frames: Float[Tensor, "b t c h w"], visible: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b k d"]:
        """Embed every patch, or only the visible ones. A single frame fills the whole tubelet."""
        cells = self._cells(frames)
        if visible is not None:
            cells = take_tokens(cells, visible)
        return self._project(cells, single=frames.shape[1] == 1)

    def packed(self, frames: Float[Tensor, "b t c h w"], rows: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """Embed some patches of all clips; row i of clip j is numbered j * tokens per clip + i."""
        return self._project(self._cells(frames).flatten(0, 1)[rows], single=frames.shape[1] == 1)

    def _cells(self, frames: Tensor) -> Float[Tensor, "b n pixels"]:
        tubelet, patch, _ = self.proj.kernel_size
        b, t, c, h, w = frames.shape
        tubelet = min(tubelet, t)
        cells = frames.reshape(b, t // tubelet, tubelet, c, h // patch, patch, w // patch, patch)
        return cells.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(b, -1, c * tubelet * patch * patch)

    def _project(self, cells: Float[Tensor, "*b pixels"], single: bool) -> Float[Tensor, "*b d"]:
        weight = self.proj.weight
        if single:  # repeating a frame through the tubelet is summing the weights over time
            weight = weight.sum(2, keepdim=True)
        return F.linear(cells, weight.flatten(1), self.proj.bias)


class VideoEncoder(nn.Module):
    """Clips or single frames -> tokens.

    Sizes are free; the layout (`patch_embed`, `blocks`, `norm`) and the arithmetic follow V-JEPA 2 (arXiv 2506.09985).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList([Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        weight = self.patch_embed.proj.weight
        nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.patch_embed.proj.bias)  # type: ignore[arg-type]
        init_transformer(self.blocks)
        self._tables: dict[tuple[int, torch.device], Rotary] = {}

    def forward(
        self, frames: Float[Tensor, "b t c h w"], visible: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b k d"]:
        """Encode a clip jointly.

        Args:
            frames: normalised frames. T is 1 (the frame fills the tubelet) or a multiple of the tubelet.
            visible: token numbers (time, row, column in raster order) to encode; the rest never enter. None is all.

        Returns:
            Tokens of the visible places, in the order given, after the final norm.

        Raises:
            ShapeError: if the frames have another size, channel count or an incomplete tubelet.
        """
        self._check(frames)
        steps = 1 if frames.shape[1] == 1 else frames.shape[1] // self.config.tubelet
        rotary = self._rotary(steps, frames.device)
        if visible is not None:
            rotary = rotary.take(visible)
        x = self.patch_embed(frames, visible)
        for block in self.blocks:
            x = block(x, rotary)
        out: Tensor = self.norm(x)
        return out

    def packed(
        self,
        frames: Float[Tensor, "b t c h w"],
        visible: Sequence[Int[Tensor, "k"]],
        clips: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "k d"]]:
        """Encode sets of tokens of different sizes in one pass, none cut or padded: each as `forward` would alone.

        Args:
            frames: normalised frames, as for `forward`.
            visible: token numbers of each set.
            clips: the clip each set is taken from, so that one clip may have several; None is one each, in order.

        Returns:
            The tokens of each set, after the final norm.

        Raises:
            ShapeError: for frames as in `forward`, or where sets and clips are not equally many.
        """
        self._check(frames)
        clips = range(len(frames)) if clips is None else clips
        if len(visible) != len(clips):
            raise ShapeError(
                f"encoder visible: expected a set of tokens for each of {len(clips)} clips, found {len(visible)}"
            )
        lengths = tuple(len(ids) for ids in visible)
        steps = 1 if frames.shape[1] == 1 else frames.shape[1] // self.config.tubelet
        places = steps * self.config.patches
        x = self.patch_embed.packed(
            frames, torch.cat([ids + clip * places for ids, clip in zip(visible, clips, strict=True)])
        )
        rotary = self._rotary(steps, frames.device).take(torch.cat(list(visible)))
        for block in self.blocks:
            x = block(x, rotary, lengths=lengths)
        return list(self.norm(x).split(lengths))

    def encode_each(self, frames: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t p d"]:
        """Encode every frame alone, so that no token knows another frame: the control pass."""
        tokens: Tensor = self(frames.flatten(0, 1)[:, None])
        out: Tensor = tokens.unflatten(0, frames.shape[:2])
        return out

    def _rotary(self, steps: int, device: torch.device) -> Rotary:
        if (steps, device) not in self._tables:
            positions = grid_positions(steps, *self.config.grid, device=device)
            head_dim = self.config.width // self.config.heads
            self._tables[steps, device] = rotary_table(positions, head_dim, tiled=True)
        return self._tables[steps, device]

    def _check(self, frames: Tensor) -> None:
        expected = (self.config.channels, *self.config.image_size)
        if frames.dim() != 5 or tuple(frames.shape[2:]) != expected:
            raise ShapeError(
                f"encoder frames: expected (batch, time, {expected[0]}, {expected[1]}, {expected[2]}), "
                f"found {tuple(frames.shape)}"
            )
        steps = frames.shape[1]
        if steps == 0 or (steps != 1 and steps % self.config.tubelet):
            raise ShapeError(f"encoder frames: {steps} frames do not fill tubelets of {self.config.tubelet}")


def take_tokens(tokens: Float[Tensor, "b n d"], ids: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens with the given numbers, per sample."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))
