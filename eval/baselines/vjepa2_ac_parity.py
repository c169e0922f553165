"""Our V-JEPA 2-AC predictor beside the published module with the same weights: largest absolute difference.

    python eval/baselines/vjepa2_ac_parity.py --published CHECKOUT [--json OUT]

CHECKOUT is a clone of facebookresearch/vjepa2; its module is imported from there and nothing of it is kept here. Both
get the same random weights, latents, actions, proprio and extrinsics, in float32.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models.pretrained_ac import load_ac_predictor

GRIDS = ((4, 4), (3, 5), (5, 3), (1, 6), (16, 16))
FRAMES = (1, 2, 3, 5, 8)
PATCH, DIM, ACTION, HEAD_DIM = 16, 96, 7, 64
BAR = 1e-5


def published_predictor(checkout: Path, grid: tuple[int, int], extrinsics: bool, heads: int) -> Any:
    """The published module, as its `vit_ac_predictor` makes it, with weights that are not those of the start."""
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from src.models.ac_predictor import vit_ac_predictor

    predictor = vit_ac_predictor(
        img_size=(PATCH * grid[0], PATCH * grid[1]),
        patch_size=PATCH,
        num_frames=2 * max(FRAMES),
        tubelet_size=2,
        embed_dim=DIM,
        predictor_embed_dim=HEAD_DIM * heads,
        depth=3,
        num_heads=heads,
        action_embed_dim=ACTION,
        use_extrinsics=extrinsics,
    )
    with torch.no_grad():  # attention that looks somewhere, biases and norms that are not those of the start
        for parameter in predictor.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return predictor.eval()


@torch.no_grad()
def difference(checkout: Path, grid: tuple[int, int], frames: int, extrinsics: bool, heads: int = 2) -> dict[str, Any]:
    """One row: the largest absolute difference of teacher forcing, and of a rollout after all frames but the last."""
    torch.manual_seed(frames + 10 * grid[0] + extrinsics)
    theirs = published_predictor(checkout, grid, extrinsics, heads)
    ours = load_ac_predictor(theirs.state_dict(), grid=grid, heads=heads, extrinsics=extrinsics, normalise=False)
    patches = grid[0] * grid[1]
    z, actions, proprio = (
        torch.randn(2, frames, patches, DIM),
        torch.randn(2, frames, ACTION),
        torch.randn(2, frames, 7),
    )
    poses = torch.randn(2, frames, ACTION - 1) if extrinsics else None
    expected = theirs(z.flatten(1, 2), actions, proprio, poses).view(2, frames, patches, DIM)
    given = [x for x in (proprio, poses) if x is not None]
    cache = ours.start(z[:, :-1], actions[:, :-1], *[x[:, :-1] for x in given])
    last, _ = ours.step(z[:, -1], actions[:, -1], cache, *[x[:, -1] for x in given])
    return {
        "grid": f"{grid[0]}x{grid[1]}",
        "frames": frames,
        "extrinsics": extrinsics,
        "forward": float((ours(z, actions, *given) - expected).abs().max()),
        "cached": float((last - expected[:, -1]).abs().max()),
        "size": float(expected.abs().max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--published", type=Path, required=True, help="a checkout of facebookresearch/vjepa2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'grid':>6} {'frames':>6} {'extrinsics':>10} {'forward':>9} {'cached':>9}  (outputs reach)")
    for grid in GRIDS:
        for extrinsics in (False, True):
            for frames in FRAMES:
                row = difference(options.published, grid, frames, extrinsics)
                rows.append(row)
                print(
                    f"{row['grid']:>6} {frames:>6} {extrinsics!s:>10} {row['forward']:9.1e} {row['cached']:9.1e}  "
                    f"({row['size']:.1f})"
                )
    worst = max(max(row["forward"], row["cached"]) for row in rows)
    print(f"largest difference {worst:.1e}, bar {BAR:.0e}")
    if options.json is not None:
        report = {
            "metrics": {"max_abs_difference": worst},
            "bar": BAR,
            "rows": rows,
            "hardware": hardware(),
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
