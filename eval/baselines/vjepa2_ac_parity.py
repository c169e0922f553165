"""Our V-JEPA 2-AC predictor beside the published module with the same weights: largest absolute difference.

    python eval/baselines/vjepa2_ac_parity.py --published CHECKOUT [--json OUT]

CHECKOUT is a clone of facebookresearch/vjepa2; its module is imported from there and nothing of it is kept here. Both
get the same random weights, latents, actions, proprio and extrinsics, in float32.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models.pretrained_ac import load_ac_predictor

GRIDS = ((4, 4), (3, 5), (5, 3), (1, 6), (16, 16))
FRAMES = tuple(range(1, 9))
SIZES = {"small": (128, 3, 2), "odd heads": (78, 6, 3), "released": (1024, 24, 16)}  # width, depth, heads
PATCH, ACTION = 16, 7
BAR = 1e-5


def published_predictor(checkout: Path, size: str, grid: tuple[int, int], extrinsics: bool) -> Any:
    """The published module, as its `vit_ac_predictor` makes it, with weights that are not those of the start."""
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from src.models.ac_predictor import vit_ac_predictor

    width, depth, heads = SIZES[size]
    predictor = vit_ac_predictor(
        img_size=(PATCH * grid[0], PATCH * grid[1]),
        patch_size=PATCH,
        num_frames=2 * max(FRAMES),
        tubelet_size=2,
        embed_dim=1408 if size == "released" else 96,
        predictor_embed_dim=width,
        depth=depth,
        num_heads=heads,
        action_embed_dim=ACTION,
        use_extrinsics=extrinsics,
    )
    with torch.no_grad():  # attention that looks somewhere, biases and norms that are not those of the start
        for parameter in predictor.parameters():
            parameter.add_(0.6 * parameter.shape[-1] ** -0.5 * torch.randn_like(parameter))
    return predictor.eval()


@torch.no_grad()
def difference(checkout: Path, size: str, grid: tuple[int, int], frames: int, extrinsics: bool) -> dict[str, Any]:
    """One row: the largest absolute difference of teacher forcing, and of one step after all frames but the last."""
    torch.manual_seed(frames + 10 * grid[0] + extrinsics)
    theirs = published_predictor(checkout, size, grid, extrinsics)
    ours = load_ac_predictor(
        theirs.state_dict(), grid=grid, heads=SIZES[size][2], extrinsics=extrinsics, normalise=False
    )
    z = torch.randn(2, frames, grid[0] * grid[1], ours.dim)
    actions, proprio = torch.randn(2, frames, ACTION), torch.randn(2, frames, ACTION)
    poses = torch.randn(2, frames, ACTION - 1) if extrinsics else None
    expected = theirs(z.flatten(1, 2), actions, proprio, poses).view_as(z)
    given = [x for x in (proprio, poses) if x is not None]
    cache = ours.start(z[:, :-1], actions[:, :-1], *[x[:, :-1] for x in given])
    last, _ = ours.step(z[:, -1], actions[:, -1], cache, *[x[:, -1] for x in given])
    return {
        "size": size,
        "grid": f"{grid[0]}x{grid[1]}",
        "frames": frames,
        "extrinsics": extrinsics,
        "forward": float((ours(z, actions, *given) - expected).abs().max()),
        "cached": float((last - expected[:, -1]).abs().max()),
        "outputs_reach": float(expected.abs().max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--published", type=Path, required=True, help="a checkout of facebookresearch/vjepa2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = [("small", grid, frames, extra) for grid in GRIDS for extra in (False, True) for frames in FRAMES]
    cases += [("odd heads", grid, 3, extra) for grid in GRIDS[:3] for extra in (False, True)]
    cases += [("released", GRIDS[1], 4, False)]
    rows = []
    print(f"{'size':>9} {'grid':>6} {'frames':>6} {'extrinsics':>10} {'forward':>9} {'cached':>9}  (outputs reach)")
    for case in cases:
        row = difference(options.published, *case)
        rows.append(row)
        print(
            f"{row['size']:>9} {row['grid']:>6} {row['frames']:>6} {row['extrinsics']!s:>10} {row['forward']:9.1e} "
            f"{row['cached']:9.1e}  ({row['outputs_reach']:.1f})"
        )
    worst = max(max(row["forward"], row["cached"]) for row in rows)
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
