"""TwoRoom as a world: states are rows, set and read exactly, and the shortest way leads through the door."""

import pytest
import torch

from jepa_actions.envs import TwoRoomConfig, generate_episodes, render
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.envs.worlds import WORLDS, make_world
from jepa_actions.errors import ConfigError, DataError, ShapeError

WORLD = TwoRoomWorld()


def test_worlds_by_name() -> None:
    assert make_world("two_room").name == "two_room"
    assert make_world("two_room", push=0.25).push == 0.25  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"world: found 'three_rooms', expected one of {', '.join(WORLDS)}"):
        make_world("three_rooms")


def test_behaviour_is_that_of_generate_episodes_and_goes_on_from_any_state() -> None:
    world = TwoRoomWorld(crossing_rate=0.7, push=0.3)
    data = world.behaviour(12, steps=20, seed=4, split="heldout", episodes_per_layout=3)
    made = generate_episodes(
        12, steps=20, seed=4, crossing_rate=0.7, push=0.3, layouts="heldout", episodes_per_layout=3
    )
    assert torch.equal(data.states, made.positions)
    assert torch.equal(data.actions, made.actions)
    assert torch.equal(data.layouts, torch.stack([made.wall_x, made.door_y], dim=-1))
    simulation = world.start(data.states[:, 7], data.layouts)
    assert torch.equal(simulation.states, data.states[:, 7])
    for t in range(7, 20):
        assert torch.equal(simulation.step(data.actions[:, t]), data.states[:, t + 1])
        now = world.step_states(data.states[:, t], data.layouts, data.actions[:, t])
        assert torch.equal(now, data.states[:, t + 1])


def test_pictures_broadcast_over_states_and_layouts() -> None:
    data = WORLD.behaviour(3, steps=5, seed=0)
    frames = WORLD.render(data.states, data.layouts[:, None])
    assert frames.shape == (3, 6, 3, 64, 64)
    assert torch.equal(frames[1, 2], render(data.states[1, 2], *data.layouts[1], TwoRoomConfig()))


def test_samples_are_free_and_in_the_split() -> None:
    states, layouts = WORLD.sample(50, "heldout", torch.Generator().manual_seed(0))
    again, _ = WORLD.sample(50, "heldout", torch.Generator().manual_seed(0))
    assert torch.equal(states, again)
    WORLD.start(states, layouts)
    assert ((3 * layouts[:, 0] + layouts[:, 1]) % 10 == 0).all()


def test_solved_has_the_tolerance_asked_for_or_its_own() -> None:
    states, goals = torch.tensor([[10.0, 10.0]]), torch.tensor([[14.4, 10.0]])
    assert WORLD.solved(states, goals)
    assert not WORLD.solved(states, goals, 4.0)
    assert float(WORLD.distance(states, goals)) == pytest.approx(4.4)


def test_towards_goes_straight_and_no_further_than_the_goal() -> None:
    step = WORLD.towards(torch.tensor([[10.0, 10.0], [10.0, 10.0]]), torch.tensor([[13.0, 14.0], [10.5, 10.0]]))
    most = WORLD.config.max_step
    torch.testing.assert_close(step, torch.tensor([[most * 0.6, most * 0.8], [0.5, 0.0]]))


@pytest.mark.parametrize("wrong", [torch.tensor([[30.0, 5.0]]), torch.tensor([[float("nan"), 5.0]])])
def test_states_that_cannot_be_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises((DataError, ShapeError)):
        WORLD.start(wrong, torch.tensor([[30.0, 40.0]]))


def test_shortest_ways_by_hand() -> None:
    start = torch.tensor([[10.0, 10.0], [20.0, 30.0], [22.0, 10.0], [40.0, 30.0]])
    goal = torch.tensor([[20.0, 10.0], [40.0, 32.0], [38.0, 10.0], [20.0, 30.0]])
    bend = 2 * (6.5**2 + 16**2) ** 0.5 + 3  # to the door's upper corners (y = 26) and back
    expected = torch.tensor([10.0, (20**2 + 2**2) ** 0.5, bend, 20.0])
    found = WORLD.shortest_path(start, goal, torch.full((4, 2), 30.0))
    assert torch.allclose(found, expected, atol=0.02)


def test_steps_through_the_doorway_are_as_long_as_they_are() -> None:
    """However short, and wherever in the opening: a step that was walked is a straight line."""
    unit = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    face = 30.0 + torch.where(unit[:, 0] < 0.5, -1.5, 1.5)
    y = 30.0 + 3.9 * (2 * unit[:, 1] - 1)
    short = 0.001 + 0.05 * unit[:, 2]
    start, goal = torch.stack([face - short / 2, y], -1), torch.stack([face + short / 2, y], -1)
    found = WORLD.shortest_path(start, goal, torch.full((500, 2), 30.0))
    torch.testing.assert_close(found, WORLD.distance(start, goal))


def test_a_shortest_way_is_no_shorter_than_any_walk() -> None:
    data = TwoRoomWorld(crossing_rate=1.0).behaviour(40, steps=120, seed=1)
    walked = (data.states[:, 1:] - data.states[:, :-1]).norm(dim=-1).sum(1)
    found = WORLD.shortest_path(data.states[:, 0], data.states[:, -1], data.layouts)
    assert (found <= walked + 0.02).all()
    assert (found >= WORLD.distance(data.states[:, 0], data.states[:, -1]) - 1e-3).all()
