from dataclasses import replace

import pytest
import torch
from moving_dot import moving_dot
from tiny_world import tiny_batch, tiny_world

from jepa_actions.errors import ConfigError, DataError
from jepa_actions.models import Cache, DynamicsConfig, PoolerConfig
from jepa_actions.objectives import Forward, ForwardConfig, Inverse, InverseLossConfig, SigReg, SigRegConfig, Views
from jepa_actions.training import Ema

MEMORY = DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=2)


def run(model, batch, copy=None, **config):
    return Forward(ForwardConfig(**config))(model, Views(model, batch, copy), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("metric", "distance"), [("l2", torch.square), ("l1", torch.abs)])
def test_teacher_forcing_and_rollout_by_hand(metric, distance):
    model, batch = tiny_world(), tiny_batch()
    z = model.encode_frames(batch.frames)
    one = torch.stack([model.dynamics.step(z[:, i], batch.actions[:, i], Cache((), 0))[0] for i in range(3)], dim=1)
    expected = distance(one - z[:, 1:]).mean()
    loss, logs = run(model, batch, metric=metric, rollout=0.0)
    torch.testing.assert_close(loss, expected)
    assert "rollout_last" not in logs
    torch.testing.assert_close(logs["copy_last"], distance(z[:, 1:] - z[:, :-1]).mean().detach())
    imagined = model.dynamics.rollout(z[:, 0], batch.actions)
    later = distance(imagined[:, 1:] - z[:, 2:])
    loss, logs = run(model, batch, metric=metric, rollout=0.5)
    torch.testing.assert_close(loss, expected + 0.5 * later.mean())
    torch.testing.assert_close(logs["rollout_last"], later[:, -1].mean().detach())


def test_with_a_history_the_rollout_starts_once_it_is_full():
    model, batch = tiny_world(dynamics=MEMORY), tiny_batch(t=5)
    z = model.encode_frames(batch.frames)
    cache = model.dynamics.start(z[:, :1], batch.actions[:, :1])
    imagined = model.dynamics.rollout(z[:, 1], batch.actions[:, 1:], cache)
    _, logs = run(model, batch)
    torch.testing.assert_close(logs["rollout_last"], (imagined[:, -1] - z[:, 4]).square().mean().detach())


def test_unknown_actions_count_nowhere_and_end_a_rollout():
    known = torch.tensor([[True, True, True], [True, False, True], [False, False, False], [True, True, True]])
    model, batch = tiny_world(), tiny_batch(known=known)
    assert batch.actions is not None
    loss, _ = run(model, batch)
    wild = replace(batch, actions=batch.actions.masked_fill(~known[..., None], 50.0))
    torch.testing.assert_close(run(model, wild)[0], loss)
    z = model.encode_frames(batch.frames)
    one = (model.dynamics(z[:, :-1], batch.actions) - z[:, 1:]).square().mean((-2, -1))
    torch.testing.assert_close(run(model, batch, rollout=0.0)[0], one[known].mean())
    frames = {"image": batch.frames["image"].clone()}
    frames["image"][2] = 255 - frames["image"][2]  # the clip without labels
    torch.testing.assert_close(run(model, replace(batch, frames=frames))[0], loss)


@pytest.mark.parametrize(
    ("config", "encoder_learns"),
    [({}, True), ({"target": "stopgrad"}, True), ({"target": "ema"}, True), ({"detach": True}, False)],
)
def test_who_learns(config, encoder_learns):
    model = tiny_world().train()
    loss, _ = run(model, tiny_batch(), Ema(model, 0.9, 0.9, 10).target, **config)
    loss.backward()
    assert float(model.dynamics.out.weight.grad.norm()) > 0
    gradient = model.encoder.patch_embed.proj.weight.grad
    assert (gradient is not None and float(gradient.norm()) > 1e-8) == encoder_learns


def test_online_targets_have_a_gradient_and_stopped_ones_have_not():
    gradients = {}
    for target in ("online", "stopgrad"):
        model, batch = tiny_world(), tiny_batch()
        views = Views(model, batch)
        z = views.z.detach().requires_grad_()
        views.__dict__["z"] = z
        loss, _ = Forward(ForwardConfig(target=target, rollout=0.0))(model, views, torch.Generator())
        loss.backward()
        gradients[target] = float(z.grad[:, -1].norm())  # the last state is only ever a target
    assert gradients["stopgrad"] == 0.0
    assert gradients["online"] > 1e-6


def test_ema_targets_are_those_of_the_copy():
    model, batch = tiny_world(), tiny_batch()
    target = Ema(model, 0.9, 0.9, 10).target
    online = run(model, batch, target, target="ema")[0]
    torch.testing.assert_close(online, run(model, batch)[0])
    with torch.no_grad():
        target.encoder.patch_embed.proj.weight.mul_(3.0)
    assert not torch.allclose(run(model, batch, target, target="ema")[0], online)


@pytest.mark.parametrize("dynamics", [DynamicsConfig(width=48, depth=2), replace(MEMORY, width=32)])
def test_after_some_training_shuffled_actions_make_the_loss_worse(dynamics):
    model = tiny_world(dynamics=dynamics).train()
    terms = [
        (1.0, Forward(ForwardConfig())),
        (5.0, Inverse(InverseLossConfig())),
        (1.0, SigReg(SigRegConfig(directions=32))),
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(150):
        views = Views(model, moving_dot(24, 3, step))
        generator = torch.Generator().manual_seed(step)
        loss = sum(weight * term(model, views, generator)[0] for weight, term in terms)
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / 150)  # so that the pooler's running statistics settle
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = moving_dot(64, 3, 10_000)
    model.eval()
    with torch.no_grad():
        right, _ = run(model, test)
        wrong, _ = run(model, replace(test, actions=test.actions.roll(1, 0)))
        assert float(wrong) > 2 * float(right)
        assert float(Inverse(InverseLossConfig())(model, Views(model, test), torch.Generator())[1]["r2"]) > 0.5


def ac_world(proprio=3):
    pooler = PoolerConfig(kind="patches", dim=24, normalise=True)
    dynamics = DynamicsConfig(kind="ac", width=24, depth=1, heads=2, proprio=proprio, normalise=True)
    return tiny_world(pooler=pooler, dynamics=dynamics)


AC = {"metric": "l1", "rollout_steps": 2, "rollout_first": True, "detach": True, "target": "ema"}


def test_the_loss_of_vjepa_2_ac_by_hand():
    """z_3 is predicted from z_1 and the imagined z_2, with the recorded proprio, and compared with z_3."""
    model, batch = ac_world(), tiny_batch(t=5)
    batch = replace(batch, proprio=torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(3)))
    a, s = batch.actions, batch.proprio
    with torch.no_grad():
        z = model.encode_frames(batch.frames)
        forced = model.dynamics(z[:, :-1], a, s[:, :-1])
        second = forced[:, :1]
        third = model.dynamics(torch.cat([z[:, :1], second], 1), a[:, :2], s[:, :2])[:, 1:]
        imagined = torch.cat([second, third], 1)
        expected = (forced - z[:, 1:]).abs().mean() + (imagined - z[:, 1:3]).abs().mean()
    loss, logs = run(model, batch, Ema(model, 0.9, 0.9, 10).target, **AC)
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(logs["rollout_last"], (third[:, 0] - z[:, 2]).abs().mean())
    loss.backward()
    assert float(model.dynamics.proprio_in.weight.grad.norm()) > 0
    assert model.encoder.patch_embed.proj.weight.grad is None


def test_rollout_steps_end_the_rollout_early():
    model, batch = tiny_world(), tiny_batch(t=5)
    short = run(model, batch, rollout_steps=2)[1]["rollout_last"]
    z = model.encode_frames(batch.frames)
    imagined = model.dynamics.rollout(z[:, 0], batch.actions)
    torch.testing.assert_close(short, (imagined[:, 1] - z[:, 2]).square().mean().detach())
    assert torch.equal(run(model, batch, rollout_steps=9)[0], run(model, batch)[0])
    with pytest.raises(ConfigError, match=r"objectives\.forward\.rollout_steps: found 1, expected 0 or at least 2"):
        ForwardConfig(rollout_steps=1)


@pytest.mark.parametrize(("width", "found"), [(None, "none"), (5, "5")])
def test_proprio_that_the_data_lacks_is_named(width, found):
    batch = tiny_batch(t=5)
    batch = replace(batch, proprio=None if width is None else torch.zeros(4, 5, width))
    with pytest.raises(DataError, match=rf"model\.dynamics\.proprio: expected 3, found {found} in the data"):
        run(ac_world(), batch)


def test_steps_whose_proprio_is_unknown_count_nowhere():
    model = ac_world()
    batch = replace(tiny_batch(b=4, t=5), proprio=torch.randn(4, 5, 3))
    known = torch.ones(4, 5, dtype=torch.bool)
    known[2] = False
    losses = []
    for proprio in (batch.proprio, batch.proprio.masked_fill(~known[..., None], 50.0)):
        loss, _ = run(model, replace(batch, proprio=proprio, proprio_mask=known))
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]
