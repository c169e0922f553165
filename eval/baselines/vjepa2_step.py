"""A masked training step beside the published modules': clips/s in turns, peak memory, and that the losses agree.

    python eval/baselines/vjepa2_step.py --published CHECKOUT [--pairs 5] [--small] [--json OUT]

CHECKOUT is a clone of facebookresearch/vjepa2; its encoder, predictor and mask collator are imported from there and
nothing of them is kept here. Both sides have the same weights, clips, masks, precision and optimiser settings, and a
step is what `app/vjepa/train.py` calls one: targets of the EMA encoder, the context under both masks, the loss, the
gradient, AdamW and the EMA. The sides take turns; a ratio is the median over pairs. Peak memory is that of a process
of its own for each side, from after the imports. Beside the bar, and not part of it: both sides in bf16, and ours with
packed sequences, in which no mask is cut to the batch's smallest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.evaluation import commit, hardware
from jepa_actions.models import (
    ARCHITECTURES,
    Architecture,
    EncoderConfig,
    MaskedPredictor,
    PredictorConfig,
    VideoEncoder,
    take_tokens,
)
from jepa_actions.training import use_all_cores

# Size, frames, batch: the bar's, and one that takes seconds.
BASE = (ARCHITECTURES["vit_base_16_224"], 16, 2)
SMALL = (Architecture(EncoderConfig((64, 64), 16, 2, 96, 2, 3), PredictorConfig(48, 2, 3)), 8, 2)
BLOCKS = ((8, 0.15), (2, 0.7))  # number and share of the frame: configs/train/vitl16 and the others
LR, DECAY, BETAS, MOMENTUM = 1e-4, 0.04, (0.9, 0.999), 0.99925
Masks = list[tuple[Tensor, Tensor]]  # visible and hidden token numbers, (b, k) each, per kind


class Published:
    """Their modules, their loss, their optimiser and EMA as their training loop has them."""

    def __init__(self, checkout: Path, size: tuple[Architecture, int, int]) -> None:
        sys.path.insert(0, str(checkout))
        from functools import partial

        from src.masks.utils import apply_masks
        from src.models.predictor import VisionTransformerPredictor
        from src.models.vision_transformer import VisionTransformer

        (encoder, predictor), frames = (size[0].encoder, size[0].predictor), size[1]
        shared = {
            "img_size": encoder.image_size,
            "patch_size": encoder.patch,
            "num_frames": frames,
            "tubelet_size": encoder.tubelet,
            "use_rope": True,
            "use_sdpa": True,
            "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        }
        torch.manual_seed(0)
        form = {"embed_dim": encoder.width, "depth": encoder.depth, "num_heads": encoder.heads}
        self.encoder, self.target = (VisionTransformer(**form, **shared) for _ in range(2))
        self.target.load_state_dict(self.encoder.state_dict())
        self.target.requires_grad_(False)
        self.predictor = VisionTransformerPredictor(
            embed_dim=encoder.width,
            predictor_embed_dim=predictor.width,
            depth=predictor.depth,
            num_heads=predictor.heads,
            use_mask_tokens=True,
            num_mask_tokens=2,
            **shared,
        )
        self.apply_masks = apply_masks
        self.optimizer = torch.optim.AdamW(groups(self.encoder, self.predictor), lr=LR, betas=BETAS)

    def loss(self, clips: Tensor, masks: Masks) -> Tensor:
        clips = clips.transpose(1, 2)  # (b, c, t, h, w)
        with torch.no_grad():
            whole = self.target(clips)
            whole = F.layer_norm(whole, (whole.size(-1),))
        answers = []
        for visible, _ in masks:
            answers.append(self.encoder(clips, masks=visible))
        answers = [
            self.predictor(tokens, visible, hidden, mask_index=0)
            for tokens, (visible, hidden) in zip(answers, masks, strict=True)
        ]
        targets = self.apply_masks(whole, [hidden for _, hidden in masks], concat=False)
        losses = [torch.mean(torch.abs(z - h) ** 1.0) / 1.0 for z, h in zip(answers, targets, strict=True)]
        return sum(losses) / len(losses)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        online, target = list(self.encoder.parameters()), list(self.target.parameters())
        with torch.no_grad():
            torch._foreach_mul_(target, MOMENTUM)
            torch._foreach_add_(target, online, alpha=1 - MOMENTUM)


class Ours:
    """The modules of this package, used as `objectives.masked` and `training` use them."""

    def __init__(self, size: tuple[Architecture, int, int]) -> None:
        torch.manual_seed(0)
        encoder, predictor = size[0].encoder, size[0].predictor
        self.encoder, self.target = VideoEncoder(encoder), VideoEncoder(encoder)
        self.predictor = MaskedPredictor(predictor, encoder)
        self.target.load_state_dict(self.encoder.state_dict())
        self.target.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(groups(self.encoder, self.predictor), lr=LR, betas=BETAS, fused=True)

    def take_weights(self, theirs: Published) -> None:
        """Start where the other side starts."""
        self.encoder.load_state_dict(theirs.encoder.state_dict())
        self.target.load_state_dict(theirs.target.state_dict())
        renamed = {}
        for name, tensor in theirs.predictor.state_dict().items():
            renamed[
                name.removeprefix("predictor_") if name.startswith(("predictor_blocks", "predictor_norm")) else name
            ] = tensor
        kept = self.predictor.state_dict()
        renamed |= {name: kept[name] for name in kept if name.startswith("mask_tokens") and name not in renamed}
        self.predictor.load_state_dict(renamed)

    def targets(self, clips: Tensor) -> Tensor:
        with torch.no_grad():
            whole = self.target(clips)
            return F.layer_norm(whole, whole.shape[-1:])

    def loss(self, clips: Tensor, masks: Masks) -> Tensor:
        targets, losses = self.targets(clips), []
        for visible, hidden in masks:
            answer = self.predictor(self.encoder(clips, visible), visible, hidden, "short", mask_token=0)
            losses.append((answer - take_tokens(targets, hidden)).abs().mean())
        return torch.stack(losses).mean()

    def packed_loss(self, clips: Tensor, masks: list[tuple[list[Tensor], list[Tensor]]]) -> Tensor:
        """The same on whole masks, `(k,)` per sample, all in one pass."""
        targets = self.targets(clips)
        visible, hidden = ([ids for mask in masks for ids in mask[i]] for i in range(2))
        sources = [clip for mask in masks for clip in range(len(mask[0]))]
        tokens = self.encoder.packed(clips, visible, sources)
        answers = self.predictor.packed(tokens, visible, hidden, ["short"] * len(tokens), mask_token=0)
        errors = [
            (answer - targets[clip][ids]).abs() for answer, clip, ids in zip(answers, sources, hidden, strict=True)
        ]
        per_kind = [torch.cat(errors[i : i + len(clips)]).mean() for i in range(0, len(errors), len(clips))]
        return torch.stack(per_kind).mean()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.encoder.parameters()), 1 - MOMENTUM)


def groups(*modules: nn.Module) -> list[dict[str, Any]]:
    """Weight decay on matrices alone."""
    parameters = [named for module in modules for named in module.named_parameters()]
    plain = [p for name, p in parameters if "bias" in name or p.dim() == 1]
    decayed = [p for name, p in parameters if not ("bias" in name or p.dim() == 1)]
    return [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]


class Draw:
    """Clips of noise and the masks of the published collator, the same for both sides."""

    def __init__(self, checkout: Path, size: tuple[Architecture, int, int]) -> None:
        if str(checkout) not in sys.path:
            sys.path.insert(0, str(checkout))
        from src.masks.multiseq_multiblock3d import _MaskGenerator

        encoder, self.frames, self.batch = size[0].encoder, size[1], size[2]
        self.shape = (self.batch, self.frames, encoder.channels, *encoder.image_size)
        self.tokens = encoder.patches * self.frames // encoder.tubelet
        self.makers = [
            _MaskGenerator(
                crop_size=encoder.image_size,
                num_frames=self.frames,
                spatial_patch_size=(encoder.patch,) * 2,
                temporal_patch_size=encoder.tubelet,
                spatial_pred_mask_scale=(share, share),
                temporal_pred_mask_scale=(1.0, 1.0),
                aspect_ratio=(0.75, 1.5),
                npred=blocks,
            )
            for blocks, share in BLOCKS
        ]

    def __call__(self, step: int) -> tuple[Tensor, Masks]:
        torch.manual_seed(step)
        return torch.randn(self.shape), [maker(self.batch) for maker in self.makers]

    def whole(self, step: int) -> tuple[Tensor, list[tuple[list[Tensor], list[Tensor]]]]:
        """The same clips with masks of the same block sizes before they are cut, each sample drawn alone."""
        torch.manual_seed(step)
        clips, masks = torch.randn(self.shape), []
        for maker in self.makers:
            counter = maker._itr_counter.value
            hidden, visible = [], []
            for _ in range(self.batch):
                maker._itr_counter.value = counter  # one block size for the batch
                seen, asked = maker(1)
                visible.append(seen[0])
                hidden.append(asked[0])
            masks.append((visible, hidden))
        return clips, masks


def seconds(
    side: Published | Ours, loss: Callable[..., Tensor], given: tuple[Any, Any], bf16: bool
) -> tuple[float, float]:
    """One training step: its time and its loss."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        value = loss(*given)
    value.backward()
    side.update()
    return time.perf_counter() - began, float(value.detach())


def in_turns(theirs: Published, ours: Ours, draw: Draw, pairs: int, bf16: bool) -> dict[str, Any]:
    """Paired steps on the same draws; which side begins alternates."""
    rows = []
    for step in range(pairs + 1):  # the first warms up, and compares the losses of equal weights
        given, found = draw(step), {}
        sides: list[tuple[str, Published | Ours]] = [("published", theirs), ("ours", ours)]
        for name, side in sides if step % 2 else sides[::-1]:
            found[name] = seconds(side, side.loss, given, bf16)
        rows.append(found)
    times = {name: [row[name][0] for row in rows[1:]] for name in ("published", "ours")}
    return {
        "clips_per_second": {name: draw.batch / statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(a / b for a, b in zip(times["published"], times["ours"], strict=True)),
        "ratios": [a / b for a, b in zip(times["published"], times["ours"], strict=True)],
        "first_loss_difference": abs(rows[0]["published"][1] - rows[0]["ours"][1]),
        "largest_loss_difference": max(abs(row["published"][1] - row["ours"][1]) for row in rows),
        "seconds": times,
    }


def packing(ours: Ours, draw: Draw, pairs: int) -> dict[str, float]:
    """Ours with whole masks in one pass beside ours with cut masks: time, and how many tokens more it learns from."""
    ratios, more = [], []
    for step in range(100, 100 + pairs + 1):
        for maker in draw.makers:
            maker._itr_counter.value = step
        cut, whole = draw(step), draw.whole(step)
        alone = seconds(ours, ours.loss, cut, False)[0]
        ratios.append(alone / seconds(ours, ours.packed_loss, whole, False)[0])
        kept = sum(v.numel() + h.numel() for v, h in cut[1])
        more.append(sum(len(ids) for mask in whole[1] for part in mask for ids in part) / kept)
    return {"packed_ratio": statistics.median(ratios[1:]), "packed_tokens_ratio": statistics.median(more[1:])}


def peak_memory(checkout: Path, size: tuple[Architecture, int, int], name: str, bf16: bool) -> float:
    """MB that this process grew by, at most, over three steps of one side: weights, gradients, moments, activations."""
    draw = Draw(checkout, size)
    given = [draw(step) for step in range(3)]

    def build(which: tuple[Architecture, int, int]) -> Published | Ours:
        return Published(checkout, which) if name == "published" else Ours(which)

    side = build(SMALL)  # what is imported at first use is nobody's peak
    seconds(side, side.loss, Draw(checkout, SMALL)(0), bf16)
    del side
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: importing torch has one too
    before = resident("VmRSS")
    side = build(size)
    for clips, masks in given:
        seconds(side, side.loss, (clips, masks), bf16)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """MB of memory that this process holds (VmRSS) or held at most (VmHWM), from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak_in_a_process(options: argparse.Namespace, name: str) -> float:
    """`peak_memory` in a fresh interpreter."""
    command = [sys.executable, __file__, "--published", str(options.published), "--threads", str(options.threads)]
    command += ["--peak-of", name, *(["--small"] if options.small else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--published", type=Path, required=True, help="a checkout of facebookresearch/vjepa2")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 is all cores")
    parser.add_argument("--small", action="store_true", help="a size that takes seconds, for which there is no bar")
    parser.add_argument("--only-bar", action="store_true", help="leave out what bf16 and packing add")
    parser.add_argument("--peak-of", choices=("published", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.perf_counter()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the published code
    options.threads = options.threads or use_all_cores()
    torch.set_num_threads(options.threads)
    size = SMALL if options.small else BASE
    if options.peak_of:
        print(peak_memory(options.published, size, options.peak_of, bf16=False))
        return 0
    draw, theirs, ours = Draw(options.published, size), Published(options.published, size), Ours(size)
    ours.take_weights(theirs)
    same = in_turns(theirs, ours, draw, options.pairs, bf16=False)
    peaks = {name: peak_in_a_process(options, name) for name in ("published", "ours")}
    metrics = {
        "clips_per_second_ratio": same["ratio"],
        "peak_memory_ratio": peaks["ours"] / peaks["published"],
        **{f"clips_per_second_{name}": value for name, value in same["clips_per_second"].items()},
        **{f"peak_mb_{name}": value for name, value in peaks.items()},
        "first_loss_difference": same["first_loss_difference"],
        "largest_loss_difference": same["largest_loss_difference"],
    }
    rows = {"float32": same}
    if not options.only_bar:
        rows["bf16"] = in_turns(theirs, ours, draw, options.pairs, bf16=True)
        metrics["bf16_clips_per_second_ratio"] = rows["bf16"]["ratio"]
        metrics["bf16_over_float32"] = rows["bf16"]["clips_per_second"]["ours"] / same["clips_per_second"]["ours"]
        metrics |= packing(ours, draw, options.pairs)
    for name, value in metrics.items():
        print(f"{name:34} {value:10.4g}")
    passed = metrics["clips_per_second_ratio"] >= 1.0 and metrics["peak_memory_ratio"] <= 1.0
    passed = passed and metrics["first_loss_difference"] <= 1e-4
    print("bars: at least 1.0 times the clips/s, no more memory, losses of equal weights within 1e-4:", passed)
    if options.json is not None:
        published = ["git", "-C", str(options.published), "rev-parse", "HEAD"]
        report = {
            "metrics": metrics,
            "rows": rows,
            "size": "small" if options.small else "ViT-B/16, 16 frames at 224, batch 2",
            "published": subprocess.run(published, capture_output=True, text=True, check=True).stdout.strip(),
            "hardware": hardware(),
            "seconds_total": time.perf_counter() - began,
            "commit": commit(),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if passed or options.small else 1


if __name__ == "__main__":
    sys.exit(main())
