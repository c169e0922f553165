import numpy as np
import pytest
import torch
from tiny_world import tiny_codec

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.models import InverseConfig, InverseHead, MotionConfig, MotionTrunk

GRID = (5, 6)


def head(antisymmetric: bool = True, cameras: int = 1, codec: ActionCodec | None = None) -> InverseHead:
    torch.manual_seed(0)
    motion = MotionConfig(radius=2, pool=(1, 1), match_dim=8, hidden=16, scene=4, antisymmetric=antisymmetric)
    config = InverseConfig(kind="motion", motion=motion)
    return InverseHead(config, 30 * cameras, 8, codec or tiny_codec(), grid=GRID, cameras=cameras)


def tokens(b: int = 4, cameras: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, 30 * cameras, 8, generator=torch.Generator().manual_seed(seed))


def ones(b: int) -> torch.Tensor:
    return torch.ones(b, dtype=torch.int64)


@pytest.mark.parametrize("cameras", [1, 2])
def test_exchanging_the_frames_negates_the_raw_action(cameras):
    model, codec = head(cameras=cameras).eval(), tiny_codec()
    one, two = tokens(cameras=cameras), tokens(cameras=cameras, seed=1)
    forth = codec.decode(model(one, two, ones(4)).mean)
    back = codec.decode(model(two, one, ones(4)).mean)
    assert forth.abs().max() > 1e-3
    torch.testing.assert_close(back, -forth, rtol=1e-3, atol=1e-5)


def test_the_same_frame_twice_is_no_raw_action():
    model, codec = head().eval(), tiny_codec()
    z = tokens()
    raw = codec.decode(model(z, z, ones(4)).mean)
    torch.testing.assert_close(raw, torch.zeros_like(raw), atol=1e-5, rtol=0)
    assert model.rest.abs().max() > 0.1  # "no action" is not 0 in model units here


def test_without_antisymmetry_the_head_is_free():
    model = head(antisymmetric=False).eval()
    one, two = tokens(), tokens(seed=1)
    assert not torch.allclose(model(one, two, ones(4)).mean, -model(two, one, ones(4)).mean, atol=1e-3)
    assert not model.rest.any()


def test_a_patch_is_searched_for_no_further_than_the_radius():
    torch.manual_seed(0)
    config = MotionConfig(radius=1, pool=GRID, match_dim=8, hidden=16, scene=4, antisymmetric=False)
    trunk = MotionTrunk(config, 8, 2, GRID, 1).eval()
    torch.nn.init.zeros_(trunk.gate.weight)  # the scene as a whole unread
    torch.nn.init.zeros_(trunk.fc1.weight[:, 2:])  # only the motion of the top left patch read
    one, two = tokens(), tokens(seed=1)
    motion = trunk(one, two)
    for place, found in (((1, 1), True), ((2, 0), False), ((0, 2), False), ((4, 5), False)):
        changed = two.unflatten(1, GRID).clone()
        changed[:, place[0], place[1]] = torch.arange(8.0)
        assert torch.allclose(trunk(one, changed.flatten(1, 2)), motion, atol=1e-6) != found


def shifted(b: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures of tokens and the same pictures rolled by up to one patch each way; the action is the roll."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(b, *GRID, 8, generator=generator)
    shift = torch.randint(-1, 2, (b, 2), generator=generator)
    later = torch.stack([g.roll((int(s[0]), int(s[1])), (0, 1)) for g, s in zip(grid, shift, strict=True)])
    return grid.flatten(1, 2), later.flatten(1, 2), shift.float()


def r2(model: InverseHead, before, after, raw) -> float:
    with torch.no_grad():
        error = raw - model.eval()(before, after, ones(len(raw))).mean
    return float(1 - error.square().sum() / (raw - raw.mean(0)).square().sum())


def test_a_few_steps_on_rolled_pictures_teach_the_shift_and_identical_pictures_teach_nothing():
    codec = ActionCodec(
        ("down", "right"), 1, np.zeros(2, np.float32), np.ones(2, np.float32), ActionBounds("ball", radius=2.0)
    )
    results = {}
    for name in ("shifted", "identical"):
        model = head(codec=codec)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(80):
            before, after, raw = shifted(32, step)
            loss = model.train()(before, after if name == "shifted" else before, ones(32)).loss(raw).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        before, after, raw = shifted(200, 1000)
        results[name] = r2(model, before, after if name == "shifted" else before, raw)
    assert results["shifted"] > 0.8
    assert results["identical"] < 0.01


def test_each_camera_is_matched_within_itself():
    model = head(cameras=2).eval()
    one, two = tokens(cameras=2), tokens(cameras=2, seed=1)
    mean = model(one, two, ones(4)).mean
    crossed = torch.cat([two[:, 30:], two[:, :30]], dim=1)
    assert not torch.allclose(model(one, crossed, ones(4)).mean, mean, atol=1e-3)
    torch.nn.init.zeros_(model.trunk.fc1.weight[:, 2:])  # the second camera's motion unread
    model.trunk.gate.weight.data.zero_()
    changed = two.clone()
    changed[:, 30:] += torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(one, changed, ones(4)).mean, model(one, two, ones(4)).mean)
