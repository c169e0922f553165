"""Rollouts that reuse work: any number of candidates, any conditioning, the same numbers as recomputing everything."""

import pytest
import torch

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.models import DynamicsConfig, LatentDynamics, make_dynamics
from jepa_actions.models.rollout_cache import Cache

GRID, DIM, ACTION, PROPRIO, POSE = (2, 3), 8, 2, 4, 6
SETTINGS = [
    {"kind": "transformer"},
    {"kind": "transformer", "history": 2},
    {"kind": "transformer", "history": 3, "proprio": PROPRIO},
    {"kind": "transformer", "conditioning": "adaln", "history": 3},
    {"kind": "transformer", "conditioning": "adaln", "history": 20, "proprio": PROPRIO, "extrinsics": POSE},
    {"kind": "ac", "proprio": PROPRIO},
    {"kind": "ac", "proprio": PROPRIO, "extrinsics": POSE, "normalise": True},
    {"kind": "ac", "history": 2},
    {"kind": "ac", "history": 1},
]


def dynamics(**settings) -> LatentDynamics:
    torch.manual_seed(0)
    config = DynamicsConfig(**{"width": 24, "depth": 2, "heads": 2, **settings})
    model = make_dynamics(config, 6, DIM, ACTION, grid=GRID)
    with torch.no_grad():  # gates are not zero, and predictions depend on what they should
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def paths(model, *leading):
    """Actions, and proprio and extrinsics where the model has them."""
    generator = torch.Generator().manual_seed(1)
    widths = (ACTION, model.config.proprio, model.config.extrinsics)
    return [torch.randn(*leading, width, generator=generator) if width else None for width in widths]


def states(*leading):
    return torch.randn(*leading, 6, DIM, generator=torch.Generator().manual_seed(2))


def cut(given, *index):
    return [None if x is None else x[index] for x in given]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


ALL = slice(None)


def recomputed(model, z, past, given):
    """Every candidate by itself, and at every step the whole sequence again."""
    out = []
    for p in range(given[0].shape[0]):
        for s in range(given[0].shape[1]):
            seen = z[p : p + 1]
            for i in range(given[0].shape[2]):
                both = [
                    None if x is None else torch.cat([x[p : p + 1, : z.shape[1] - 1], y[p : p + 1, s, : i + 1]], 1)
                    for x, y in zip(past, given, strict=True)
                ]
                seen = torch.cat([seen, model(seen, *both)[:, -1:]], dim=1)
            out.append(seen[0, z.shape[1] :])
    return torch.stack(out).unflatten(0, given[0].shape[:2])


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_cached_rollout_of_many_candidates_is_the_sequence_recomputed(settings, frames, recording):
    model = dynamics(**settings)
    z, past, given = states(2, frames), paths(model, 2, frames), paths(model, 2, 3, 5)
    with torch.set_grad_enabled(recording):
        cache = model.start(z[:, :-1], *cut(past, ALL, slice(frames - 1)))
        found = model.imagine(z[:, -1], given[0], cache, *given[1:])
    with torch.no_grad():
        close(found, recomputed(model, z, past, given))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_rollout_is_repeated_single_steps(settings):
    model = dynamics(**settings)
    z, given = states(2), paths(model, 2, 5)
    state, cache, expected = z, Cache((), 0), []
    for i in range(5):
        action, *rest = cut(given, ALL, i)
        state, cache = model.step(state, action, cache, *rest)
        expected.append(state)
    for recording in (False, True):
        with torch.set_grad_enabled(recording):
            close(model.rollout(z, given[0], None, *given[1:]), torch.stack(expected, dim=1))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_cache_is_not_used_up(settings):
    model = dynamics(**settings)
    z, past, given = states(1, 3), paths(model, 1, 3), paths(model, 1, 2, 4)
    with torch.no_grad():
        cache = model.start(z[:, :2], *cut(past, ALL, slice(2)))
        first = model.imagine(z[:, 2], given[0], cache, *given[1:])
        model.imagine(z[:, 2] + 1, given[0] - 1, cache, *given[1:])
        assert torch.equal(model.imagine(z[:, 2], given[0], cache, *given[1:]), first)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_present_depends_on_everything_it_is_given(settings):
    model = dynamics(**settings)
    z, given = states(1, 3), paths(model, 1, 3)
    out = model(z, *given)
    for place, x in enumerate(given):
        if x is not None:
            moved = [y if i != place else x + 1.0 for i, y in enumerate(given)]
            assert not torch.allclose(model(z, *moved)[:, 0], out[:, 0], atol=1e-3)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_past_does_not_move_when_the_future_changes(settings):
    model = dynamics(**settings)
    z, given = states(1, 4), paths(model, 1, 4)
    later = [x if x is None else torch.cat([x[:, :2], x[:, 2:] + 1], 1) for x in (z, *given)]
    close(model(*later)[:, :2], model(z, *given)[:, :2])


def test_rollouts_learn_through_the_shared_past():
    model = dynamics(kind="ac", proprio=PROPRIO)
    z, past, given = states(1, 3).requires_grad_(), paths(model, 1, 3), paths(model, 1, 2, 3)
    given[0].requires_grad_()
    cache = model.start(z[:, :2], *cut(past, ALL, slice(2)))
    model.imagine(z[:, 2], given[0], cache, *given[1:])[:, :, -1].square().sum().backward()
    assert (z.grad.abs().amax((2, 3)) > 0).all()
    assert (given[0].grad.abs().amax(-1) > 0).all()


def test_an_untrained_adaln_passes_the_present_on_and_then_learns():
    torch.manual_seed(0)
    config = DynamicsConfig(kind="transformer", conditioning="adaln", width=24, heads=2, history=2)
    model = make_dynamics(config, 6, DIM, ACTION, grid=GRID)
    z, given = states(2, 3), paths(model, 2, 3)
    assert torch.equal(model(z, given[0]), model(z, given[0] + 1))  # closed gates
    model(z, given[0]).square().sum().backward()
    assert all(float(block.modulation.weight.grad.abs().sum()) > 0 for block in model.blocks)


def test_patches_of_the_same_content_are_told_apart_by_their_place():
    for settings in (
        {"kind": "ac"},
        {"kind": "transformer", "conditioning": "adaln"},
        {"kind": "transformer"},
    ):
        model = dynamics(**settings)
        z = states(1, 1)
        swapped = z[:, :, [1, 0, 2, 3, 4, 5]]
        action = paths(model, 1, 1)[0]
        one, other = model(z, action)[:, :, [1, 0, 2, 3, 4, 5]], model(swapped, action)
        assert not torch.allclose(one, other, atol=1e-3)


def test_two_cameras_have_places_of_their_own():
    config = DynamicsConfig(kind="ac", width=24, heads=2)
    torch.manual_seed(0)
    model = make_dynamics(config, 12, DIM, ACTION, grid=GRID, cameras=2)
    rotary = model.layout.rotary(0, 1, 12, torch.device("cpu"))
    assert len({tuple(row.tolist()) for row in torch.cat([rotary.cos, rotary.sin], -1)[1:]}) == 12


@pytest.mark.parametrize(
    ("settings", "where", "message"),
    [
        ({"kind": "mlp", "proprio": 3}, {}, "kind mlp takes an action alone"),
        ({"kind": "mlp", "conditioning": "adaln"}, {}, "kind mlp takes an action alone"),
        ({"kind": "ac", "conditioning": "adaln"}, {}, r"dynamics\.kind ac has conditioning token, found adaln"),
        ({"kind": "ac"}, {"grid": None}, r"dynamics\.kind ac needs the patches"),
        ({"kind": "ac"}, {"grid": (2, 4)}, "expected the 1 x 2 x 4 patches .* found 6 latents"),
        ({"kind": "ac", "width": 8, "heads": 2}, {}, r"is 4: rotary embedding .* at least 6"),
        ({"kind": "ac", "width": 25, "heads": 2}, {}, r"dynamics\.width 25 and dynamics\.heads 2"),
        ({"kind": "ac", "history": 0}, {}, "history 0"),
        ({"kind": "ac", "proprio": -1}, {}, "proprio -1"),
    ],
)
def test_what_does_not_fit_is_refused(settings, where, message):
    with pytest.raises(ConfigError, match=message):
        make_dynamics(
            DynamicsConfig(**{"width": 24, "heads": 2, **settings}), 6, DIM, ACTION, **{"grid": GRID, **where}
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proprio": None}, r"proprio: expected \(2, 3, 4\), found none"),
        ({"proprio": torch.zeros(2, 3, 7)}, r"proprio: expected \(2, 3, 4\), found \(2, 3, 7\)"),
        ({"proprio": torch.zeros(2, 4, 4)}, r"proprio: expected \(2, 3, 4\), found \(2, 4, 4\)"),
        ({"extrinsics": torch.zeros(2, 3, 6)}, r"extrinsics: expected none \(dynamics\.extrinsics is 0\), found"),
        ({"actions": torch.zeros(2, 3, 3)}, r"actions: expected \(2, 3, 2\), found \(2, 3, 3\)"),
        ({"z": torch.zeros(2, 3, 5, 8)}, r"z: expected \(batch, time, 6, 8\), found \(2, 3, 5, 8\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, message):
    model = dynamics(kind="ac", proprio=PROPRIO)
    actions, proprio, _ = paths(model, 2, 3)
    given = {"z": states(2, 3), "actions": actions, "proprio": proprio, **change}
    with pytest.raises(ShapeError, match=message):
        model(**given)
