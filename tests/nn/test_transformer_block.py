import math

import pytest
import torch
from torch import nn

from jepa_actions.nn import Block, SelfAttention, init_transformer, rotary_table, set_gradient_checkpointing


def test_a_cached_continuation_equals_the_whole_sequence_under_a_causal_mask():
    torch.manual_seed(0)
    block = Block(24, 2)
    x = torch.randn(2, 6, 24)
    rotary = rotary_table(torch.arange(6)[:, None], 12, tiled=False)
    whole = block(x, rotary, torch.ones(6, 6, dtype=torch.bool).tril())
    past, parts = None, []
    for i in range(6):
        turn = type(rotary)(rotary.cos[i : i + 1], rotary.sin[i : i + 1])
        out, past = block.cached(x[:, i : i + 1], turn, None, past)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_the_residual_path_carries_x_unnormed():
    block = Block(24, 2)
    for linear in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = 7.0 * torch.randn(2, 5, 24)
    assert torch.equal(block(x), x)


def test_residual_outputs_start_smaller_in_deeper_layers():
    torch.manual_seed(0)
    blocks = nn.ModuleList([Block(64, 2) for _ in range(3)])
    init_transformer(blocks)
    for layer, block in enumerate(blocks, start=1):
        for linear in (block.attn.proj, block.mlp.fc2):
            assert float(linear.weight.detach().std()) == pytest.approx(0.02 / math.sqrt(2 * layer), rel=0.1)
        assert float(block.attn.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
        assert not block.attn.qkv.bias.any()


def test_parameters_have_the_published_names():
    names = set(dict(Block(24, 2).named_parameters()))
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="width 24 is not a multiple of heads 5"):
        SelfAttention(24, 5)


def test_packed_sequences_equal_each_sequence_alone_with_gradients():
    torch.manual_seed(0)
    block, table = Block(24, 2), rotary_table(torch.arange(9)[:, None], 12, tiled=False)
    samples = [torch.randn(n, 24, requires_grad=True) for n in (3, 9, 9, 1)]
    tables = [type(table)(table.cos[: len(x)], table.sin[: len(x)]) for x in samples]
    alone = [block(x[None], rotary)[0] for x, rotary in zip(samples, tables, strict=True)]
    packed = type(table)(torch.cat([t.cos for t in tables]), torch.cat([t.sin for t in tables]))
    out = block(torch.cat(samples), packed, lengths=[len(x) for x in samples])
    torch.testing.assert_close(out, torch.cat(alone), rtol=1e-5, atol=1e-5)
    leaves = [*samples, *block.parameters()]
    found = torch.autograd.grad(out.square().sum(), leaves)
    expected = torch.autograd.grad(sum(x.square().sum() for x in alone), leaves)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lengths", [None, (2, 4)])
def test_gradient_checkpointing_keeps_one_tensor_per_block_and_changes_no_number(lengths):
    torch.manual_seed(0)
    blocks = nn.Sequential(*[Block(24, 2) for _ in range(3)]).train()
    rotary = rotary_table(torch.arange(6)[:, None], 12, tiled=False)
    x, results, kept = torch.randn(6, 24) if lengths else torch.randn(2, 6, 24), [], []

    def run() -> list[torch.Tensor]:
        out = x
        for block in blocks:
            out = block(out, rotary, lengths=lengths)
        return [out, *torch.autograd.grad(out.square().sum(), list(blocks.parameters()))]

    for on in (False, True):
        set_gradient_checkpointing(blocks, on)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            results.append(run())
        kept.append(sum(sizes))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    blocks.eval()
    assert torch.equal(run()[0], results[0][0])
    assert kept[1] < kept[0]
