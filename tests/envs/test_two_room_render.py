"""TwoRoom's picture: the dot is where the agent is, the walls are where they stop it, and it is drawn fast."""

import time

import pytest
import torch

from jepa_actions.envs import TwoRoomConfig, is_free, move, render, sample_layouts, sample_positions

CONFIG = TwoRoomConfig()


def worlds(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    wall_x, door_y = sample_layouts(n, "all", generator, CONFIG)
    return sample_positions(wall_x, door_y, generator, CONFIG), wall_x, door_y


def test_pixel_i_is_coordinate_i_and_the_red_centroid_is_the_position() -> None:
    position, wall_x, door_y = worlds(500)
    red = render(position, wall_x, door_y, CONFIG)[:, 0].double()
    pixel = torch.arange(64, dtype=torch.float64)
    mass = red.sum((1, 2))
    centroid = torch.stack([(red.sum(1) * pixel).sum(1) / mass, (red.sum(2) * pixel).sum(1) / mass], dim=-1)
    inner = (position < 58).all(-1)  # further out the image's edge cuts the dot
    assert inner.sum() > 400
    assert (centroid - position)[inner].abs().max() < 0.05


def test_the_dot_is_a_gaussian_of_std_1_3_with_peak_255() -> None:
    position, wall_x, door_y = worlds(50)
    position[0] = torch.tensor([10.0, 12.0])
    red = render(position, wall_x, door_y, CONFIG)[:, 0]
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    square = (x - position[:, 0, None, None]) ** 2 + (y - position[:, 1, None, None]) ** 2
    expected = 255 * torch.exp(-square / (2 * 1.3**2))
    assert (red.float() - expected).abs().max() < 0.7  # rounding, and a position rounded to 1/512 px
    assert red[0, 12, 10] == 255


def test_walls_are_drawn_where_they_stop_the_agent() -> None:
    config = TwoRoomConfig(wall_x=32, door_y=20)
    wall_x, door_y = torch.tensor([32.0]), torch.tensor([20.0])
    frame = render(torch.tensor([[15.0, 40.0]]), wall_x, door_y, config)[0]
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    centres = torch.stack([x, y], dim=-1)
    inside = (centres > 4.5).all(-1) & (centres < 59.5).all(-1)
    edge = (x - 32).abs().le(1) & (y - 20).abs().eq(4)  # the door's sides run through the middle of these pixels
    drawn = frame[1] == 255
    assert torch.equal(drawn[inside & ~edge], ~is_free(centres, wall_x, door_y, config)[inside & ~edge])
    assert drawn[4, :].all()
    assert drawn[60, :].all()
    assert drawn[:, 4].all()
    assert drawn[:, 60].all()
    assert drawn[40, 30:35].tolist() == [False, True, True, True, False]
    assert drawn[14:27, 32].tolist() == [True, True] + [False] * 9 + [True, True]
    assert set(frame[1].unique().tolist()) == {0, 255}
    assert frame[2].max() == 0


def test_every_push_against_a_wall_ends_half_a_pixel_from_the_drawn_line() -> None:
    position = torch.tensor([[6.0, 30.0]])
    stopped, _ = move(position, torch.tensor([[-2.4, 0.0]]), torch.tensor([30.0]), torch.tensor([30.0]), CONFIG)
    green = render(stopped, torch.tensor([30.0]), torch.tensor([30.0]), CONFIG)[0, 1]
    column = int(torch.nonzero(green[30])[0])
    assert column == 4
    assert float(stopped[0, 0]) == pytest.approx(column + 0.5, abs=2e-3)


def test_a_frame_does_not_depend_on_the_batch_bit_for_bit() -> None:
    position, wall_x, door_y = worlds(213)
    frames = render(position, wall_x, door_y, CONFIG)
    assert frames.shape == (213, 3, 64, 64)
    assert frames.dtype == torch.uint8
    for i in range(0, 213, 5):
        assert torch.equal(render(position[i], wall_x[i], door_y[i], CONFIG), frames[i])
    clip = render(position[:210].reshape(30, 7, 2), wall_x[:30, None], door_y[:30, None], CONFIG)
    assert torch.equal(clip[4, 3], render(position[31], wall_x[4], door_y[4], CONFIG))


def test_other_sizes_and_dots_near_the_corners() -> None:
    config = TwoRoomConfig(size=97, image_size=96, dot_std=2.0)
    generator = torch.Generator().manual_seed(1)
    wall_x, door_y = sample_layouts(8, "all", generator, config)
    corners = torch.tensor([[4.51, 4.51], [91.49, 4.51], [4.51, 91.49], [91.49, 91.49]]).repeat(2, 1)
    frames = render(corners, wall_x, door_y, config)
    assert frames.shape == (8, 3, 96, 96)
    rows, columns = (frames[:, 0].amax(2).argmax(1), frames[:, 0].amax(1).argmax(1))
    assert (torch.stack([columns, rows], -1) - corners).abs().max() < 0.52  # two pixels tie


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_and_moves_the_same_bits() -> None:
    position, wall_x, door_y = worlds(300)
    action = torch.randn(300, 2)
    on_gpu = [tensor.cuda() for tensor in (position, action, wall_x, door_y)]
    moved, blocked = move(position, action, wall_x, door_y, CONFIG)
    gpu_moved, gpu_blocked = move(on_gpu[0], on_gpu[1], on_gpu[2], on_gpu[3], CONFIG)
    assert torch.allclose(gpu_moved.cpu(), moved, atol=1e-5)
    assert torch.equal(gpu_blocked.cpu(), blocked)
    assert torch.equal(render(on_gpu[0], on_gpu[2], on_gpu[3], CONFIG).cpu(), render(position, wall_x, door_y, CONFIG))


def test_at_least_20_000_frames_per_second() -> None:
    position, wall_x, door_y = worlds(512)
    best = float("inf")
    for _ in range(30):  # the best of several: other programs share the machine
        begin = time.perf_counter()
        render(position, wall_x, door_y, CONFIG)
        best = min(best, time.perf_counter() - begin)
    assert 512 / best > 20_000, f"{512 / best:.0f} frames/s"
