import math

import pytest
import torch

from jepa_actions.nn import Rotary, apply_rotary, attention, grid_positions, rotary_table
from jepa_actions.nn.rotary import turn_queries_and_keys


def qkv(n: int = 5, d: int = 12) -> torch.Tensor:
    return torch.randn(3, 2, 3, n, d, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_softmax_of_scaled_products(masked):
    q, k, v = qkv()
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None
    scores = q @ k.transpose(-1, -2) / math.sqrt(12)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    expected = scores.softmax(-1) @ v
    torch.testing.assert_close(attention(q, k, v, mask), expected)


def scores_at(positions: torch.Tensor, *, tiled: bool) -> torch.Tensor:
    q, k, _ = qkv(len(positions), 24)
    rotary = rotary_table(positions, 24, tiled=tiled)
    return apply_rotary(q, rotary) @ apply_rotary(k, rotary).transpose(-1, -2)


def test_only_differences_of_positions_count():
    positions = grid_positions(2, 3, 2)
    here = scores_at(positions, tiled=False)
    torch.testing.assert_close(scores_at(positions + torch.tensor([4, 1, 7]), tiled=False), here, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(scores_at(positions * 2, tiled=False), here, atol=1e-2)


def test_the_published_layout_is_not_a_rotation():
    positions = grid_positions(2, 3, 2)
    moved = scores_at(positions + torch.tensor([4, 1, 7]), tiled=True)
    assert not torch.allclose(moved, scores_at(positions, tiled=True), atol=1e-2)


def test_tiled_turns_channel_c_by_frequency_c_modulo_half_the_share():
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    turned = apply_rotary(x, rotary_table(torch.tensor([[3.0]]), 8, tiled=True))[0, 0, 0]
    row = x[0, 0, 0]
    for channel in range(8):
        angle = 3.0 * 10000.0 ** -((channel % 4) / 4)
        partner = -row[channel + 1] if channel % 2 == 0 else row[channel - 1]
        expected = row[channel] * math.cos(angle) + partner * math.sin(angle)
        assert float(turned[channel]) == pytest.approx(float(expected), abs=1e-5)


def test_rotation_keeps_lengths_and_leaves_position_zero_alone():
    x = torch.randn(2, 2, 4, 12, generator=torch.Generator().manual_seed(0))
    turned = apply_rotary(x, rotary_table(torch.arange(4)[:, None], 12, tiled=False))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned[:, :, 1], x[:, :, 1], atol=1e-2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_axis_turns_its_own_channels_and_the_rest_stay(axis):
    x = torch.ones(1, 1, 1, 20)  # shares of 6; two channels beyond
    position = torch.zeros(1, 3)
    position[0, axis] = 1.0
    moved = (apply_rotary(x, rotary_table(position, 20, tiled=True)) - x).abs()[0, 0, 0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(6 * axis, 6 * axis + 6))


def test_take_gives_every_sample_its_own_rows():
    table = rotary_table(grid_positions(1, 2, 3), 12, tiled=True)
    ids = torch.tensor([[4, 0], [1, 5]])
    x = torch.randn(2, 3, 2, 12, generator=torch.Generator().manual_seed(0))
    out = apply_rotary(x, table.take(ids))
    for sample in range(2):
        one = Rotary(table.cos[ids[sample]], table.sin[ids[sample]])
        torch.testing.assert_close(out[sample : sample + 1], apply_rotary(x[sample : sample + 1], one))


def test_positions_count_time_then_row_then_column():
    assert grid_positions(2, 1, 2).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]


def test_a_head_too_narrow_for_three_axes_is_an_error():
    with pytest.raises(ValueError, match="head_dim 5 is too narrow for 3 rotary axes: at least 6"):
        rotary_table(grid_positions(1, 1, 1), 5, tiled=True)


@pytest.mark.parametrize("per_sample", [False, True])
def test_turning_a_joint_projection_in_place_equals_turning_queries_and_keys(per_sample):
    generator = torch.Generator().manual_seed(0)
    table = rotary_table(grid_positions(1, 2, 3), 12, tiled=True)
    rotary = table.take(torch.tensor([[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])) if per_sample else table
    values = torch.randn(2, 6, 3 * 24, generator=generator)
    weights = torch.randn(2, 6, 3 * 24, generator=generator)

    plain = values.clone().requires_grad_()
    q, k, v = (x.transpose(1, 2) for x in plain.unflatten(-1, (3, 2, 12)).unbind(-3))
    turned = torch.stack([x.transpose(1, 2) for x in (apply_rotary(q, rotary), apply_rotary(k, rotary), v)], dim=2)
    (turned.flatten(2) * weights).sum().backward()

    leaf = values.clone().requires_grad_()
    out = turn_queries_and_keys(leaf.clone(), 2, rotary)
    (out * weights).sum().backward()
    torch.testing.assert_close(out, turned.flatten(2))
    torch.testing.assert_close(leaf.grad, plain.grad)
