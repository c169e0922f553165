"""What one frame becomes does not depend on how many there are, though products round by their rows."""

import pytest
import torch

from jepa_actions.nn import AttentivePooler, FlattenReadout, PatchReadout, whole_rows
from jepa_actions.nn.rows import ROWS


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 8), (8, 8), (9, 16), (100, 104)])
def test_rows_are_filled_with_the_last_one(count, expected):
    x = torch.randn(3, count, 2)
    found = whole_rows(x, dim=1)
    assert ROWS == 8
    assert found.shape == (3, expected, 2)
    assert torch.equal(found[:, :count], x)
    if count:
        assert torch.equal(found[:, count:], x[:, -1:].expand(-1, expected - count, -1))
    assert count % 8 or found is x


READOUTS = {
    "attention": lambda: AttentivePooler(32, 32, latents=1, heads=2, grid=(8, 8)),
    "three latents": lambda: AttentivePooler(32, 16, latents=3, heads=2, grid=(8, 8)),
    "flatten": lambda: FlattenReadout(32, 64, 32, 48),
    "patches": lambda: PatchReadout(32, 16),
}


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", READOUTS)
def test_a_frame_alone_is_the_frame_in_a_batch(name, threads):
    torch.manual_seed(0)
    readout = READOUTS[name]().eval()
    tokens = torch.randn(100, 64, 32)
    with torch.no_grad():
        together = readout(tokens)
        for part in (slice(0, 1), slice(50, 51), slice(97, 100), slice(3, 10)):
            assert torch.equal(readout(tokens[part]), together[part])


@pytest.mark.parametrize("name", READOUTS)
def test_padding_is_no_part_of_training(name):
    torch.manual_seed(0)
    readout = READOUTS[name]().train()
    tokens = torch.randn(5, 64, 32)
    out = readout(tokens)
    assert out.shape[0] == 5
    if hasattr(readout, "standardise"):  # the batch's own statistics, without repeated rows
        torch.testing.assert_close(out.flatten(0, 1).mean(0), torch.zeros(out.shape[-1]), atol=1e-4, rtol=0)
