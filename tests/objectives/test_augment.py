import pytest
import torch

from jepa_actions.objectives.augment import AugmentConfig, augment


def clips(b: int = 16, t: int = 3, size: int = 16) -> torch.Tensor:
    return torch.randn(b, t, 3, size, size, generator=torch.Generator().manual_seed(0))


def run(x: torch.Tensor, seed: int = 0, **settings) -> torch.Tensor:
    return augment(x, AugmentConfig(**settings), torch.Generator().manual_seed(seed))


def test_by_default_nothing_changes():
    assert torch.equal(run(clips()), clips())


@pytest.mark.parametrize(("name", "axis"), [("mirror", -1), ("reverse", 1)])
def test_about_half_the_clips_are_turned_each_as_a_whole(name, axis):
    x = clips(b=64)
    out = run(x, **{name: True})
    turned = [torch.equal(a, b) for a, b in zip(out, x.flip(axis), strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(out, x, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 16 < sum(turned) < 48


def test_colour_is_one_gain_and_offset_per_clip_and_channel():
    x = clips()
    out = run(x, colour=0.3)
    for clip, before in zip(out, x, strict=True):
        for channel in range(3):
            value, source = clip[:, channel].flatten(), before[:, channel].flatten()
            gain = (value.max() - value.min()) / (source.max() - source.min())
            torch.testing.assert_close(value, source * gain + (value - source * gain).mean(), atol=1e-4, rtol=0)
            assert 0.7 <= float(gain) <= 1.3
    assert not torch.allclose(out[0, 0, 0] - x[0, 0, 0], out[1, 0, 0] - x[1, 0, 0], atol=1e-3)


def test_a_crop_enlarges_one_window_for_all_frames():
    row = torch.linspace(0, 1, 32).view(1, 1, 1, 32, 1).expand(4, 3, 3, 32, 32)
    windows = set()
    for seed in range(10):
        out = run(row, seed, crop=0.5)
        assert out.shape == row.shape
        assert torch.equal(out, out[:1, :1].expand_as(out))
        low, high = float(out.min()), float(out.max())
        assert 0.4 < high - low < 1.01
        windows.add((round(low, 2), round(high, 2)))
    assert len(windows) > 5


def test_the_generator_decides():
    settings = {"crop": 0.7, "mirror": True, "reverse": True, "colour": 0.2}
    assert torch.equal(run(clips(), 3, **settings), run(clips(), 3, **settings))
    assert not torch.equal(run(clips(), 3, **settings), run(clips(), 4, **settings))
