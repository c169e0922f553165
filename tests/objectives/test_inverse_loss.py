from dataclasses import replace

import pytest
import torch
from tiny_world import tiny_batch, tiny_world

from jepa_actions.models import InverseConfig
from jepa_actions.objectives import Inverse, InverseLossConfig, Views

LONG = InverseConfig(width=24, max_gap=3)


def run(model, batch, seed: int = 0, **config):
    return Inverse(InverseLossConfig(**config))(model, Views(model, batch), torch.Generator().manual_seed(seed))


def by_hand(model, batch, k):
    """Mean loss of the first action on the way over k steps, over the steps whose action is known."""
    z = model.encode_frames(batch.frames)
    losses = []
    for b in range(len(z)):
        for t in range(z.shape[1] - k):
            if batch.action_mask[b, t]:
                q = model.inverse(z[b : b + 1, t], z[b : b + 1, t + k], torch.tensor([k]))
                losses.append(q.loss(batch.actions[b : b + 1, t]))
    return torch.cat(losses).mean()


def test_one_step_is_the_heads_loss_on_neighbouring_states():
    model, batch = tiny_world(), tiny_batch()
    loss, logs = run(model, batch)
    torch.testing.assert_close(loss, by_hand(model, batch, 1))
    torch.testing.assert_close(logs["k1"], loss.detach())
    assert "later" not in logs


def test_a_longer_way_is_drawn_and_asks_for_its_first_action():
    model, batch = tiny_world(inverse=LONG), tiny_batch()
    torch.nn.init.normal_(model.inverse.trunk.out.weight)
    expected = {k: by_hand(model, batch, k).detach() for k in (1, 2, 3)}
    drawn = set()
    for seed in range(8):
        loss, logs = run(model, batch, seed)
        (k,) = [k for k in (2, 3) if torch.allclose(logs["later"], expected[k], rtol=1e-4)]
        drawn.add(k)
        torch.testing.assert_close(loss.detach(), (expected[1] + expected[k]) / 2)
    assert drawn == {2, 3}


def test_a_clip_shorter_than_the_longest_way_uses_what_it_has():
    model = tiny_world(inverse=replace(LONG, max_gap=5))
    for seed in range(4):
        loss, _ = run(model, tiny_batch(t=3), seed)
        assert torch.isfinite(loss)


def test_a_batch_of_labelled_and_unlabelled_steps_uses_the_labelled_ones():
    known = torch.tensor([[True, True, True], [False, False, False], [True, False, False], [False, True, True]])
    model, batch = tiny_world(), tiny_batch(known=known)
    loss, logs = run(model, batch)
    torch.testing.assert_close(loss, by_hand(model, batch, 1))
    wild = replace(batch, actions=batch.actions.masked_fill(~known[..., None], 50.0))
    again, logs_again = run(model, wild)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(logs_again["r2"], logs["r2"])


def test_no_label_at_all_is_a_loss_of_zero():
    loss, _ = run(tiny_world(), tiny_batch(known=torch.zeros(4, 3, dtype=torch.bool)))
    assert float(loss.detach()) == 0.0


def test_r2_is_one_for_the_truth_and_zero_for_the_mean():
    model, batch = tiny_world(), tiny_batch()

    class Says:
        def __init__(self, mean):
            self.mean = mean

        def loss(self, value):
            return (value - self.mean).square().mean(-1)

    flat = batch.actions.flatten(0, 1)
    for mean, expected in ((flat, 1.0), (flat.mean(0).expand_as(flat), 0.0), (2 * flat.mean(0) - flat, -3.0)):
        model.inverse.forward = lambda z, later, gap, mean=mean: Says(mean)
        assert float(run(model, batch)[1]["r2"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("detach", [False, True])
def test_detach_leaves_the_encoder_alone(detach):
    model = tiny_world().train()
    run(model, tiny_batch(), detach=detach)[0].backward()
    assert float(model.inverse.trunk.out.weight.grad.norm()) > 0
    assert (model.encoder.patch_embed.proj.weight.grad is None) == detach
