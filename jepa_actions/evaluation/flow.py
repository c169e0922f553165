"""Motion between neighbouring frames, and nothing of what they show: optical flow on a grid, by Lucas-Kanade."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

SHORT_SIDE = 32  # px that the shorter side of a frame is brought to, about: flow is pooled far coarser than that
LEVELS = 3  # of the pyramid, each half the size of the one below; a fourth has too few pixels for its windows
PASSES = 2  # at every level but the finest, which costs most and has least left to find
WINDOW = 7  # px, of the neighbourhood that moves together
NOISE = 4e-5  # variance of a gradient (grey values in 0..1) that is as good as none: there the flow is 0, not a guess
GRID = (4, 6)  # cells, rows and columns, over which flow is averaged
TOGETHER = 32  # pairs at once: what is between the steps stays small
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grey(frames: UInt8[Tensor, "t 3 h w"], short_side: int = SHORT_SIDE) -> Float[Tensor, "t 1 h2 w2"]:
    """Luma in 0..1, averaged down by a whole factor to about `short_side` px on the shorter side."""
    luma = torch.einsum("tchw,c->thw", frames.float(), torch.tensor(LUMA, device=frames.device) / 255.0)[:, None]
    factor = max(1, round(min(luma.shape[-2:]) / short_side))
    return F.avg_pool2d(luma, factor, ceil_mode=True, count_include_pad=False) if factor > 1 else luma


def optical_flow(
    before: Float[Tensor, "b 1 h w"], after: Float[Tensor, "b 1 h w"], *, levels: int = LEVELS, passes: int = PASSES
) -> Float[Tensor, "b 2 h w"]:
    """Displacement (x, y) in px that takes `before` to `after`, dense, coarse to fine (Lucas and Kanade 1981; Bouguet
    2000); found up to about a sixth of the shorter side. A neighbourhood that gets brighter does not move, and where
    there is no texture the flow is 0."""
    pyramid = [(before, after)]
    while len(pyramid) < levels and min(pyramid[-1][0].shape[-2:]) >= WINDOW:
        pyramid.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))
    flow = before.new_zeros(len(before), 2, *pyramid[-1][0].shape[-2:])
    for one, two in reversed(pyramid):
        if flow.shape[-2:] != one.shape[-2:]:
            flow = 2.0 * F.interpolate(flow, size=one.shape[-2:], mode="bilinear", align_corners=False)
        for _ in range(passes if one is not before else 1):
            # Half of the way from each frame: the flow of the pair turned round is then minus the flow.
            flow = flow + _step(warped(one, -flow / 2), warped(two, flow / 2))
    return flow


def motion_features(images: Float[Tensor, "t 1 h w"], grid: tuple[int, int] = GRID) -> Float[Tensor, "t-1 2gh*gw"]:
    """Mean flow (x of every cell, then y) in the cells of a grid, from each image to the next, in shares of the shorter
    side."""
    parts = []
    for start in range(0, len(images) - 1, TOGETHER):
        some = images[start : start + TOGETHER + 1]
        parts.append(F.adaptive_avg_pool2d(optical_flow(some[:-1], some[1:]), grid).flatten(1))
    return torch.cat(parts) / min(images.shape[-2:])


def warped(images: Float[Tensor, "b 1 h w"], flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 1 h w"]:
    """`images` looked up at each pixel plus `flow`, the border repeated."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    places = torch.stack([columns / max(width - 1, 1), rows / max(height - 1, 1)], dim=-1) * 2 - 1
    return F.grid_sample(images, places, padding_mode="border", align_corners=True)


def _step(one: Float[Tensor, "b 1 h w"], two: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2 h w"]:
    """One least-squares step: the shift, per neighbourhood, that explains `two - one` beside a change of brightness."""
    mean = F.pad((one + two) / 2, (1, 1, 1, 1), mode="replicate")
    x = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2
    y = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    t = two - one
    products = torch.cat([x, y, t, x * x, x * y, y * y, x * t, y * t], dim=1)
    pooled = _neighbourhood_mean(products)
    mx, my, mt, xx, xy, yy, xt, yt = pooled.unbind(1)
    # Covariances, not products: what is common to a neighbourhood in t is its brightness.
    xx, yy, xy = xx - mx * mx + NOISE, yy - my * my + NOISE, xy - mx * my
    xt, yt = xt - mx * mt, yt - my * mt
    determinant = xx * yy - xy * xy
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant[:, None]
    return step.clamp(-2.0, 2.0)  # px; more than that is beyond what the gradient tells


def _neighbourhood_mean(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Mean of the pixels in the WINDOW around each one, by running sums: far faster than pooling with stride 1."""
    for dim in (-1, -2):
        size = images.shape[dim]
        first = torch.arange(size, device=images.device) - WINDOW // 2
        low, high = first.clamp(min=0), (first + WINDOW).clamp(max=size)
        pad = (1, 0) if dim == -1 else (0, 0, 1, 0)
        sums = F.pad(images.cumsum(dim), pad)
        shape = (-1,) if dim == -1 else (-1, 1)
        count = (high - low).to(images.dtype).reshape(shape)
        images = (sums.index_select(dim, high) - sums.index_select(dim, low)) / count
    return images
