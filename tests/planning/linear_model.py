"""A linear system as a world model, and the true optimum of its bounded problems by projected gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Box:
    low: Tensor
    high: Tensor

    def project(self, actions: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(actions, self.low), self.high)


@dataclass
class Ball:
    """Every action within `radius` of zero; low and high are the box around it."""

    radius: float
    dim: int = 2

    @property
    def low(self) -> Tensor:
        return torch.full((self.dim,), -self.radius)

    @property
    def high(self) -> Tensor:
        return torch.full((self.dim,), self.radius)

    def project(self, actions: Tensor) -> Tensor:
        norm = actions.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return actions * (self.radius / norm).clamp_max(1.0)


@dataclass
class Latent:
    z: Tensor


class LinearModel:
    """x' = A x + B u; the context is x (p, d), and z is x with one token."""

    def __init__(self, bounds, dtype=torch.float32, transition=None, control=None):
        self.a = torch.tensor([[1.0, 0.2], [-0.1, 0.95]], dtype=dtype) if transition is None else transition.to(dtype)
        self.b = torch.tensor([[0.5, 0.1], [0.0, 0.4]], dtype=dtype) if control is None else control.to(dtype)
        self.action_bounds, self.action_dim = bounds, self.b.shape[1]
        self.seen: list[Tensor] = []

    def rollout(self, context, actions, generator=None):
        self.seen.append(actions)
        x = context[:, None].expand(-1, actions.shape[1], -1)
        states = []
        for t in range(actions.shape[2]):
            # sums written out: matmul may round differently for another batch size, and the tests ask for equality
            x = (self.a * x[..., None, :]).sum(-1) + (self.b * actions[:, :, t, None, :]).sum(-1)
            states.append(x)
        return Latent(torch.stack(states, dim=2).unsqueeze(-2))


def optimum(model, context, goal, cost, horizon, steps=600):
    """Cost and actions of the bounded problem's optimum: projected gradient with a small step, double precision."""
    exact = LinearModel(model.action_bounds, torch.float64, model.a, model.b)
    target = Latent(goal.z.double())
    actions = torch.zeros(context.shape[0], 1, horizon, model.action_dim, dtype=torch.float64)
    for _ in range(steps):
        actions.requires_grad_(True)
        value = cost(exact.rollout(context.double(), actions), target)
        (gradient,) = torch.autograd.grad(value.sum(), actions)
        actions = model.action_bounds.project((actions - 0.4 * gradient).detach()).double()
    return cost(exact.rollout(context.double(), actions), target)[:, 0], actions[:, 0]
