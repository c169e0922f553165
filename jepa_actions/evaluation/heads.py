"""Train an inverse head on given states: for floors that see less than a pair, and ceilings that see the truth."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.data import ActionCodec
from jepa_actions.models import InverseConfig, InverseHead


@dataclass(frozen=True)
class FitBudget:
    """How long a fresh head is trained."""

    steps: int
    batch_size: int
    lr: float
    weight_decay: float


BUDGETS = {"mlp": FitBudget(1000, 256, 1e-3, 0.01), "motion": FitBudget(150, 32, 5e-3, 0.05)}


def fit_head(
    config: InverseConfig,
    codec: ActionCodec,
    before: Float[Tensor, "b n d"],
    after: Float[Tensor, "b n d"],
    actions: Float[Tensor, "b a"],
    known: Bool[Tensor, "b"],
    *,
    budget: FitBudget | None = None,
    seed: int = 0,
    grid: tuple[int, int] = (1, 1),
    cameras: int = 1,
) -> InverseHead:
    """A fresh head of the same form for q(a | before, after), trained on frozen states.

    Args:
        before, after: states of the pair; give one twice to learn what a single state tells.
        actions, known: model actions, and whether they are labelled.
        budget: AdamW with a cosine; by default that of the head's kind. The batch never exceeds the rows there are.
        grid, cameras: where latents are patches, how they lie in the picture.
    """
    budget = budget or BUDGETS[config.kind]
    rows = known.nonzero()[:, 0]
    before, after, actions = before[rows], after[rows], actions[rows]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = InverseHead(
            replace(config, max_gap=1),
            before.shape[1],
            before.shape[2],
            codec,
            grid=grid,
            cameras=cameras,
        )
        optimizer = torch.optim.AdamW(head.parameters(), lr=budget.lr, weight_decay=budget.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
        for _ in range(budget.steps):
            pick = torch.randint(0, len(rows), (min(budget.batch_size, len(rows)),), generator=generator)
            loss = head(before[pick], after[pick], torch.ones(len(pick), dtype=torch.int64)).loss(actions[pick]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()
