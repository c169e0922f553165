from dataclasses import replace

import pytest
import torch
from tiny_world import tiny_batch, tiny_world

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.models import MASK_KINDS, EncoderConfig, sample_mask, sample_ragged_mask, take_tokens
from jepa_actions.objectives import Masked, MaskedConfig, Views
from jepa_actions.objectives.anti_collapse import vicreg
from jepa_actions.objectives.augment import AugmentConfig
from jepa_actions.training import Ema


def run(model, batch, **config):
    views = Views(model, batch, Ema(model, 0.9, 0.9, 10).target)
    return Masked(MaskedConfig(**config))(model, views, torch.Generator().manual_seed(0))


def encoded(model, batch, **config) -> list[torch.Tensor]:
    """The clips that the online encoder saw, per mask kind."""
    seen: list[torch.Tensor] = []
    views = Views(model, batch, Ema(model, 0.9, 0.9, 10).target)
    hook = model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    Masked(MaskedConfig(**config))(model, views, torch.Generator().manual_seed(0))
    hook.remove()
    return seen


def test_it_is_the_mean_absolute_error_at_hidden_places_over_all_kinds():
    model, batch = tiny_world(), tiny_batch(b=6)
    views = Views(model, batch, Ema(model, 0.9, 0.9, 10).target)
    generator, expected = torch.Generator().manual_seed(0), {}
    for i, kind in enumerate(MASK_KINDS):
        clips = views.clips[i::3]
        mask = sample_mask(kind, 2, (4, 4, 4), generator)
        predicted = model.predictor(model.encoder(clips, mask.visible), mask.visible, mask.target, kind)
        truth = take_tokens(views.target_tokens(clips), mask.target)
        expected[kind] = (predicted - truth).abs().mean().detach()
    loss, logs = run(model, batch)
    assert {kind: logs[kind] for kind in MASK_KINDS} == expected
    torch.testing.assert_close(loss.detach(), torch.stack(list(expected.values())).mean())


def test_the_mean_floor_is_the_error_of_the_mean_feature():
    model, batch = tiny_world(), tiny_batch(b=6)
    views = Views(model, batch, Ema(model, 0.9, 0.9, 10).target)
    tokens = views.target_tokens(views.clips).flatten(0, 1)
    torch.testing.assert_close(run(model, batch)[1]["mean_floor"], (tokens - tokens.mean(0)).abs().mean())


def test_gradients_reach_encoder_predictor_and_every_mask_token_and_no_target():
    model = tiny_world().train()
    ema = Ema(model, 0.9, 0.9, 10)
    loss, _ = Masked(MaskedConfig())(model, Views(model, tiny_batch(b=6), ema.target), torch.Generator().manual_seed(0))
    loss.backward()
    for parameter in (*model.encoder.parameters(), *model.predictor.parameters()):
        assert float(parameter.grad.norm()) > 0
    assert all(parameter.grad is None for parameter in ema.target.parameters())


def test_every_kind_has_its_share_of_the_clips_and_every_clip_is_used():
    model, batch = tiny_world(), tiny_batch(b=6)
    seen = encoded(model, batch)
    assert [len(clips) for clips in seen] == [2, 2, 2]
    images = model.images(batch.frames)["image"]
    together = torch.stack([clip for kind in zip(*seen, strict=True) for clip in kind])
    assert torch.equal(together, images)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_share_of_the_clips_is_taken_from_every_camera(share):
    model = tiny_world(cameras=("front", "wrist"))
    batch = tiny_batch(b=12, cameras=("front", "wrist"))
    images = model.images(batch.frames)
    seen = torch.cat(encoded(model, batch, share=share))
    assert len(seen) == round(24 * share)
    for camera in ("front", "wrist"):
        members = sum(any(torch.equal(clip, other) for other in images[camera]) for clip in seen)
        assert members == len(seen) // 2


@pytest.mark.parametrize("b", [1, 2])
def test_fewer_clips_than_kinds_still_ask_every_kind(b):
    loss, logs = run(tiny_world(), tiny_batch(b=b))
    assert torch.isfinite(loss)
    assert set(MASK_KINDS) < set(logs)


def test_a_clip_without_a_second_step_has_no_future():
    with pytest.raises(ConfigError, match="one time step"):
        run(tiny_world(), tiny_batch(t=1))


def test_a_clip_shorter_than_a_tubelet_is_one_line():
    with pytest.raises(ShapeError, match="0 frames do not fill tubelets of 4"):
        run(tiny_world(encoder=EncoderConfig((16, 16), 4, 4, 24, 1, 2)), tiny_batch(t=3))


def test_spread_adds_variance_and_covariance_of_the_visible_tokens():
    model, batch = tiny_world(), tiny_batch(b=6)
    plain, logs = run(model, batch)
    spread, spread_logs = run(model, batch, spread=2.0)
    assert {kind: spread_logs[kind] for kind in MASK_KINDS} == {kind: logs[kind] for kind in MASK_KINDS}
    added = []
    generator = torch.Generator().manual_seed(0)
    images = model.images(batch.frames)["image"]
    for i, kind in enumerate(MASK_KINDS):
        mask = sample_mask(kind, 2, (4, 4, 4), generator)
        tokens = model.encoder(images[i::3], mask.visible).detach()
        hinge, cov = vicreg(torch.nn.functional.layer_norm(tokens, (24,)).flatten(0, 1), 1.0)
        torch.testing.assert_close(spread_logs[f"{kind}_hinge"], hinge)
        added.append(2.0 * (hinge + cov))
    torch.testing.assert_close((spread - plain).detach(), torch.stack(added).mean(), rtol=1e-4, atol=1e-5)


def test_clips_are_augmented_before_either_encoder_sees_them():
    model, batch = tiny_world(), tiny_batch(b=6)
    plain, turned = (encoded(model, batch, augment=AugmentConfig(mirror=mirror)) for mirror in (False, True))
    clips, mirrored = (torch.stack([c for kind in zip(*s, strict=True) for c in kind]) for s in (plain, turned))
    flips = [torch.equal(one, two.flip(-1)) for one, two in zip(mirrored, clips, strict=True)]
    assert any(flips)
    assert all(flip or torch.equal(a, b) for flip, a, b in zip(flips, mirrored, clips, strict=True))


def test_every_clip_may_be_given_to_every_kind_with_its_targets_computed_once():
    model, batch = tiny_world(), tiny_batch(b=3)
    kinds = ("short", "long")
    views = Views(model, batch, Ema(model, 0.9, 0.9, 10).target)
    generator, expected = torch.Generator().manual_seed(0), {}
    for kind in kinds:
        mask = sample_mask(kind, 3, (4, 4, 4), generator)
        predicted = model.predictor(model.encoder(views.clips, mask.visible), mask.visible, mask.target, kind)
        expected[kind] = (predicted - take_tokens(views.target_tokens(views.clips), mask.target)).abs().mean().detach()
    passes = []
    views.target.encoder.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    config = MaskedConfig(kinds=kinds, split=False)
    _, logs = Masked(config)(model, views, torch.Generator().manual_seed(0))
    assert {kind: logs[kind] for kind in kinds} == expected
    assert "future" not in logs
    assert passes == [3]


@pytest.mark.parametrize("split", [True, False])
def test_packed_is_the_mean_error_over_every_hidden_token_of_samples_encoded_alone(split):
    model, batch = tiny_world(), tiny_batch(b=6)
    views = Views(model, batch, Ema(model, 0.9, 0.9, 10).target)
    truth, generator = views.target_tokens(views.clips), torch.Generator().manual_seed(0)
    sizes = set()
    loss, logs = run(model, batch, packed=True, split=split)
    for i, kind in enumerate(MASK_KINDS):
        members = range(i, 6, 3) if split else range(6)
        mask, errors = sample_ragged_mask(kind, len(members), (4, 4, 4), generator), []
        for clip, visible, target in zip(members, mask.visible, mask.target, strict=True):
            tokens = model.encoder(views.clips[[clip]], visible[None])
            predicted = model.predictor(tokens, visible[None], target[None], kind)[0]
            errors.append((predicted - truth[clip, target]).abs().flatten())
            sizes.add(len(visible))
        torch.testing.assert_close(logs[kind], torch.cat(errors).mean().detach(), rtol=1e-5, atol=1e-6)
    assert len(sizes) > 3
    torch.testing.assert_close(loss.detach(), torch.stack([logs[kind] for kind in MASK_KINDS]).mean())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kinds": ("short", "past")}, "expected different ones of short, long, future, found short, past"),
        ({"kinds": ()}, "found none"),
        ({"kinds": ("short", "short")}, "found short, short"),
        ({"packed": True, "spread": 1.0}, "masked.packed: samples of unequal length have no masked.spread"),
    ],
)
def test_a_configuration_that_means_nothing_is_named(config, message):
    with pytest.raises(ConfigError, match=message):
        MaskedConfig(**config)


def test_clips_with_padding_are_left_out():
    """A frame that repeats the one before would be no riddle; a batch of nothing else gives no loss and no error."""
    model, batch = tiny_world().train(), tiny_batch(b=6)
    real = torch.ones(6, 4, dtype=torch.bool)
    real[1, 3] = real[4, 2:] = False
    whole = torch.tensor([0, 2, 3, 5])
    views = Views(model, replace(batch, frame_mask=real))
    assert torch.equal(views.clips, views.images["image"][whole])
    assert all(len(seen) for seen in encoded(model, replace(batch, frame_mask=real)))
    loss, _ = run(model, replace(batch, frame_mask=torch.zeros_like(real)))
    loss.backward()
    assert float(loss) == 0.0
