"""Train an inverse head on given states: for floors that see less than a pair, and ceilings that see the truth."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jepa_actions.data import ActionCodec
from jepa_actions.models import InverseConfig, InverseHead


def fit_head(
    config: InverseConfig,
    codec: ActionCodec,
    before: Float[Tensor, "b n d"],
    after: Float[Tensor, "b n d"],
    actions: Float[Tensor, "b a"],
    known: Bool[Tensor, "b"],
    *,
    steps: int = 1500,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
    grid: tuple[int, int] = (1, 1),
    cameras: int = 1,
) -> InverseHead:
    """A fresh head of the same form for q(a | before, after), trained on frozen states.

    Args:
        before, after: states of the pair; give one twice to learn what a single state tells.
        actions, known: model actions, and whether they are labelled.
        steps, batch_size, lr, seed: AdamW with a cosine; the batch never exceeds the rows there are.
        grid, cameras: where latents are patches, how they lie in the picture.
    """
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
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            pick = torch.randint(0, len(rows), (min(batch_size, len(rows)),), generator=generator)
            loss = head(before[pick], after[pick], torch.ones(len(pick), dtype=torch.int64)).loss(actions[pick]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()
