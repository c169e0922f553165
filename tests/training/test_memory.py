"""The memory of a step, part by part, against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jepa_actions.nn import Block, set_gradient_checkpointing
from jepa_actions.training.memory import LivingBytes, memory_report, size_of

WIDTH, ROWS = 64, 512


def report(module: nn.Module, x: torch.Tensor):
    optimizer = torch.optim.AdamW(module.parameters())

    def backward() -> None:
        module(x).square().sum().backward()

    backward()
    optimizer.step()
    return memory_report(module, module, optimizer, backward, torch.device("cpu"))


def test_a_linear_stack_keeps_what_its_gradient_needs():
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Tanh()) for _ in range(8)])
    found = report(layers, torch.randn(ROWS, WIDTH))
    weights = 8 * WIDTH * WIDTH * 4
    assert found.weights == found.gradients == found.target == weights
    assert found.optimizer == 2 * weights + 8 * 4  # two moments, and one step number for each weight
    activations = 8 * ROWS * WIDTH * 4  # tanh keeps its answer, which is the next layer's input
    assert activations <= found.activations <= 1.6 * activations
    assert found.total == sum((found.weights, found.gradients, found.optimizer, found.target, found.activations))
    assert found.line().startswith("memory ")


def test_gradient_checkpointing_is_seen():
    torch.manual_seed(0)
    blocks = nn.Sequential(*[Block(WIDTH, 4) for _ in range(6)]).train()
    x = torch.randn(8, 32, WIDTH)
    whole = report(blocks, x)
    set_gradient_checkpointing(blocks)
    again = report(blocks, x)
    assert again.activations < 0.4 * whole.activations
    assert again.weights == whole.weights


def test_views_and_what_is_gone_do_not_count():
    x = torch.randn(1000)
    with LivingBytes() as living:
        y = x * 2
        assert living.now == 4000
        z = y.view(10, 100)[2:]
        assert living.now == 4000
        y.add_(1)
        assert living.now == 4000
        del y, z
        assert living.now == 0
        _ = (x + 1).sum()
    assert living.peak == pytest.approx(4004, abs=8)
    assert size_of([x, x.view(10, 100)]) == 4000
