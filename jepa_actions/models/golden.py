"""Golden inputs and outputs: stored with the weights, recomputed by `jepa-actions verify`."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from jepa_actions.errors import CheckpointError
from jepa_actions.models.tensor_file import read_header, read_tensors
from jepa_actions.models.world_model import WorldModel

GOLDEN = "golden.safetensors"
# Of the largest absolute value of an output. Another processor, number of threads or version of torch moves float32
# outputs by 1e-6 to 1e-5 of it; TF32 by up to 1e-3.
TOLERANCE = 1e-3
VALUES = 4096  # of each output at most, evenly spaced
_MAX_BYTES = 64 << 20  # of the file


def golden_tensors(model: WorldModel) -> dict[str, Tensor]:
    """Inputs from a seeded generator (`in.*`) and what the model makes of them (`out.*`), on the CPU.

    Outputs are: `z` of two frames of noise; `next`, the state one dynamics step later; `inverse`, the mean of the
    inverse head between the two; `distance`, `goal_inverse` and `subgoal` likewise; each where the model has the part.
    """
    draw = torch.Generator().manual_seed(0)
    height, width = model.config.image_size
    tensors = {
        f"in.frames.{camera}": torch.randint(0, 256, (1, 2, 3, height, width), generator=draw, dtype=torch.uint8)
        for camera in model.config.cameras
    }
    if model.codec is not None:
        tensors["in.actions"] = torch.randn(1, 2, model.codec.action_dim, generator=draw)
        if model.config.dynamics.proprio:
            tensors["in.proprio"] = torch.randn(1, 2, model.config.dynamics.proprio, generator=draw)
    return tensors | _outputs(model, tensors)


@torch.no_grad()
def _outputs(model: WorldModel, given: dict[str, Tensor]) -> dict[str, Tensor]:
    training, device = model.training, next(model.parameters()).device
    modes = {name: part.training for name, part in model.named_modules()}
    model.eval()
    if model.dynamics is not None:
        model.dynamics.compile_rollouts(False)
    try:
        with torch.autocast(device.type, enabled=False):
            out = _computed(model, {name: tensor.to(device) for name, tensor in given.items()})
    finally:
        model.train(training)
        for name, part in model.named_modules():
            part.training = modes[name]
        if model.dynamics is not None:
            model.dynamics.compile_rollouts(model.config.rollout.compile)
    return {f"out.{name}": _some(value) for name, value in out.items()}


def _computed(model: WorldModel, given: dict[str, Tensor]) -> dict[str, Tensor]:
    z = model.encode_frames({camera: given[f"in.frames.{camera}"] for camera in model.config.cameras})
    now, then = z[:, 0], z[:, 1]
    out = {"z": z}
    if model.dynamics is not None and model.inverse is not None:
        actions, proprio = given["in.actions"], given.get("in.proprio")
        before = None if proprio is None else proprio[:, :1]
        at = None if proprio is None else proprio[:, 1]
        cache = model.dynamics.start(z[:, :1], actions[:, :1], before)
        out["next"] = model.dynamics.step(then, actions[:, 1], cache, at)[0]
        out["inverse"] = model.infer_actions(now, then, 1).mean
    if model.distance is not None:
        out["distance"] = model.distance(now, then)
    if model.goal_inverse is not None:
        out["goal_inverse"] = model.goal_actions(then, now, torch.ones(1, dtype=torch.int64, device=z.device), now).mean
    if model.subgoal is not None:
        out["subgoal"] = model.subgoal(now, then)
    return out


def _some(value: Tensor) -> Tensor:
    flat = value.detach().float().flatten().cpu()
    return flat[:: max(1, -(-flat.numel() // VALUES))].contiguous()


def write_golden(model: WorldModel, folder: Path) -> bool:
    """Write `golden.safetensors`; False, and nothing, for weights that are not finite: loading refuses those anyway."""
    tensors = golden_tensors(model)
    finite = all(bool(tensor.isfinite().all()) for name, tensor in tensors.items() if name.startswith("out."))
    if finite:
        (folder / GOLDEN).touch()
        mode = (folder / GOLDEN).stat().st_mode
        save_file(tensors, folder / GOLDEN)
        (folder / GOLDEN).chmod(mode)
    return finite


def golden_differences(model: WorldModel, folder: Path) -> dict[str, float]:
    """Output to its largest difference from what is stored, as a share of the largest absolute value stored.

    Raises:
        CheckpointError: where `golden.safetensors` is missing or damaged, too large, or not of this model.
    """
    path = folder / GOLDEN
    facts = read_header(path)
    size = sum(fact.bytes for fact in facts.values())
    fresh = golden_tensors(model)
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in fresh.items()}
    found = {name: (fact.shape, fact.dtype) for name, fact in facts.items()}
    if size > _MAX_BYTES or shapes != found:
        odd = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
        raise CheckpointError(f"{path}: is not of this model: {', '.join(odd)[:200] or f'{size} bytes'}")
    stored = read_tensors(path)
    again = _outputs(model, {name: tensor for name, tensor in stored.items() if name.startswith("in.")})
    differences = {}
    for name, tensor in again.items():
        scale = float(stored[name].abs().max()) + 1e-12
        worst = float((tensor - stored[name]).abs().max()) / scale
        differences[name.removeprefix("out.")] = worst if worst == worst else float("inf")
    return differences
