"""Weights, gradients and optimiser state in parts over the processes: FSDP2, torch's `fully_shard`.

Each transformer block of encoder and masked predictor is gathered when it runs and given back after; all other weights
are gathered once per step. Scalars, which `fully_shard` does not take, and a frozen backbone stay whole everywhere.
accelerate's own FSDP is not used: on a CPU it is DDP without a word, and its checkpoints are pickles.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from jepa_actions.errors import ConfigError
from jepa_actions.models import FrameBackbone, WorldModel
from jepa_actions.nn import Block, sum_over_processes
from jepa_actions.training.ema import Ema
from jepa_actions.training.module import TrainingModule


def shard_training(
    module: TrainingModule, ema: Ema, optimizer: torch.optim.Optimizer, device: torch.device
) -> torch.optim.Optimizer:
    """Shard model and EMA target in place, as they are filled, and return the optimiser of the shards.

    Args:
        module: model and objectives, on the device.
        ema: of the model; its target is sharded alike.
        optimizer: of the whole weights, with or without state, which is carried over.
        device: of this process.

    Raises:
        ConfigError: on a single process.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        raise ConfigError("train.shard: found one process, expected several (torchrun or accelerate launch)")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    names = {parameter: name for name, parameter in module.named_parameters()}
    whole = set(_kept_whole(module.model))
    for block in _blocks(module.model.encoder, module.model.predictor):
        fully_shard(block, mesh=mesh, ignored_params=whole)
    fully_shard(module, mesh=mesh, ignored_params=whole)
    for part in (ema.target.encoder, ema.target.pooler):
        if part is None or not any(True for _ in part.parameters()):
            continue
        for block in _blocks(part):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(part, mesh=mesh, reshard_after_forward=True)  # else its weights would stay gathered, and EMA miss
    return _optimizer_of_shards(optimizer, names, dict(module.named_parameters()))


def _blocks(*parts: nn.Module | None) -> Iterator[Block]:
    """The blocks that are only ever called as modules; those of the dynamics are also asked for keys and values."""
    for part in parts:
        for block in getattr(part, "blocks", ()):
            if isinstance(block, Block):
                yield block


def _kept_whole(model: WorldModel) -> Iterator[nn.Parameter]:
    yield from (parameter for parameter in model.parameters() if parameter.dim() == 0)
    if isinstance(model.encoder, FrameBackbone):
        yield from model.encoder.parameters()


def _optimizer_of_shards(
    old: torch.optim.Optimizer, names: dict[nn.Parameter, str], now: dict[str, nn.Parameter]
) -> torch.optim.Optimizer:
    """The same groups and state for the parameters that took the old ones' places."""
    groups = []
    for group in old.param_groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        members = [now[names[parameter]] for parameter in group["params"]]
        for kind in (True, False):  # one kernel takes shards or whole tensors, not both
            same = [parameter for parameter in members if isinstance(parameter, DTensor) is kind]
            if same:
                groups.append({**settings, "params": same})
    new = torch.optim.AdamW(groups)
    for parameter, state in old.state.items():
        assert isinstance(parameter, nn.Parameter)
        like = now[names[parameter]]
        new.state[like] = {key: placed(value, like) if value.dim() else value for key, value in state.items()}
    return new


def placed(tensor: Shaped[Tensor, "*s"], like: Shaped[Tensor, "*s"]) -> Shaped[Tensor, "*s"]:
    """A whole tensor where and as `like` is: in the same shards, on the same device, of the same type.

    Args:
        tensor: the same on every process.
    """
    if not isinstance(like, DTensor):
        return tensor.to(like)
    mesh: DeviceMesh = like.device_mesh
    return distribute_tensor(tensor.to(like.device, like.dtype), mesh, like.placements)


def whole(tensor: Shaped[Tensor, "*s"]) -> Shaped[Tensor, "*s"]:
    """The whole of a sharded tensor; others as they are. Every process must ask, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_model(model: WorldModel) -> WorldModel:
    """A model that is not sharded, on the CPU, with the same weights. Every process must ask."""
    tensors = {name: whole(tensor).detach().cpu() for name, tensor in model.state_dict().items()}
    backbone = model.encoder if isinstance(model.encoder, FrameBackbone) else None
    plain = WorldModel(model.config, model.codec, backbone=backbone)
    dtype = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    plain.to(dtype).load_state_dict(tensors)
    plain.extra = model.extra
    return plain


@torch.no_grad()
def average_whole_gradients(module: nn.Module) -> None:
    """Mean over processes of the gradients of what is not sharded; `fully_shard` does the others'."""
    for parameter in module.parameters():
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            parameter.grad.copy_(sum_over_processes(parameter.grad) / dist.get_world_size())


@torch.no_grad()
def clip_shards(module: nn.Module, largest: float) -> Float[Tensor, ""]:
    """Scale gradients to a norm of at most `largest` over all shards; returns the norm that they had."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    parts = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
    squares = [part.square().sum() for part in parts]
    sharded = [isinstance(gradient, DTensor) for gradient in gradients]
    own = torch.stack([square for square, split in zip(squares, sharded, strict=True) if split]).sum()
    total = sum_over_processes(own)
    for square, split in zip(squares, sharded, strict=True):
        total = total if split else total + square
    norm = total.sqrt()
    for part in parts:
        part.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
    return norm
