"""PointMaze as a world: states that restore exactly, samples, behaviour, and errors that name what is wrong."""

import math

import pytest
import torch

from jepa_actions.envs.point_maze import PointMaze, is_heldout, maze_numbers
from jepa_actions.envs.point_maze_geometry import cells_of, is_free
from jepa_actions.errors import ConfigError, DataError, ShapeError

WORLD = PointMaze()
CONFIG = WORLD.config


def test_a_state_in_the_middle_of_an_episode_goes_on_bit_for_bit() -> None:
    data = WORLD.behaviour(40, steps=60, seed=1)
    for begin in (0, 23):
        simulation = WORLD.start(data.states[:, begin], data.layouts)
        assert torch.equal(simulation.states, data.states[:, begin])
        for t in range(begin, 60):
            assert torch.equal(simulation.step(data.actions[:, t]), data.states[:, t + 1])
        assert torch.equal(simulation.states, data.states[:, -1])


def test_nobody_changes_a_simulation_from_outside() -> None:
    states, layouts = WORLD.sample(8, "all", torch.Generator().manual_seed(0))
    simulation = WORLD.start(states, layouts)
    expected = states.clone()
    states += 1
    layouts += 1
    simulation.states.zero_()
    simulation.step(torch.zeros(8, 2)).zero_()
    assert torch.equal(simulation.states, expected)


def test_samples_are_free_at_rest_from_their_split_and_the_first_n_of_more_are_the_same() -> None:
    for split in ("train", "heldout"):
        states, layouts = WORLD.sample(3000, split, torch.Generator().manual_seed(2))
        assert {int(m) for m in layouts} == set(maze_numbers(split, CONFIG))
        assert is_free(states[:, :2], layouts, CONFIG).all()
        assert (states[:, 2:] == 0).all()
        few, mazes = WORLD.sample(17, split, torch.Generator().manual_seed(2))
        assert torch.equal(few, states[:17])
        assert torch.equal(mazes, layouts[:17])


def test_samples_are_uniform_over_all_that_the_ball_can_reach() -> None:
    states, layouts = WORLD.sample(40_000, "all", torch.Generator().manual_seed(3))
    anywhere = torch.rand(40_000, 2, generator=torch.Generator().manual_seed(4)) * 6
    reachable = anywhere[is_free(anywhere, layouts, CONFIG)]  # the same law, by rejection; mazes differ little in area
    middle = [((p % 1 - 0.5).abs() < 0.25).all(dim=-1).float().mean() for p in (states[:, :2], reachable)]
    assert float(middle[0]) == pytest.approx(float(middle[1]), abs=0.02)
    for low in range(6):
        shares = [(p[:, 0].floor() == low).float().mean() for p in (states[:, :2], reachable)]
        assert float(shares[0]) == pytest.approx(float(shares[1]), abs=0.02)


def test_an_episode_is_a_function_of_the_seed_and_its_number() -> None:
    many, few = WORLD.behaviour(50, steps=40, seed=9), WORLD.behaviour(20, steps=40, seed=9)
    short = WORLD.behaviour(50, steps=15, seed=9)
    assert len(many) == 50
    assert many.states.shape == (50, 41, 4)
    assert many.actions.shape == (50, 40, 2)
    assert many.layouts.shape == (50, 1)
    for name in ("states", "actions", "layouts"):
        assert torch.equal(getattr(many, name)[:20], getattr(few, name)), name
        assert getattr(many, name).dtype == torch.float32
    assert torch.equal(many.actions[:, :15], short.actions)
    assert not torch.equal(WORLD.behaviour(20, steps=40, seed=10).actions, few.actions)


def test_behaviour_is_bounded_smooth_and_not_always_the_same() -> None:
    data = WORLD.behaviour(400, steps=100, seed=0, routed_rate=0.0)
    assert (data.actions.abs() <= 1).all()
    assert is_free(data.states[..., :2], data.layouts[:, None], CONFIG).all()
    assert (data.states[:, 0, 2:] == 0).all()
    free = (data.states[:, 1:, 2:] != 0).all(dim=-1)[:, :-1]  # no wall between two actions
    before, after = data.actions[:, :-1][free], data.actions[:, 1:][free]
    assert float(torch.corrcoef(torch.stack([before[:, 0], after[:, 0]]))[0, 1]) > 0.8
    assert 0.4 < float(data.actions.std()) < 0.8
    assert abs(float(data.actions.mean())) < 0.03


def test_routed_episodes_go_far_and_their_share_is_what_was_asked_for() -> None:
    ways = {}
    for rate in (0.0, 1.0):
        data = WORLD.behaviour(300, steps=50, seed=5, routed_rate=rate)
        ways[rate] = WORLD.shortest_path(data.states[:, 0], data.states[:, -1], data.layouts)
    assert float(ways[1.0].mean()) > 1.5 * float(ways[0.0].mean())
    assert float((ways[1.0] >= 3).float().mean()) > 0.6
    pushed, mixed = (WORLD.behaviour(1000, steps=2, seed=5, routed_rate=rate).actions for rate in (0.0, 0.35))
    routed = (pushed != mixed).flatten(1).any(1)
    assert int(routed.sum()) == pytest.approx(350, abs=1)
    assert torch.equal(PointMaze(routed_rate=0.0).behaviour(50, steps=2, seed=5).actions, pushed[:50])


def test_behaviour_stays_in_its_split_and_shares_mazes_as_asked() -> None:
    for split in ("train", "heldout"):
        data = WORLD.behaviour(300, steps=2, seed=0, split=split)
        assert {int(m) for m in data.layouts} <= set(maze_numbers(split, CONFIG))
        assert all(is_heldout(int(m)) == (split == "heldout") for m in data.layouts)
    data = WORLD.behaviour(50, steps=2, seed=0, episodes_per_layout=8)
    groups = data.layouts[:48].reshape(6, 8)
    assert (groups == groups[:, :1]).all()
    assert len(groups.unique()) >= 4
    assert len(cells_of(data.states[:8, 0, :2], CONFIG).unique()) >= 3  # not from the same place


def test_solved_is_by_place_alone() -> None:
    goal = torch.tensor([2.5, 2.5, 0.0, 0.0])
    states = torch.tensor([[2.5, 3.0, 0.2, 0.2], [2.5, 3.01, 0.0, 0.0], [2.7, 2.9, -0.2, 0.0]])
    assert WORLD.solved(states, goal).tolist() == [True, False, True]
    assert WORLD.solved(states, goal, 0.505).tolist() == [True, False, True]
    assert WORLD.solved(states, goal, 0.52).tolist() == [True, True, True]
    assert WORLD.distance(states, goal).tolist() == pytest.approx([0.5, 0.51, 0.2**0.5])


def test_towards_is_straight_at_the_goal_and_reaches_it_where_nothing_is_between() -> None:
    states, goals = torch.tensor([[1.0, 1.0, 0.2, 0.0]]), torch.tensor([[4.0, 5.0, 0.0, 0.0]])
    assert WORLD.towards(states, goals)[0].tolist() == pytest.approx([0.6, 0.8])
    assert WORLD.towards(states, states).tolist() == [[0.0, 0.0]]
    first, layouts = WORLD.sample(2000, "train", torch.Generator().manual_seed(0))
    second = WORLD.behaviour(1, steps=1, seed=0).states[:1, 0].expand(2000, 4)
    free = is_free(second[:, :2], layouts, CONFIG)
    sight = WORLD.shortest_path(first, second, layouts) <= WORLD.distance(first, second) + 1e-6
    first, second, layouts = first[free & sight], second[free & sight], layouts[free & sight]
    assert len(first) > 50
    simulation = WORLD.start(first, layouts)
    solved = WORLD.solved(first, second, 0.25)
    for _ in range(100):
        solved |= WORLD.solved(simulation.step(WORLD.towards(simulation.states, second)), second, 0.25)
    assert solved.all()


def test_it_says_what_it_is() -> None:
    assert (WORLD.name, WORLD.fps, WORLD.image_size) == ("point_maze", 10.0, 64)
    assert WORLD.action_names == ("ax", "ay")
    assert WORLD.layout_names == ("maze",)
    assert len(WORLD.state_names) == 4


@pytest.mark.parametrize(
    ("states", "layouts", "error", "named"),
    [
        ([[0.5, 0.5, 0.0]], [[0.0]], ShapeError, r"state: found shape \(1, 3\)"),
        ([[0.5, 0.5, 0.0, 0.0]], [[0.0, 1.0]], ShapeError, r"layout: found shape \(1, 2\)"),
        ([[0.5, 0.5, 0.0, 0.0]], [[60.0]], DataError, "from 0 to 59"),
        ([[0.5, 0.5, 0.0, 0.0]], [[0.5]], DataError, "layout: found"),
        ([[0.5, 0.5, 0.0, 0.0]], [[math.nan]], DataError, "layout: found"),
        ([[0.5, 0.5, 0.3, 0.0]], [[0.0]], DataError, "speeds of at most 0.2"),
        ([[0.5, 0.5, math.nan, 0.0]], [[0.0]], DataError, "speeds"),
        ([[0.2, 0.5, 0.0, 0.0]], [[0.0]], DataError, "clear of its maze's walls"),  # in the border's reach
        ([[4.5, 0.5, 0.0, 0.0]], [[0.0]], DataError, "clear of its maze's walls"),  # in a block
        ([[math.inf, 0.5, 0.0, 0.0]], [[0.0]], DataError, "clear of its maze's walls"),
        ([[-7.0, 90.0, 0.0, 0.0]], [[0.0]], DataError, "clear of its maze's walls"),
    ],
)
def test_states_that_cannot_be_are_refused(
    states: list[list[float]], layouts: list[list[float]], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        WORLD.start(torch.tensor(states), torch.tensor(layouts))


def test_actions_and_settings_that_cannot_be_are_refused() -> None:
    states, layouts = WORLD.sample(3, "all", torch.Generator().manual_seed(0))
    simulation = WORLD.start(states, layouts)
    with pytest.raises(ShapeError, match=r"expected \(3, 2\)"):
        simulation.step(torch.zeros(3, 3))
    with pytest.raises(DataError, match="row 1"):
        simulation.step(torch.tensor([[0.0, 0.0], [math.nan, 0.0], [0.0, 0.0]]))
    assert torch.equal(simulation.states, states)
    wide = simulation.step(torch.tensor([[9.0, -9.0]] * 3))
    assert torch.equal(wide, WORLD.start(states, layouts).step(torch.tensor([[1.0, -1.0]] * 3)))
    for wrong in ({"steps": 0}, {"seed": -1}, {"episodes_per_layout": 0}, {"routed_rate": 1.5}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
            WORLD.behaviour(2, **({"steps": 3, "seed": 0} | wrong))  # type: ignore[arg-type]
