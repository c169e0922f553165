import torch
from tiny_world import tiny_world

from jepa_actions.training import Ema


def test_it_starts_as_a_copy_that_nothing_trains():
    model = tiny_world().train()
    ema = Ema(model, 0.9, 0.99, 10)
    online = model.encoder.state_dict()
    for name, tensor in ema.target.encoder.state_dict().items():
        assert torch.equal(tensor, online[name])
        assert tensor.data_ptr() != online[name].data_ptr()
    assert not any(parameter.requires_grad for parameter in ema.target.parameters())
    assert not ema.target.training


def test_it_moves_by_its_momentum_towards_the_online_weights():
    model = tiny_world()
    ema = Ema(model, 0.75, 0.75, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {name: weight.clone() for name, weight in ema.target.pooler.named_parameters()}
    after = dict(model.pooler.named_parameters())
    ema.update(0)
    for name, parameter in ema.target.pooler.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.25 * (after[name] - before[name]))
    ema_weight, weight = ema.target.encoder.norm.weight, model.encoder.norm.weight
    torch.testing.assert_close(weight - ema_weight, torch.full_like(weight, 0.75))


def test_buffers_are_copied_not_averaged():
    model = tiny_world()
    ema = Ema(model, 0.99, 0.99, 10)
    model.pooler.standardise.mean.fill_(3.0)
    ema.update(0)
    assert torch.equal(ema.target.pooler.standardise.mean, model.pooler.standardise.mean)


def test_momentum_rises_linearly_to_its_end_and_stays():
    ema = Ema(tiny_world(), 0.9, 1.0, 11)
    assert [round(ema.momentum(step), 6) for step in (0, 5, 10, 50)] == [0.9, 0.95, 1.0, 1.0]


def test_a_momentum_of_one_never_moves():
    model = tiny_world()
    ema = Ema(model, 1.0, 1.0, 10)
    before = ema.target.encoder.norm.weight.clone()
    with torch.no_grad():
        model.encoder.norm.weight.add_(1.0)
    ema.update(3)
    assert torch.equal(ema.target.encoder.norm.weight, before)
