import hashlib
import json
from dataclasses import fields, replace

import pytest
import torch

from jepa_actions.envs.two_room import TwoRoomConfig, is_free, is_heldout, same_room
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.envs.worlds import make_world
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.protocol import BehaviourSettings, load_protocol
from jepa_actions.evaluation.tasks import (
    Tasks,
    goal_in_other_room,
    load_tasks,
    make_tasks,
    save_tasks,
    world_of_protocol,
)

OFFSET, CROSS = load_protocol("two_room/offset25"), load_protocol("two_room/cross_room")
STITCHED = load_protocol("two_room/stitched")


def equal(one, two):
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(Tasks))


@pytest.mark.parametrize("protocol", [OFFSET, CROSS, STITCHED], ids=lambda p: p.sampler)
def test_tasks_are_free_unsolved_and_in_layouts_never_trained_on(protocol):
    tasks = make_tasks(protocol, 150, seed=0)
    assert len(tasks) == 150
    for places in (tasks.start, tasks.goal):
        assert is_free(places, *tasks.layout.unbind(-1), TwoRoomConfig()).all()
    assert ((tasks.start - tasks.goal).norm(dim=-1) > 4.5).all()
    assert all(is_heldout(int(x), int(y)) for x, y in tasks.layout.tolist())


def test_the_training_layouts_have_tasks_of_their_own():
    tasks = make_tasks(load_protocol("two_room/cross_room_train"), 50, seed=0)
    assert not any(is_heldout(int(x), int(y)) for x, y in tasks.layout.tolist())


@pytest.mark.parametrize("protocol", [OFFSET, CROSS, STITCHED], ids=lambda p: p.sampler)
def test_a_seed_gives_the_same_tasks_and_more_begin_with_the_same(protocol):
    many = make_tasks(protocol, 150, seed=3)
    assert equal(make_tasks(protocol, 70, seed=3), many.take(slice(70)))
    assert not torch.equal(make_tasks(protocol, 70, seed=4).start, many.start[:70])
    moved = make_tasks(replace(protocol, seed_base=1), 70, seed=3)
    assert not torch.equal(moved.start, many.start[:70])


@pytest.mark.parametrize(
    ("protocol", "digest", "start", "goal", "sums"),
    [
        (OFFSET, "cce384d6993aa36c", (25.303022, 41.561314), (25.228609, 47.409058), (8909.92, 9219.46)),
        (CROSS, "e9a6ab308a9c6be0", (18.962788, 32.511925), (39.661972, 58.469040), (9829.01, 9191.60)),
    ],
    ids=["offset", "cross_room"],
)
def test_tasks_are_those_of_the_first_release(protocol, digest, start, goal, sums):
    """Whole numbers to the bit, positions to 1e-3 px: as version 1 of the protocols had them, 150 tasks of seed 0."""
    tasks = make_tasks(protocol, 150, seed=0)
    whole = torch.cat([tasks.layout.long().flatten(), tasks.episode, tasks.step])
    assert hashlib.sha256(whole.numpy().tobytes()).hexdigest()[:16] == digest
    assert tasks.start[0].tolist() == pytest.approx(start, abs=1e-3)
    assert tasks.goal[0].tolist() == pytest.approx(goal, abs=1e-3)
    assert (float(tasks.start.sum()), float(tasks.goal.sum())) == pytest.approx(sums, abs=0.02)


def test_solved_pairs_are_kept_only_when_asked_for():
    kept = make_tasks(replace(OFFSET, exclude_solved=False), 600, seed=0)
    solved = (kept.start - kept.goal).norm(dim=-1) <= 4.5
    assert 5 < solved.sum() < 120
    assert equal(make_tasks(OFFSET, 300, seed=0), kept.take(~solved).take(slice(300)))


def behaviour_of(monkeypatch, protocol, count, seed):
    """Tasks, and the states of the behaviour that they were cut from."""
    seen, made = [], TwoRoomWorld.behaviour

    def record(self, *args, **options):
        seen.append(made(self, *args, **options))
        return seen[-1]

    monkeypatch.setattr(TwoRoomWorld, "behaviour", record)
    tasks = make_tasks(protocol, count, seed)
    return tasks, torch.cat([data.states for data in seen]), torch.cat([data.layouts for data in seen])


def test_offset_goals_lie_25_steps_ahead_in_their_episode(monkeypatch):
    tasks, states, _ = behaviour_of(monkeypatch, OFFSET, 100, 1)
    assert torch.equal(tasks.start, states[tasks.episode, tasks.step])
    assert torch.equal(tasks.goal, states[tasks.episode, tasks.step + 25])
    assert torch.equal(tasks.goal_episode, tasks.episode)
    assert torch.equal(tasks.goal_step, tasks.step + 25)
    assert len(tasks.episode.unique()) == 100, "one pair per episode"
    assert tasks.step.max() <= 95
    assert tasks.step.max() > 85


def test_stitched_goals_are_of_another_episode_of_the_same_layout(monkeypatch):
    tasks, states, layouts = behaviour_of(monkeypatch, STITCHED, 200, 1)
    assert (tasks.episode != tasks.goal_episode).all()
    assert torch.equal(tasks.start, states[tasks.episode, tasks.step])
    assert torch.equal(tasks.goal, states[tasks.goal_episode, tasks.goal_step])
    assert torch.equal(tasks.layout, layouts[tasks.episode])
    assert torch.equal(tasks.layout, layouts[tasks.goal_episode])
    assert tasks.goal_step.max() > 110
    assert 0.2 < goal_in_other_room(tasks).float().mean() < 0.8


@pytest.mark.parametrize("per_layout", [2, 3, 5])
def test_stitched_pairs_stay_in_their_group_whatever_its_size(per_layout):
    """64 is no multiple of 3 or 5: the last group of a draw is smaller, and an episode is never its own partner."""
    protocol = replace(STITCHED, behaviour=BehaviourSettings(steps=30, episodes_per_layout=per_layout))
    tasks = make_tasks(protocol, 130, seed=0)
    assert (tasks.episode != tasks.goal_episode).all()
    assert (tasks.episode % 64 // per_layout == tasks.goal_episode % 64 // per_layout).all()


def test_cross_room_tasks_go_both_ways():
    tasks = make_tasks(CROSS, 200, seed=0)
    assert not same_room(tasks.start, tasks.goal, tasks.layout[:, 0]).any()
    assert goal_in_other_room(tasks).all()
    assert 60 < (tasks.start[:, 0] < tasks.layout[:, 0]).sum() < 140


def test_tasks_of_another_world():
    tasks = make_tasks(load_protocol("point_maze/offset50"), 5, seed=0)
    world = make_world("point_maze")
    assert tasks.start.shape == (5, len(world.state_names))
    assert tasks.layout.shape == (5, len(world.layout_names))
    assert not world.solved(tasks.start, tasks.goal, 0.5).any()
    assert torch.equal(tasks.goal_step - tasks.step, torch.full((5,), 50))


@pytest.mark.parametrize("protocol", [OFFSET, STITCHED], ids=lambda p: p.sampler)
def test_a_manifest_comes_back_exactly_and_only_for_its_protocol(tmp_path, protocol):
    tasks = make_tasks(protocol, 20, seed=0)
    path = tmp_path / "tasks.json"
    save_tasks(path, tasks, protocol, 0)
    assert equal(load_tasks(path, protocol), tasks)
    assert json.loads(path.read_text())["protocol_hash"] == protocol.hash
    with pytest.raises(DataError, match="protocol_hash"):
        load_tasks(path, CROSS)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"tasks\.json: not readable"):
        load_tasks(path, protocol)


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="episodes: found 0"):
        make_tasks(OFFSET, 0, seed=0)
    with pytest.raises(ConfigError, match="env: world: found 'maze', expected one of two_room"):
        make_tasks(replace(OFFSET, env="maze", behaviour=BehaviourSettings()), 1, seed=0)
    with pytest.raises(ConfigError, match="every task is solved"):
        make_tasks(replace(OFFSET, tolerance=90.0), 1, seed=0)


def test_what_is_two_room_s_is_refused_elsewhere():
    for change in ({"env": "point_maze"}, {"env": "reacher", "behaviour": BehaviourSettings(crossing_rate=0.1)}):
        with pytest.raises(ConfigError, match="sampler cross_room and a crossing rate are for two_room"):
            world_of_protocol(replace(CROSS, **change))
    rate = world_of_protocol(replace(OFFSET, behaviour=BehaviourSettings(crossing_rate=0.1))).crossing_rate
    assert rate == 0.1
