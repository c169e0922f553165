"""The loop that keeps the score: when a task counts as solved, and by which way one may come."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.tasks import Tasks, make_tasks

WORLD = TwoRoomWorld()
OFFSET, CROSS = load_protocol("two_room/offset25"), load_protocol("two_room/cross_room")


def tasks_of(start: Tensor, goal: Tensor, layout: Tensor) -> Tasks:
    none = torch.full((len(start),), -1)
    return Tasks(start, goal, layout, none, none, none, none)


class Scripted:
    """Acts as it was told, (n, steps, 2)."""

    observes = "nothing"

    def __init__(self, actions: Tensor) -> None:
        self.actions = actions

    def act(self, observation):
        return self.actions


def along(*steps: tuple[float, int]) -> Scripted:
    """One agent that goes right: (px per step, steps), one after another."""
    x = torch.cat([torch.full((count,), size) for size, count in steps])
    return Scripted(torch.stack([x, torch.zeros_like(x)], dim=-1)[None])


LINE = tasks_of(torch.tensor([[10.0, 32.0]]), torch.tensor([[20.0, 32.0]]), torch.tensor([[40.0, 32.0]]))
PASSES = along((1.0, 16), (0.0, 4))  # within 1 px of the goal after three steps in a row, then on
STAYS = along((1.0, 10), (0.0, 10))
LATE = along((0.5, 20))  # there with the last step, within 1 px after three
FLEES = along((1.0, 10), (-2.0, 10))


@pytest.mark.parametrize(
    ("rule", "hold", "solved"),
    [
        ("ever", 1, (True, True, True, True)),
        ("end", 1, (False, True, True, False)),
        ("held", 1, (True, True, True, True)),
        ("held", 3, (True, True, True, False)),
        ("held", 4, (False, True, False, False)),
    ],
)
def test_rules(rule, hold, solved):
    protocol = replace(OFFSET, budget=20, tolerance=1.1, rule=rule, hold=hold)
    found = [bool(play(LINE, agent, WORLD, protocol).solved) for agent in (PASSES, STAYS, LATE, FLEES)]
    assert tuple(found) == solved


def test_every_rule_is_reported_whichever_counts():
    score = play(LINE, PASSES, WORLD, replace(OFFSET, budget=20, tolerance=1.1, rule="held", hold=4))
    assert (bool(score.solved), bool(score.ever), bool(score.end)) == (False, True, False)
    assert float(score.distance) == pytest.approx(6.0, abs=1e-4)
    assert float(score.path) == pytest.approx(9.0, abs=1e-4), "travelled until first solved"
    assert torch.allclose(score.state, torch.tensor([[26.0, 32.0]]), atol=1e-4)


def test_time_at_the_goal_counts_anew_after_leaving_it():
    there_and_back = along((1.0, 12), (-1.0, 3), (1.0, 5))
    protocol = replace(OFFSET, budget=20, tolerance=1.1, rule="held")
    assert play(LINE, there_and_back, WORLD, replace(protocol, hold=4)).solved
    gone_between = along((1.0, 13), (-1.0, 5), (1.0, 2))  # two visits of three steps, one of two
    assert play(LINE, gone_between, WORLD, replace(protocol, hold=3)).solved
    assert not play(LINE, gone_between, WORLD, replace(protocol, hold=4)).solved


def test_success_ever_outlives_leaving_the_goal():
    tasks = make_tasks(OFFSET, 40, seed=0)

    class ThereAndBack:
        observes = "state"

        def act(self, states):
            self.sign = getattr(self, "sign", -1) * -1
            to = tasks.goal if self.sign > 0 else tasks.start
            return ((to - states) / 25)[:, None].expand(-1, 25, -1)

    score = play(tasks, ThereAndBack(), WORLD, OFFSET)
    assert score.ever.float().mean() > 0.7
    assert not score.end[score.ever].any()
    one_way = play(tasks, ThereAndBack(), WORLD, replace(OFFSET, budget=25))
    assert torch.equal(one_way.ever, score.ever)
    assert torch.equal(one_way.end, one_way.distance <= 4.5)


def test_agents_see_what_they_ask_for():
    seen = []

    class Watcher:
        def __init__(self, observes):
            self.observes = observes

        def act(self, observation):
            seen.append(observation)
            return torch.zeros(1, 5, 2)

    for what in ("frames", "state", "nothing"):
        play(LINE, Watcher(what), WORLD, replace(OFFSET, budget=5))
    frames, states, nothing = seen
    assert torch.equal(frames, WORLD.render(LINE.start, LINE.layout))
    assert torch.equal(states, LINE.start)
    assert nothing is None


def test_pictures_are_kept_of_the_first_tasks_at_every_decision():
    tasks = make_tasks(OFFSET, 3, seed=0)

    class Straight:
        observes = "state"

        def act(self, states):
            return WORLD.towards(states, tasks.goal)[:, None].expand(-1, 5, -1)

    score = play(tasks, Straight(), WORLD, replace(OFFSET, budget=12), watched=2)
    assert [tuple(frames.shape) for frames in score.frames] == [(2, 3, 64, 64)] * 4  # three decisions and the end
    assert torch.equal(score.frames[0], WORLD.render(tasks.start, tasks.layout)[:2])
    assert torch.equal(score.frames[-1], WORLD.render(score.state, tasks.layout)[:2])
    assert score.solved_by_decision.shape == (4, 2)
    assert not score.solved_by_decision[0].any()
    assert torch.equal(score.solved_by_decision[-1], score.ever[:2])
    assert play(tasks, Straight(), WORLD, replace(OFFSET, budget=12)).frames == []


# -- by which way ------------------------------------------------------------------------------------------------------


class Ghosts(TwoRoomWorld):
    """Agents for whom there are no walls, and no longest step."""

    def start(self, states, layouts):
        class Simulation:
            def __init__(self):
                self.states = states.clone()

            def step(self, actions):
                self.states = self.states + actions
                return self.states

        return Simulation()


STRICT = replace(load_protocol("two_room/strict"), budget=1)


def jump(tasks: Tasks) -> Scripted:
    return Scripted((tasks.goal - tasks.start)[:, None])


def test_a_jump_through_the_wall_solves_nothing():
    tasks = make_tasks(CROSS, 40, seed=0)
    score = play(tasks, jump(tasks), Ghosts(), STRICT)
    assert score.end.all()
    way = WORLD.shortest_path(tasks.start, tasks.goal, tasks.layout)
    through_wall = way > 1.5 * WORLD.distance(tasks.start, tasks.goal)
    assert through_wall.sum() > 5
    assert not score.valid[through_wall].any()
    assert torch.equal(score.solved, score.valid)
    assert play(tasks, jump(tasks), Ghosts(), replace(STRICT, route_valid=False)).solved.all()


def test_small_steps_through_the_wall_solve_nothing_either():
    tasks = make_tasks(CROSS, 40, seed=1)
    slowly = Scripted(((tasks.goal - tasks.start) / 100)[:, None].expand(-1, 100, -1))
    score = play(tasks, slowly, Ghosts(), replace(STRICT, budget=100))
    y = tasks.start[:, 1] + (tasks.goal - tasks.start)[:, 1] * (
        (tasks.layout[:, 0] - tasks.start[:, 0]) / (tasks.goal - tasks.start)[:, 0]
    )
    beside = (y - tasks.layout[:, 1]).abs() > 8
    assert score.end.all()
    assert beside.sum() > 5
    assert not score.solved[beside].any()


def test_what_a_task_is_worth_does_not_depend_on_the_others():
    """A hop through the wall beside the door, alone and beside an agent that jumps far in its own room."""
    start, goal = torch.tensor([[28.0, 36.0], [5.0, 5.0]]), torch.tensor([[32.0, 36.0], [5.0, 60.0]])
    tasks = tasks_of(start, goal, torch.full((2, 2), 30.0))
    one = tasks.take(slice(1))
    assert play(one, jump(one), Ghosts(), STRICT).valid.tolist() == [False]
    assert play(tasks, jump(tasks), Ghosts(), STRICT).valid.tolist() == [False, True]


@pytest.mark.parametrize("push", [0.0, 0.5])
def test_what_behaviour_really_did_is_valid(push):
    world = TwoRoomWorld(crossing_rate=1.0, push=push)
    data = world.behaviour(40, steps=120, seed=6)
    tasks = tasks_of(data.states[:, 0], data.states[:, -1], data.layouts)
    score = play(tasks, Scripted(data.actions), world, replace(STRICT, budget=120))
    assert torch.equal(score.state, data.states[:, -1])
    assert score.valid.all(), "4,800 steps, of which 40 and more lead through the door"
    assert score.solved.all()


def test_tiny_steps_through_the_door_are_valid():
    start, goal = torch.tensor([[28.45, 31.1]]), torch.tensor([[31.55, 31.2]])
    tasks = tasks_of(start, goal, torch.full((1, 2), 30.0))
    slowly = Scripted(((goal - start) / 310)[:, None].expand(-1, 310, -1))
    assert play(tasks, slowly, WORLD, replace(STRICT, budget=310)).valid.all()


def test_nobody_acts_beyond_the_budget():
    """The budget is the protocol's, whatever an agent hands out at once."""
    protocol = PlanningProtocol("mine", 1, "two_room", "cross_room", budget=7)
    score = play(LINE, along((1.0, 100)), WORLD, protocol)
    assert float(score.state[0, 0]) == pytest.approx(17.0, abs=1e-4)
