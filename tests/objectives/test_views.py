import pytest
import torch
from tiny_world import tiny_batch, tiny_world

from jepa_actions.models import EncoderConfig
from jepa_actions.objectives import Views
from jepa_actions.objectives.views import masked_mean
from jepa_actions.training import Ema


def test_each_encoding_is_computed_once():
    model, calls = tiny_world(), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    views = Views(model, tiny_batch())
    assert not calls
    assert views.z is views.z
    assert len(calls) == 1


def test_targets_have_no_gradient_and_are_the_copys_own():
    model = tiny_world()
    target = Ema(model, 0.9, 0.9, 10).target
    views = Views(model, tiny_batch(), target)
    torch.testing.assert_close(views.z_target, views.z)  # a fresh copy says the same
    assert views.z.requires_grad
    assert not views.z_target.requires_grad
    with torch.no_grad():
        target.encoder.patch_embed.proj.weight.mul_(2.0)
    moved = Views(model, tiny_batch(), target)
    assert torch.equal(moved.z, views.z)
    assert not torch.allclose(moved.z_target, views.z_target, atol=1e-3)


def test_target_tokens_are_layer_normed_and_see_the_whole_clip():
    model = tiny_world()
    views = Views(model, tiny_batch(), Ema(model, 0.9, 0.9, 10).target)
    with torch.no_grad():
        views.target.encoder.norm.weight.mul_(7.0)
    tokens = views.target_tokens(views.clips)
    assert tokens.shape == (4, 4 * 16, 24)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(4, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(4, 64), atol=1e-3, rtol=0)
    later = views.clips.clone()
    later[:, 3] += 1.0
    assert not torch.allclose(views.target_tokens(later)[:, :16], tokens[:, :16], atol=1e-5)


def test_clips_of_every_camera_and_whole_tubelets_only():
    model = tiny_world(cameras=("front", "wrist"), encoder=EncoderConfig((16, 16), 4, 2, 24, 1, 2))
    views = Views(model, tiny_batch(b=3, t=5, cameras=("front", "wrist")))
    assert views.clips.shape == (6, 4, 3, 16, 16)
    assert torch.equal(views.clips[3:], views.images["wrist"][:, :4])


def test_missing_targets_and_missing_actions_are_said():
    model, batch = tiny_world(), tiny_batch()
    views = Views(model, batch)
    for use in (lambda: views.z_target, lambda: views.target_tokens(views.clips)):
        with pytest.raises(ValueError, match="asks for EMA targets"):
            use()
    batch.actions = batch.action_mask = batch.provenance = None
    with pytest.raises(ValueError, match="needs actions, but the batch has none"):
        Views(model, batch).step_mask()


def test_masked_mean_counts_known_places_alone():
    values, mask = torch.tensor([[1.0, 2.0], [30.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(masked_mean(values, mask)) == 2.5
    assert float(masked_mean(values, torch.zeros(2, 2))) == 0.0
