import pytest
import torch

from jepa_actions.errors import ConfigError
from jepa_actions.models import DynamicsConfig, LatentDynamics, make_dynamics
from jepa_actions.models.rollout_cache import Cache

KINDS = [
    {"kind": "mlp"},
    {"kind": "mlp", "history": 2},
    {"kind": "mlp", "history": 3},
    {"kind": "transformer", "heads": 2},
    {"kind": "transformer", "heads": 2, "history": 2},
    {"kind": "transformer", "heads": 2, "history": 3, "depth": 1},
]


def dynamics(**changes) -> LatentDynamics:
    torch.manual_seed(0)
    model = make_dynamics(DynamicsConfig(**{"width": 24, "depth": 2, **changes}), latents=3, dim=8, action_dim=2)
    with torch.no_grad():  # an untrained readout hardly moves the state; make what it says visible
        model.out.weight.mul_(20)
    return model.eval()


def sequence(t: int = 6, b: int = 2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(b, t, 3, 8, generator=generator), torch.randn(b, t, 2, generator=generator)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", KINDS)
def test_the_past_does_not_move_when_the_future_changes(settings):
    model, (z, a) = dynamics(**settings), sequence()
    out = model(z, a)
    z2, a2 = z.clone(), a.clone()
    z2[:, 3:] += 1.0
    a2[:, 3:] -= 1.0
    changed = model(z2, a2)
    close(changed[:, :3], out[:, :3])
    assert not torch.allclose(changed[:, 3], out[:, 3], atol=1e-2)


@pytest.mark.parametrize("settings", KINDS)
def test_the_action_of_a_step_changes_its_prediction(settings):
    model, (z, a) = dynamics(**settings), sequence()
    a2 = a.clone()
    a2[:, 2] += 1.0
    assert not torch.allclose(model(z, a2)[:, 2], model(z, a)[:, 2], atol=1e-3)


@pytest.mark.parametrize("settings", KINDS)
def test_a_rollout_is_repeated_single_steps(settings):
    model, (z, a) = dynamics(**settings), sequence()
    state, cache, states = z[:, 0], Cache((), 0), []
    for i in range(6):
        state, cache = model.step(state, a[:, i], cache)
        states.append(state)
    assert torch.equal(model.rollout(z[:, 0], a), torch.stack(states, dim=1))


@pytest.mark.parametrize("settings", KINDS)
def test_a_rollout_is_teacher_forcing_on_its_own_outputs(settings):
    model, (z, a) = dynamics(**settings), sequence()
    imagined = model.rollout(z[:, 0], a)
    forced = model(torch.cat([z[:, :1], imagined[:, :-1]], dim=1), a)
    close(forced, imagined)


@pytest.mark.parametrize("settings", KINDS)
def test_a_rollout_after_a_past_continues_teacher_forcing(settings):
    model, (z, a) = dynamics(**settings), sequence()
    cache = model.start(z[:, :3], a[:, :3])
    imagined = model.rollout(z[:, 3], a[:, 3:], cache)
    forced = model(torch.cat([z[:, :4], imagined[:, :-1]], dim=1), a)
    close(forced[:, 3:], imagined)


@pytest.mark.parametrize(("history", "reach"), [(1, 1), (2, 2), (3, 3)])
def test_one_layer_looks_at_history_states_and_no_further(history, reach):
    model, (z, a) = dynamics(kind="transformer", heads=2, history=history, depth=1), sequence()
    out = model(z, a)[:, -1]
    for age in range(6):
        z2 = z.clone()
        z2[:, 5 - age] += 1.0
        moved = not torch.allclose(model(z2, a)[:, -1], out, atol=1e-4)
        assert moved == (age < reach)


@pytest.mark.parametrize("history", [1, 2, 3])
def test_a_cache_holds_no_more_than_history_asks_for(history):
    model, (z, a) = dynamics(kind="transformer", heads=2, history=history), sequence()
    cache = model.start(z, a)
    assert cache.frames == 6
    assert [layer.key.shape[2] for layer in cache.layers] == [4 * (history - 1)] * (2 if history > 1 else 0)


def test_only_the_differences_of_times_count():
    model, (z, a) = dynamics(kind="transformer", heads=2, history=3), sequence(t=2)
    early = model.start(z[:, :1], a[:, :1])
    _, shifted = model.step(z[:, 0], a[:, 0], Cache((), 40))
    assert shifted.frames == 41
    assert not torch.allclose(shifted.layers[0].key, early.layers[0].key, atol=1e-3)
    close(model.step(z[:, 1], a[:, 1], shifted)[0], model.step(z[:, 1], a[:, 1], early)[0])


def test_no_change_learned_is_the_present_state():
    model, (z, a) = dynamics(kind="transformer", heads=2, history=2), sequence()
    torch.nn.init.zeros_(model.out.weight)
    assert torch.equal(model(z, a), z)


def test_an_mlp_with_a_history_sees_how_the_present_came_about():
    model = dynamics(kind="mlp", history=2)
    z, actions = sequence()
    forward = model(z, actions)
    changed = z.clone()
    changed[:, 1] += 1.0
    moved = (model(changed, actions) - forward).abs().amax((0, 2, 3)) > 1e-4
    assert moved.tolist() == [False, True, True, False, False, False], "the state itself and the one after it"
    still = model(z[:, :1], actions[:, :1])
    close(forward[:, :1], still)
    close(model(z[:, :1].expand(-1, 2, -1, -1), actions[:, :1].expand(-1, 2, -1))[:, 1:], still)


def test_a_bad_setting_of_an_mlp_is_named():
    with pytest.raises(ConfigError, match=r"dynamics\.kind mlp takes an action alone"):
        dynamics(kind="mlp", proprio=2)
