"""Every back end gives the naive reference's numbers and gradients, or says that it cannot run here."""

import importlib
import importlib.util

import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import create_mask, flex_attention

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.nn import (
    AttentivePooler,
    Block,
    BlockCausal,
    attention,
    packed_attention,
    set_attention_backend,
)

CUDA = torch.device("cuda")
WITHOUT_XFORMERS = importlib.util.find_spec("xformers") is None
ON_CUDA = ["sdpa", "flex", pytest.param("xformers", marks=pytest.mark.skipif(WITHOUT_XFORMERS, reason="no xformers"))]
MASKS = {
    "none": None,
    "dense": torch.rand(12, 20, generator=torch.Generator().manual_seed(1)) > 0.3,
    "all of the past": BlockCausal(4, past_frames=2),
    "a short history": BlockCausal(4, history=2, past_frames=2),
}


def qkv(queries: int = 12, keys: int = 20, d: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, queries, d), (2, 3, keys, d), (2, 3, keys, d)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def with_gradients(function, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output and, for a loss that weighs its places differently, the gradient of every input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    (out * torch.linspace(-1.0, 1.0, out.numel(), device=out.device).view_as(out)).sum().backward()
    return [out.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-5) -> None:
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


def moved(mask, device: torch.device):
    return mask.to(device) if isinstance(mask, torch.Tensor) else mask


@pytest.mark.parametrize("backend", ["sdpa", "auto"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention_equals_the_naive_reference(mask, backend):
    expected = with_gradients(lambda q, k, v: attention(q, k, v, mask, "naive"), *qkv())
    assert_same(with_gradients(lambda q, k, v: attention(q, k, v, mask, backend), *qkv()), expected)


@pytest.mark.cuda
@pytest.mark.parametrize("backend", ON_CUDA)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention_equals_the_naive_reference_on_cuda(mask, backend):
    inputs = qkv(d=32)
    expected = with_gradients(lambda q, k, v: attention(q, k, v, mask, "naive"), *inputs)
    on_device = [x.to(CUDA) for x in inputs]
    mask = moved(mask, CUDA)
    assert_same(with_gradients(lambda q, k, v: attention(q, k, v, mask, backend), *on_device), expected, 1e-3)


@pytest.mark.parametrize("backend", ["sdpa", "auto"])
@pytest.mark.parametrize("lengths", [(3, 5, 5, 1), (4, 4), (7,)])
def test_packed_sequences_attend_to_themselves_alone(lengths, backend):
    packed = [x.transpose(1, 2)[0] for x in qkv(sum(lengths), sum(lengths))]
    sequence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    same = sequence[:, None] == sequence

    def reference(q, k, v):
        return attention(*(x.transpose(0, 1)[None] for x in (q, k, v)), same, "naive")[0].transpose(0, 1)

    expected = with_gradients(reference, *packed)
    assert_same(with_gradients(lambda q, k, v: packed_attention(q, k, v, lengths, backend), *packed), expected)
    assert_same(with_gradients(lambda q, k, v: packed_attention(q, k, v, lengths, "naive"), *packed), expected)


@pytest.mark.cuda
@pytest.mark.parametrize("backend", [*ON_CUDA, "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_attention_equals_the_naive_reference_on_cuda(backend, dtype):
    lengths = (3, 130, 5, 5, 1)
    packed = [x.transpose(1, 2)[0] for x in qkv(sum(lengths), sum(lengths), 32)]
    expected = with_gradients(lambda q, k, v: packed_attention(q, k, v, lengths, "naive"), *packed)
    on_device = [x.to(CUDA, dtype) for x in packed]
    found = with_gradients(lambda q, k, v: packed_attention(q, k, v, lengths, backend), *on_device)
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    assert_same([x.float() for x in found], expected, tolerance)


def test_a_block_causal_mask_hides_the_future_and_what_is_too_old():
    mask = BlockCausal(2, history=2, past_frames=1).dense(4, torch.device("cpu"))  # frames 1, 2 look at frames 0, 1, 2
    assert mask.tolist() == [[True] * 4 + [False] * 2] * 2 + [[False] * 2 + [True] * 4] * 2
    assert BlockCausal(2).dense(4, torch.device("cpu")).tolist() == [[True, True, False, False]] * 2 + [[True] * 4] * 2


def test_the_dense_mask_is_made_once_and_serves_training_after_planning():
    mask, cpu = BlockCausal(3, history=7), torch.device("cpu")
    with torch.inference_mode():
        first = mask.dense(9, cpu)
    assert BlockCausal(3, history=7).dense(9, cpu) is first
    assert not first.is_inference()


def test_flex_reads_the_same_mask_as_the_others():
    mask = BlockCausal(50, history=2, past_frames=1)
    blocks = mask.blocks(200, torch.device("cpu"))
    dense = create_mask(blocks.mask_mod, None, None, 200, 250, device="cpu")[0, 0]
    assert torch.equal(dense, mask.dense(200, torch.device("cpu")))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_flex_is_handed_what_it_needs(mask, monkeypatch):
    home = importlib.import_module("jepa_actions.nn.attention")
    monkeypatch.setattr(home, "check_backend", lambda name, device: None)  # uncompiled, it runs here too
    monkeypatch.setattr(home, "compiled_flex_attention", lambda: flex_attention)
    torch.testing.assert_close(attention(*qkv(), mask, "flex"), attention(*qkv(), mask, "naive"))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_keeps_packed_sequences_apart(monkeypatch):
    monkeypatch.setattr("jepa_actions.nn.packed.check_backend", lambda name, device: None)
    monkeypatch.setattr("jepa_actions.nn.packed.compiled_flex_attention", lambda: flex_attention)
    packed = [x.transpose(1, 2)[0] for x in qkv(9, 9)]
    torch.testing.assert_close(
        packed_attention(*packed, (3, 5, 1), "flex"), packed_attention(*packed, (3, 5, 1), "naive")
    )


def test_one_frame_that_sees_all_keys_needs_no_mask():
    assert BlockCausal(4, past_frames=3).hides_nothing(4)
    assert BlockCausal(4, history=4, past_frames=3).hides_nothing(4)
    assert not BlockCausal(4, history=3, past_frames=3).hides_nothing(4)
    assert not BlockCausal(4).hides_nothing(8)


def test_a_mask_for_another_number_of_keys_is_an_error():
    with pytest.raises(ShapeError, match="expected 16 keys for 12 queries, found 20"):
        attention(*qkv(), BlockCausal(4, past_frames=1))


@pytest.mark.parametrize(("tokens", "history", "past"), [(0, None, 0), (4, 0, 0), (4, 1, -1)])
def test_a_mask_that_describes_nothing_is_an_error(tokens, history, past):
    with pytest.raises(ShapeError, match="expected tokens_per_frame and history of at least 1"):
        BlockCausal(tokens, history, past)


def test_lengths_that_do_not_add_up_are_an_error():
    q = torch.zeros(7, 2, 8)
    with pytest.raises(ShapeError, match=r"lengths \(3, 5\) add up to 8, expected 7 tokens"):
        packed_attention(q, q, q, (3, 5))


def test_a_back_end_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="expected one of auto, sdpa, flex, xformers, naive, found 'flash'"):
        set_attention_backend(nn.Identity(), "flash")


@pytest.mark.skipif(not WITHOUT_XFORMERS, reason="xformers is installed")
def test_a_back_end_that_is_not_installed_is_named_when_it_is_chosen():
    with pytest.raises(ConfigError, match="xformers is not installed"):
        set_attention_backend(Block(24, 2), "xformers")


def test_a_back_end_that_cannot_run_on_the_device_is_named_at_first_use():
    block = Block(24, 2)
    set_attention_backend(block, "flex")
    with pytest.raises(ConfigError, match="flex runs on a CUDA device, found cpu"):
        block(torch.zeros(1, 3, 24))
    q = torch.zeros(3, 2, 8)
    with pytest.raises(ConfigError, match="flex runs on a CUDA device, found cpu"):
        packed_attention(q, q, q, (1, 2), "flex")


def test_the_choice_reaches_every_attention(monkeypatch):
    used = []
    for place in ("transformer", "pooler"):

        def spy(q, k, v, mask, backend):
            used.append(backend)
            return attention(q, k, v, mask, backend)

        monkeypatch.setattr(f"jepa_actions.nn.{place}.attention", spy)
    parts = nn.ModuleList([nn.ModuleList([Block(24, 2)]), AttentivePooler(24, 8, 1, 2, (2, 2))])
    set_attention_backend(parts, "naive")
    parts[0][0](torch.zeros(1, 4, 24))
    parts[1](torch.zeros(1, 4, 24))
    assert used == ["naive", "naive"]


def test_a_block_gives_the_same_under_a_description_and_a_dense_mask():
    torch.manual_seed(0)
    block, x = Block(24, 2), torch.randn(2, 12, 24)
    dense = torch.arange(12)[:, None] // 4 >= torch.arange(12) // 4
    torch.testing.assert_close(block(x, None, BlockCausal(4)), block(x, None, dense))
    assert not torch.allclose(block(x, None, BlockCausal(4)), block(x), atol=1e-3)
