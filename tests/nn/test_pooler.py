import pytest
import torch

from jepa_actions.nn import AttentivePooler, FlattenReadout, PatchReadout, sincos_positions


def test_every_place_has_a_code_of_its_own():
    code = sincos_positions(3, 5, 16)
    assert code.shape == (15, 16)
    distance = torch.cdist(code, code) + torch.eye(15)
    assert distance.min() > 0.2


def test_rows_and_columns_are_coded_apart():
    code = sincos_positions(3, 5, 16).reshape(3, 5, 16)
    assert torch.equal(code[0, :, :8], code[0, :1, :8].expand(5, 8))  # one row, one row code
    assert torch.equal(code[:, 2, 8:], code[:1, 2, 8:].expand(3, 8))


def test_a_code_needs_a_width_in_fours():
    with pytest.raises(ValueError, match="multiple of 4, found 18"):
        sincos_positions(2, 2, 18)


def test_the_pooler_knows_where_a_token_was():
    torch.manual_seed(0)
    pooler = AttentivePooler(16, 8, latents=2, heads=2, grid=(3, 3)).eval()
    tokens = torch.randn(4, 9, 16)
    out = pooler(tokens)
    assert out.shape == (4, 2, 8)
    assert not torch.allclose(pooler(tokens.roll(1, dims=1)), out, atol=1e-3)
    pooler.positions.zero_()
    torch.testing.assert_close(pooler(tokens.roll(1, dims=1)), pooler(tokens))  # without the code "where" is lost


def test_its_latents_read_different_things():
    torch.manual_seed(0)
    pooler = AttentivePooler(16, 8, latents=2, heads=2, grid=(3, 3)).eval()
    one, two = pooler(torch.randn(4, 9, 16)).unbind(1)
    assert not torch.allclose(one, two, atol=1e-3)


def test_its_answers_are_standardised_over_the_batch():
    torch.manual_seed(0)
    pooler = AttentivePooler(16, 8, latents=1, heads=2, grid=(3, 3)).train()
    out = pooler(torch.randn(64, 9, 16)).flatten(0, 1)
    torch.testing.assert_close(out.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)


def test_patches_are_kept_and_projected_only_where_the_width_changes():
    tokens = torch.randn(2, 9, 16)
    assert PatchReadout(16, 16)(tokens) is tokens
    assert PatchReadout(16, 8)(tokens).shape == (2, 9, 8)


def test_patches_side_by_side_keep_where_things_are_and_what_is_small():
    torch.manual_seed(0)
    readout = FlattenReadout(16, 9, 8, hidden=32)
    tokens = torch.randn(64, 9, 16)
    for _ in range(100):
        readout(tokens)  # the running statistics find the batch's
    readout.eval()
    out = readout(tokens)
    assert out.shape == (64, 1, 8)
    assert not torch.allclose(readout(tokens.roll(1, dims=1)), out, atol=1e-2)
    moved = tokens.clone()
    moved[:, 4] += 0.1  # one patch, a little
    assert (readout(moved) - out).abs().amax(-1).min() > 1e-3
    torch.testing.assert_close(readout(tokens[:1]), out[:1])  # a state depends on its own frame alone
