"""TwoRoom's collisions: hand-worked cases, properties over random paths, and a brute-force reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_actions.envs import TwoRoomConfig, is_free, is_success, move, same_room, sample_layouts, sample_positions
from jepa_actions.errors import ConfigError

CONFIG = TwoRoomConfig()
WALL, DOOR = 32.0, 20.0  # faces at x = 30.5 and 33.5, door open for 16 < y < 24


def go(start: tuple[float, float], action: tuple[float, float]) -> tuple[list[float], bool]:
    position, blocked = move(
        torch.tensor([start]), torch.tensor([action]), torch.tensor([WALL]), torch.tensor([DOOR]), CONFIG
    )
    return position[0].tolist(), bool(blocked[0])


@pytest.mark.parametrize(
    ("start", "action", "end", "blocked"),
    [
        ((10, 10), (1, 1), (11, 11), False),  # free floor
        ((10, 10), (0, 0), (10, 10), False),
        ((10, 10), (3, 4), (10 + 2.45 * 0.6, 10 + 2.45 * 0.8), False),  # norm 5 is scaled to 2.45
        ((6, 30), (-2, 0), (4.5, 30), True),  # left border, face at 4.5
        ((58, 30), (2, 1), (59.5, 30.75), True),  # right border after 3/4 of the path: no sliding on
        ((10, 5), (1, -2), (10.25, 4.5), True),  # upper border after 1/4
        ((10, 59), (-1, 2), (9.75, 59.5), True),  # lower border
        ((5, 5), (-1, -2), (4.75, 4.5), True),  # corner: the upper border is nearer
        ((30, 40), (2, 1), (30.5, 40.25), True),  # wall from the left, face at 30.5
        ((34, 40), (-2, 1), (33.5, 40.25), True),  # wall from the right, face at 33.5
        ((30, 20), (2, 0), (32, 20), False),  # into the door
        ((32, 20), (2, 0), (34, 20), False),  # out of it
        ((32, 22.5), (1, 2), (32.75, 24), True),  # the door's lower side, at y = 24
        ((32, 17), (-0.5, -2), (31.75, 16), True),  # its upper side, at y = 16
        ((30, 24.5), (1, -1), (30.5, 24), True),  # exactly the corner of the door counts as wall
        ((30, 24.5), (1, -1.2), (31, 23.3), False),  # just past the corner: at x = 30.5 it is at y = 23.9
        ((30, 24.5), (1, -0.8), (30.5, 24.1), True),  # just short of it
        ((30.2, 23), (0.2, 2), (30.4, 25), False),  # past the door's mouth, without entering the wall
    ],
)
def test_collisions_worked_by_hand(
    start: tuple[float, float], action: tuple[float, float], end: tuple[float, float], blocked: bool
) -> None:
    found, was_blocked = go(start, action)
    assert found == pytest.approx(end, abs=3e-3)  # a stop keeps 0.001 px off, along the path up to three times that
    assert was_blocked == blocked


def test_a_blocked_agent_can_leave_again_and_can_follow_the_wall() -> None:
    for start, into in (((30.0, 40.0), (2.0, 0.7)), ((6.0, 30.0), (-2.0, 0.3)), ((32.0, 22.5), (0.1, 2.0))):
        stopped, blocked = go(start, into)
        assert blocked
        assert go(stopped, into) == (stopped, True)  # pushing on changes nothing, not a bit
        back, blocked = go(stopped, (-into[0], -into[1]))
        assert not blocked
        assert math.dist(back, stopped) == pytest.approx(math.hypot(*into), abs=1e-4)
    along, blocked = go(go((30.0, 40.0), (2.0, 0.0))[0], (0.0, 2.0))
    assert not blocked
    assert along[1] == pytest.approx(42.0, abs=1e-4)


def layouts_and_paths(seed: int, n: int = 64) -> tuple[torch.Tensor, ...]:
    """Random free points, half of them within a step of the door, and long and short actions in every direction."""
    generator = torch.Generator().manual_seed(seed)
    wall_x, door_y = sample_layouts(n, "all", generator, CONFIG)
    position = sample_positions(wall_x, door_y, generator, CONFIG)
    near = torch.stack([wall_x, door_y], dim=-1) + 8 * (torch.rand(n, 2, generator=generator) - 0.5)
    near = torch.where(is_free(near, wall_x, door_y, CONFIG)[:, None], near, position)
    position = torch.where(torch.rand(n, 1, generator=generator) < 0.5, near, position)
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    length = 3 * torch.rand(n, generator=generator)
    return position, length[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1), wall_x, door_y


def in_solid(point: torch.Tensor, wall_x: torch.Tensor, door_y: torch.Tensor) -> torch.Tensor:
    """The walls as the geometry states them, without any margin, in float64."""
    x, y = point.double().unbind(-1)
    outside = (x <= 4.5) | (x >= 59.5) | (y <= 4.5) | (y >= 59.5)
    return outside | (((x - wall_x).abs() <= 1.5) & ((y - door_y).abs() >= 4.0))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12))
def test_no_path_crosses_a_wall(seed: int, steps: int) -> None:
    position, action, wall_x, door_y = layouts_and_paths(seed)
    for step in range(steps):
        reached, blocked = move(position, action, wall_x, door_y, CONFIG)
        t = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None, None]
        path = position.double() * (1 - t) + reached.double() * t
        assert not in_solid(path, wall_x, door_y).any()
        assert is_free(reached, wall_x, door_y, CONFIG).all()
        assert ((reached - position).norm(dim=-1) <= 2.45 + 1e-5).all()
        free_end = position + action * (2.45 / action.norm(dim=-1, keepdim=True)).clamp(max=1)
        assert torch.allclose(reached[~blocked], free_end[~blocked], atol=1e-5)
        position = reached
        if step % 3 == 2:  # three times the same push, then another direction
            action = action.flip(-1) * torch.tensor([1.0, -1.0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_path_stops_where_a_fine_march_along_it_first_meets_a_wall(seed: int) -> None:
    position, action, wall_x, door_y = layouts_and_paths(seed)
    reached, blocked = move(position, action, wall_x, door_y, CONFIG)
    full = action.double() * (2.45 / action.double().norm(dim=-1, keepdim=True)).clamp(max=1)
    t = torch.linspace(0, 1, 4001, dtype=torch.float64)
    solid = in_solid(position.double() + t[:, None, None] * full, wall_x, door_y)
    first = torch.where(solid.any(0), solid.int().argmax(0), len(t) - 1)
    marched = position.double() + t[first, None] * full
    # Paths that graze a face or pass a corner within the margin of 0.001 may rightly end elsewhere: leave those out.
    nudge = 3e-3 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    shifted = torch.stack(
        [in_solid(position.double() + t[:, None, None] * full + n, wall_x, door_y).any(0) for n in nudge]
    )
    clear = (shifted == solid.any(0)).all(0)
    steep = full.abs().min(-1).values > 0.05 * full.norm(dim=-1)  # not nearly parallel to a wall
    sure = clear & steep
    assert sure.sum() > 20
    assert (reached.double() - marched)[sure].norm(dim=-1).max() < 0.03
    assert (blocked == solid.any(0))[sure].all()


def test_a_row_of_a_batch_is_the_row_alone_bit_for_bit() -> None:
    position, action, wall_x, door_y = layouts_and_paths(3, 301)
    together, blocked = move(position, action, wall_x, door_y, CONFIG)
    for i in range(0, 301, 7):
        alone, hit = move(position[i], action[i], wall_x[i], door_y[i], CONFIG)
        assert torch.equal(alone, together[i])
        assert bool(hit) == bool(blocked[i])


def test_leading_dimensions_broadcast() -> None:
    position, _, wall_x, door_y = layouts_and_paths(4, 10)
    fan = torch.randn(10, 16, 2)
    reached, blocked = move(position[:, None], fan, wall_x[:, None], door_y[:, None], CONFIG)
    assert reached.shape == (10, 16, 2)
    assert blocked.shape == (10, 16)
    assert torch.equal(reached[:, 3], move(position, fan[:, 3], wall_x, door_y, CONFIG)[0])


def test_success_is_within_the_radius_and_rooms_are_told_apart() -> None:
    goal = torch.tensor([[20.0, 20.0]]).expand(3, 2)
    position = torch.tensor([[20.0, 24.5], [20.0, 24.6], [23.0, 23.0]])
    assert is_success(position, goal, CONFIG).tolist() == [True, False, True]
    points = torch.tensor([[10.0, 10.0], [25.0, 50.0], [40.0, 10.0]])
    assert same_room(points, points[[1, 2, 0]], torch.tensor(32.0)).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_size": 66}, "image_size"),
        ({"wall_width": 4}, "wall_width"),
        ({"wall_x": 2}, "wall_x"),
        ({"door_y": 6}, "door_y"),
        ({"wall_padding": 40}, "wall_x"),
        ({"max_step": 0.0}, "max_step"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TwoRoomConfig(**change)  # type: ignore[arg-type]
