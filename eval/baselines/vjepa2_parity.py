"""Our V-JEPA 2 encoder and masked predictor beside the published modules with the same weights.

    python eval/baselines/vjepa2_parity.py --published CHECKOUT [--json OUT]

CHECKOUT is a clone of facebookresearch/vjepa2; its modules are imported from there and nothing of them is kept here.
Their random weights are saved as the release saves them and read by our loader, so that names are checked too. Rows
with a `note` are outside the bar: there the published module itself does not do what it should.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models import Architecture, EncoderConfig, PredictorConfig, Pretrained, load_vjepa2

PATCH, TUBELET, TOKENS = 16, 2, 6
SIZES = (  # width, depth, heads, mlp ratio; predictor width, depth, heads
    (192, 3, 3, 4.0, 96, 3, 3),
    (176, 3, 11, 48 / 11, 64, 2, 4),
    (96, 12, 6, 4.0, 48, 6, 3),
)
GRIDS = ((4, 4), (6, 6), (3, 5), (5, 2))
FRAMES = (2, 4, 8)
BAR = 1e-5


def published(checkout: Path, size: tuple[Any, ...], grid: tuple[int, int]) -> tuple[Any, Any]:
    """The published encoder and predictor, as their own constructors make them, every parameter moved."""
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from functools import partial

    from src.models.predictor import VisionTransformerPredictor
    from src.models.vision_transformer import VisionTransformer

    width, depth, heads, ratio, narrow, shallow, few = size
    shared = {
        "img_size": (PATCH * grid[0], PATCH * grid[1]),
        "patch_size": PATCH,
        "num_frames": max(FRAMES),
        "tubelet_size": TUBELET,
        "use_rope": True,
        "norm_layer": partial(torch.nn.LayerNorm, eps=1e-6),
    }
    encoder = VisionTransformer(embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=ratio, **shared)
    predictor = VisionTransformerPredictor(
        embed_dim=width,
        predictor_embed_dim=narrow,
        depth=shallow,
        num_heads=few,
        use_mask_tokens=True,
        num_mask_tokens=TOKENS,
        **shared,
    )
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *predictor.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder.eval(), predictor.eval()


def ours_from(encoder: Any, predictor: Any, size: tuple[Any, ...], grid: tuple[int, int]) -> Pretrained:
    """The same weights, through a file as the release writes it."""
    width, depth, heads, ratio, narrow, shallow, few = size
    image = (PATCH * grid[0], PATCH * grid[1])
    architecture = Architecture(
        EncoderConfig(image, PATCH, TUBELET, width, depth, heads, ratio),
        PredictorConfig(narrow, shallow, few, mask_tokens=TOKENS),
    )
    parts = {"target_encoder": encoder, "encoder": encoder, "predictor": predictor}
    content = {
        name: {f"module.backbone.{key}": value for key, value in part.state_dict().items()}
        for name, part in parts.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.pt"
        torch.save(content | {"epoch": 0, "opt": {}, "scaler": None}, path)
        return load_vjepa2(path, architecture=architecture)


def masks(batch: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Token numbers to see and to predict, unsorted, different in each sample."""
    order = torch.stack([torch.randperm(tokens) for _ in range(batch)])
    return order[:, : tokens // 3], order[:, tokens // 3 : tokens - 1]


def gap(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max())


@torch.no_grad()
def differences(checkout: Path, size: tuple[Any, ...], grid: tuple[int, int], frames: int) -> list[dict[str, Any]]:
    """One row per comparison at this size: the largest absolute difference, and how large the outputs are."""
    torch.manual_seed(1000 * size[0] + 10 * grid[0] + frames)
    encoder, predictor = published(checkout, size, grid)
    ours = ours_from(encoder, predictor, size, grid)
    clip = torch.randn(2, frames, 3, PATCH * grid[0], PATCH * grid[1])
    theirs = clip.transpose(1, 2)  # (b, c, t, h, w)
    tokens = frames // TUBELET * grid[0] * grid[1]
    pairs = [masks(2, tokens) for _ in range(2)]
    (visible, target), _ = pairs
    full, seen = encoder(theirs), encoder(theirs, [visible])
    several = encoder(theirs, [pair[0] for pair in pairs])
    both = torch.cat([pair[0] for pair in pairs])
    rows: list[tuple[str, float, Tensor, str]] = [
        ("encoder, all tokens", gap(ours.encoder(clip), full), full, ""),
        ("encoder, visible tokens", gap(ours.encoder(clip, visible), seen), seen, ""),
        ("encoder, two masks", gap(ours.encoder(torch.cat([clip, clip]), both), several), several, ""),
    ]
    square = grid[0] == grid[1]
    note = "" if square else "the published predictor counts as many columns as rows"
    worst, answer = 0.0, full
    for number in range(TOKENS):
        answer = predictor(seen, [visible], [target], mask_index=number)
        worst = max(worst, gap(ours.predictor(seen, visible, target, "short", mask_token=number), answer))
    rows.append(("predictor, every mask token", worst, answer, note))
    if not square:  # and nothing else is different about it
        miscounting = ours_from(encoder, predictor, size, (grid[0], grid[0])).predictor
        same = gap(miscounting(seen, visible, target, "short", mask_token=TOKENS - 1), answer)
        rows.append(("predictor, miscounting too", same, answer, ""))
    where = {"width": size[0], "depth": size[1], "heads": size[2], "grid": f"{grid[0]}x{grid[1]}", "frames": frames}
    return [
        where | {"what": what, "difference": value, "outputs_reach": float(output.abs().max()), "note": remark}
        for what, value, output, remark in rows
    ]


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--published", type=Path, required=True, help="a checkout of facebookresearch/vjepa2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the published code
    rows: list[dict[str, Any]] = []
    print(f"{'width':>5} {'depth':>5} {'grid':>5} {'frames':>6}  {'what':28} {'difference':>10}  (outputs reach)")
    for size in SIZES:
        for grid in GRIDS:
            for frames in FRAMES:
                for row in differences(options.published, size, grid, frames):
                    rows.append(row)
                    print(
                        f"{row['width']:5} {row['depth']:5} {row['grid']:>5} {row['frames']:6}  {row['what']:28} "
                        f"{row['difference']:10.1e}  ({row['outputs_reach']:.1f}) {row['note']}"
                    )
    worst = max(row["difference"] for row in rows if not row["note"])
    print(f"largest difference {worst:.1e}, bar {BAR:.0e}")
    if options.json is not None:
        report = {
            "metrics": {"max_abs_difference": worst},
            "bar": BAR,
            "published": subprocess.run(
                ["git", "-C", str(options.published), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
            ).stdout.strip(),
            "rows": rows,
            "hardware": hardware(),
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
