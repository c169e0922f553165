"""One of several processes of a test: trains a tiny recipe and takes losses and gradients of shared rows.

Started with the variables that torchrun sets; `python two_process_worker.py OUT` writes `OUT/rank-R.safetensors`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tiny_world import ALL_TERMS, tiny_recipe
from torch import Tensor

from jepa_actions.nn import Standardise, gather_rows
from jepa_actions.objectives import SigRegConfig, VicRegConfig
from jepa_actions.objectives.anti_collapse import sigreg, vicreg
from jepa_actions.objectives.views import masked_mean
from jepa_actions.training import TrainConfig, train

# known actions: the first half of the rows has one, the second half five
KNOWN = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])


def rows() -> Tensor:
    return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))


def losses(share: slice) -> dict[str, tuple[Tensor, Tensor]]:
    """Each batch statistic of this process's share of the rows, and its gradient for a shared weight."""

    def standardised(x: Tensor) -> Tensor:
        target = torch.arange(float(len(rows()))).view(-1, 1, 1)[share]
        return (Standardise(5).train()(x) * target).square().mean()

    terms = {
        "sigreg": lambda x: sigreg(gather_rows(x).flatten(0, 1), SigRegConfig(), torch.Generator().manual_seed(0)),
        "vicreg std": lambda x: vicreg(gather_rows(x).flatten(0, 1), 2.0)[0],
        "vicreg cov": lambda x: vicreg(gather_rows(x).flatten(0, 1), 2.0)[1],
        "standardise": standardised,
        "masked mean": lambda x: masked_mean(x.square().mean(-1), KNOWN[share]),
    }
    found = {}
    for name, term in terms.items():
        weight = torch.linspace(0.5, 1.5, 5).requires_grad_()
        loss = term(rows()[share] * weight)
        loss.backward()
        assert weight.grad is not None
        found[name] = (loss.detach(), weight.grad)
    return found


def recipe(out: Path) -> TrainConfig:
    objectives = replace(ALL_TERMS, masked=None, vicreg=VicRegConfig(weight=0.1))
    return tiny_recipe(out, objectives, steps=4, log_every=1, checkpoint_every=0)


def main(out: Path) -> None:
    train(recipe(out), quiet=True)
    rank, world = dist.get_rank(), dist.get_world_size()
    share = slice(4 * rank // world, 4 * (rank + 1) // world)
    result = {"gathered": gather_rows(rows()[share])}
    for name, (loss, gradient) in losses(share).items():
        for kind, value in (("loss", loss), ("gradient", gradient)):
            dist.all_reduce(value)
            result[f"{name}/{kind}"] = value / world  # as DDP averages
    save_file(result, out / f"rank-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
