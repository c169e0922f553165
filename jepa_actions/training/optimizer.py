"""AdamW with the groups that a recipe asks for."""

import torch
from torch import nn

from jepa_actions.models import WorldModel
from jepa_actions.training.config import TrainConfig


def make_optimizer(model: WorldModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW without weight decay on biases, norms, tokens and embeddings; heads at `head_lr` times the rate."""
    optim = config.train
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, parameter in learned:
        matrix = parameter.dim() >= 2 and not any(word in name for word in ("mask_tokens", "queries", "slots", "gap"))
        scale = (
            optim.head_lr
            if name.startswith(("dynamics.", "inverse.", "distance.", "goal_inverse.", "subgoal."))
            else 1.0
        )
        groups.setdefault((optim.weight_decay if matrix else 0.0, scale), []).append(parameter)
    listed = [{"params": members, "weight_decay": decay, "scale": scale} for (decay, scale), members in groups.items()]
    return torch.optim.AdamW(listed, lr=optim.lr, betas=optim.betas, fused=True)
