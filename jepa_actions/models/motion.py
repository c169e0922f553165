"""Read a motion off two grids of patch tokens: match every patch of one frame with the other frame's neighbourhood.

One windowed cross-attention whose values are *positions* turns two feature maps into a displacement and a confidence
per patch (a soft correspondence, as in the correlation layers of optical flow, arXiv 1504.06852). Few labels are then
enough, because only a small linear map from the motion field to the action is learned from them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError
from jepa_actions.nn import RowDropout


@dataclass(frozen=True)
class MotionConfig:
    """Size of a `MotionTrunk`."""

    radius: int = 3  # patches searched in each direction
    match_dim: int = 32  # width of the features that are matched
    pool: tuple[int, int] = (2, 3)  # cells per frame, rows and columns, over which motion is averaged
    hidden: int = 64
    scene: int = 16  # width per camera of the scene summary that gates the map from motion to action
    dropout: float = 0.3
    antisymmetric: bool = True  # exchanging the frames negates the answer: no motion, no action


class MotionTrunk(nn.Module):
    """Tokens of two frames -> `out_dim` numbers; several cameras lie side by side in the token axis."""

    positions: Tensor
    far: Tensor
    cells: Tensor

    def __init__(self, config: MotionConfig, dim: int, out_dim: int, grid: tuple[int, int], cameras: int) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        rows, cols = grid
        if config.pool[0] > rows or config.pool[1] > cols:
            raise ConfigError(f"inverse.motion.pool: found {config.pool}, expected at most the patch grid, {grid}")
        positions = torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).float()
        far = (positions[:, None] - positions[None]).abs().amax(-1) > config.radius
        cell = (positions[:, 0] * config.pool[0] // rows) * config.pool[1] + positions[:, 1] * config.pool[1] // cols
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("far", far, persistent=False)
        self.register_buffer("cells", F.one_hot(cell.long()).T.float().contiguous(), persistent=False)
        self.norm = nn.LayerNorm(dim)
        self.match = nn.Linear(dim, config.match_dim)
        self.log_sharpness = nn.Parameter(torch.tensor(10.0).log())
        self.confidence = nn.Linear(dim + 2, 1)
        self.scene = nn.ModuleList([nn.Linear(dim, config.scene) for _ in range(cameras)])
        self.gate = nn.Linear(config.scene * cameras, config.hidden)
        bias = not config.antisymmetric
        self.fc1 = nn.Linear(cameras * config.pool[0] * config.pool[1] * 2, config.hidden, bias=bias)
        self.fc2 = nn.Linear(config.hidden, out_dim, bias=bias)
        self.dropout = RowDropout(config.dropout)
        nn.init.normal_(self.gate.weight, std=0.02)
        nn.init.zeros_(self.gate.bias)

    def forward(self, z: Float[Tensor, "b n d"], z_later: Float[Tensor, "b n d"]) -> Float[Tensor, "b o"]:
        """Numbers that describe how the picture moved from z to z_later."""
        frames = z.shape[0] * self.cameras
        before, after = (self.norm(x).reshape(frames, -1, x.shape[-1]) for x in (z, z_later))
        gate = self._gate(((before + after) / 2).mean(1).unflatten(0, (-1, self.cameras)))
        one, two = (F.normalize(self.match(x), dim=-1) for x in (before, after))
        similarity = one @ two.transpose(1, 2)
        forth = self._read(before, similarity, gate)
        if not self.config.antisymmetric:
            return forth
        return (forth - self._read(after, similarity.transpose(1, 2), gate)) / 2

    def _gate(self, summary: Float[Tensor, "b c d"]) -> Float[Tensor, "b h"]:
        """How this scene's cameras turn motion into action; symmetric in the two frames."""
        parts = [torch.tanh(linear(summary[:, i])) for i, linear in enumerate(self.scene)]
        return 1.0 + torch.tanh(self.gate(self.dropout(torch.cat(parts, dim=-1))))

    def _read(
        self, tokens: Float[Tensor, "f p d"], similarity: Float[Tensor, "f p p"], gate: Float[Tensor, "b h"]
    ) -> Float[Tensor, "b o"]:
        scores = (similarity * self.log_sharpness.exp()).masked_fill(self.far, float("-inf"))
        weights = scores.softmax(-1)
        landing = weights @ self.positions  # where each patch is found again
        square = weights @ self.positions.square().sum(-1, keepdim=True)
        spread = square - landing.square().sum(-1, keepdim=True)
        quality = (weights * similarity).sum(-1, keepdim=True)
        trust = self.confidence(torch.cat([tokens, quality, spread], dim=-1)).clamp(-8, 8).exp()
        field = (self.cells @ ((landing - self.positions) * trust)) / (self.cells @ trust + 1e-3)
        motion = self.dropout(field.reshape(gate.shape[0], -1))
        out: Tensor = self.fc2(self.fc1(motion) * gate)
        return out
