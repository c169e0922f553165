import pytest
import torch

from jepa_actions.errors import ShapeError
from jepa_actions.models import EncoderConfig, VideoEncoder, take_tokens

SMALL = {"image_size": (16, 16), "patch": 8, "width": 24, "depth": 2, "heads": 2}


def encoder(**changes) -> VideoEncoder:
    torch.manual_seed(0)
    return VideoEncoder(EncoderConfig(**{**SMALL, **changes})).eval()


def clip(b: int = 2, t: int = 4, h: int = 16, w: int = 16) -> torch.Tensor:
    return torch.randn(b, t, 3, h, w, generator=torch.Generator().manual_seed(0))


def test_patch_embedding_is_the_convolution_it_stores():
    model, frames = encoder(tubelet=2), clip()
    expected = model.patch_embed.proj(frames.transpose(1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.patch_embed(frames), expected, rtol=1e-4, atol=1e-5)


def test_a_single_frame_equals_the_frame_repeated_to_fill_the_tubelet():
    model, frame = encoder(tubelet=2), clip(t=1)
    torch.testing.assert_close(model(frame), model(frame.expand(-1, 2, -1, -1, -1)), rtol=1e-4, atol=1e-5)


def test_all_tokens_visible_in_another_order_is_the_full_encoding_in_that_order():
    model, frames = encoder(), clip(t=3)
    order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    torch.testing.assert_close(model(frames, order), take_tokens(model(frames), order), rtol=1e-4, atol=1e-5)


def test_hidden_tokens_never_enter():
    model, frames = encoder(), clip(t=2)
    visible = torch.tensor([[0, 3, 5], [1, 2, 7]])  # of 8
    out = model(frames, visible)
    cells = frames.reshape(2, 2, 3, 2, 8, 2, 8).permute(0, 1, 3, 5, 2, 4, 6).clone()  # b t rows cols c 8 8
    hidden = torch.ones(2, 8, dtype=torch.bool).scatter(1, visible, False).reshape(2, 2, 2, 2)
    cells[hidden] = 99.0
    changed = cells.permute(0, 1, 4, 2, 5, 3, 6).reshape_as(frames)
    assert not torch.allclose(model(changed), model(frames), atol=1e-2)
    assert torch.equal(model(changed, visible), out)


def test_each_frame_alone_knows_no_other_frame_and_a_joint_clip_does():
    model, frames = encoder(), clip()
    later = frames.clone()
    later[:, 2] += 1.0
    alone, alone_later = model.encode_each(frames), model.encode_each(later)
    assert alone.shape == (2, 4, 4, 24)
    assert torch.equal(alone[:, [0, 1, 3]], alone_later[:, [0, 1, 3]])
    assert not torch.allclose(alone[:, 2], alone_later[:, 2], atol=1e-3)
    joint, joint_later = (model(x).unflatten(1, (4, 4)) for x in (frames, later))
    assert not torch.allclose(joint[:, 0], joint_later[:, 0], atol=1e-4)


def test_tokens_know_their_place():
    model = encoder()
    out = model(torch.ones(1, 2, 3, 16, 16))  # the same patch everywhere: attention alone cannot tell them apart
    assert torch.allclose(out[:, :1].expand_as(out), out, atol=1e-5)
    frames = clip(1, 2)
    swapped = frames.flip(1)
    assert not torch.allclose(
        model(swapped).unflatten(1, (2, 4)).flip(1), model(frames).unflatten(1, (2, 4)), atol=1e-4
    )


def test_a_rectangular_picture_is_read_row_by_row():
    model = encoder(image_size=(8, 24))
    frames = torch.zeros(1, 1, 3, 8, 24)
    base = model.patch_embed(frames)
    frames[..., 16:] = 1.0
    changed = (model.patch_embed(frames) - base).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2, 4, 3, 16, 8), r"expected \(batch, time, 3, 16, 16\), found \(2, 4, 3, 16, 8\)"),
        ((2, 4, 1, 16, 16), r"expected \(batch, time, 3, 16, 16\), found \(2, 4, 1, 16, 16\)"),
        ((2, 3, 16, 16), r"expected \(batch, time, 3, 16, 16\), found \(2, 3, 16, 16\)"),
        ((2, 3, 3, 16, 16), "3 frames do not fill tubelets of 2"),
        ((2, 0, 3, 16, 16), "0 frames do not fill"),
    ],
)
def test_wrong_frames_are_one_line(shape, text):
    with pytest.raises(ShapeError, match=text) as caught:
        encoder(tubelet=2)(torch.zeros(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_size": (16, 20)}, "encoder.image_size 16x20 is not a multiple of encoder.patch 8"),
        ({"heads": 5}, "encoder.width 24 is not a multiple of encoder.heads 5"),
        ({"heads": 6}, "rotary embedding needs at least 6"),
        ({"patch": 0}, "encoder.patch 0 and encoder.tubelet 1: expected at least 1 each"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(changes, text):
    with pytest.raises(ShapeError, match=text):
        EncoderConfig(**{**SMALL, **changes})


@pytest.mark.parametrize("t", [1, 4])
def test_packed_sets_of_different_sizes_equal_each_alone_with_gradients(t):
    model, frames = encoder(tubelet=2).double(), clip(t=t).double().requires_grad_()
    sets, clips = [torch.tensor(ids) for ids in ([0, 2, 3], [1], [3, 1, 0], [2, 3])], [0, 1, 1, 0]
    out = model.packed(frames, sets, clips)
    alone = [model(frames[[i]], ids[None])[0] for ids, i in zip(sets, clips, strict=True)]
    for one, other in zip(out, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    leaves = [frames, *model.parameters()]
    found = torch.autograd.grad(sum(x.pow(3).sum() for x in out), leaves)
    for x, y in zip(found, torch.autograd.grad(sum(x.pow(3).sum() for x in alone), leaves), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_packed_takes_one_set_per_clip_where_no_clips_are_named():
    model, frames = encoder(), clip(t=2)
    out = model.packed(frames, [torch.tensor([1, 2]), torch.tensor([0])])
    torch.testing.assert_close(out[1], model(frames[1:], torch.tensor([[0]]))[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ShapeError, match="expected a set of tokens for each of 2 clips, found 1"):
        model.packed(frames, [torch.tensor([0])])
