import json
from dataclasses import fields, replace

import pytest
import torch

from jepa_actions.envs.behaviour import generate_episodes
from jepa_actions.envs.two_room import TwoRoomConfig, is_free, is_heldout, is_success, same_room
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.tasks import Tasks, env_config, load_tasks, make_tasks, save_tasks, shortest_path

OFFSET, CROSS = load_protocol("two_room/offset25"), load_protocol("two_room/cross_room")


def equal(one, two):
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(Tasks))


@pytest.mark.parametrize("protocol", [OFFSET, CROSS], ids=lambda p: p.sampler)
def test_tasks_are_free_unsolved_and_in_layouts_never_trained_on(protocol):
    tasks = make_tasks(protocol, 150, seed=0)
    config = env_config(protocol)
    assert len(tasks) == 150
    assert is_free(tasks.start, tasks.wall_x, tasks.door_y, config).all()
    assert is_free(tasks.goal, tasks.wall_x, tasks.door_y, config).all()
    assert not is_success(tasks.start, tasks.goal, config).any()
    assert all(is_heldout(int(x), int(y)) for x, y in zip(tasks.wall_x, tasks.door_y, strict=True))


@pytest.mark.parametrize("protocol", [OFFSET, CROSS], ids=lambda p: p.sampler)
def test_a_seed_gives_the_same_tasks_and_more_begin_with_the_same(protocol):
    many = make_tasks(protocol, 150, seed=3)
    assert equal(make_tasks(protocol, 70, seed=3), many.take(slice(70)))
    assert not torch.equal(make_tasks(protocol, 70, seed=4).start, many.start[:70])
    moved = make_tasks(replace(protocol, seed_base=1), 70, seed=3)
    assert not torch.equal(moved.start, many.start[:70])


def test_solved_pairs_are_kept_only_when_asked_for():
    kept = make_tasks(replace(OFFSET, exclude_solved=False), 600, seed=0)
    solved = is_success(kept.start, kept.goal, env_config(OFFSET))
    assert 5 < solved.sum() < 120
    assert equal(make_tasks(OFFSET, 300, seed=0), kept.take(~solved).take(slice(300)))


def test_offset_goals_lie_25_steps_ahead_in_their_episode(monkeypatch):
    seen = []

    def record(*args, **options):
        seen.append(generate_episodes(*args, **options))
        return seen[-1]

    monkeypatch.setattr("jepa_actions.evaluation.tasks.generate_episodes", record)
    tasks = make_tasks(OFFSET, 100, seed=1)
    positions = torch.cat([data.positions for data in seen])
    assert torch.equal(tasks.start, positions[tasks.episode, tasks.step])
    assert torch.equal(tasks.goal, positions[tasks.episode, tasks.step + 25])
    assert len(tasks.episode.unique()) == 100, "one pair per episode"
    assert tasks.step.max() <= 95
    assert tasks.step.max() > 85


def test_cross_room_tasks_go_both_ways():
    tasks = make_tasks(CROSS, 200, seed=0)
    assert not same_room(tasks.start, tasks.goal, tasks.wall_x).any()
    assert 60 < (tasks.start[:, 0] < tasks.wall_x).sum() < 140


def test_a_manifest_comes_back_exactly_and_only_for_its_protocol(tmp_path):
    tasks = make_tasks(OFFSET, 20, seed=0)
    path = tmp_path / "tasks.json"
    save_tasks(path, tasks, OFFSET, 0)
    assert equal(load_tasks(path, OFFSET), tasks)
    assert json.loads(path.read_text())["protocol_hash"] == OFFSET.hash
    with pytest.raises(DataError, match="protocol_hash"):
        load_tasks(path, CROSS)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"tasks\.json: not readable"):
        load_tasks(path, OFFSET)


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="episodes: found 0"):
        make_tasks(OFFSET, 0, seed=0)
    with pytest.raises(ConfigError, match="env: found 'maze'"):
        make_tasks(replace(OFFSET, env="maze"), 1, seed=0)
    with pytest.raises(ConfigError, match="every task is solved"):
        make_tasks(replace(OFFSET, success_radius=90.0), 1, seed=0)


def test_shortest_paths_by_hand():
    none = torch.full((4,), -1)
    tasks = Tasks(
        start=torch.tensor([[10.0, 10.0], [20.0, 30.0], [22.0, 10.0], [40.0, 30.0]]),
        goal=torch.tensor([[20.0, 10.0], [40.0, 32.0], [38.0, 10.0], [20.0, 30.0]]),
        wall_x=torch.full((4,), 30.0),
        door_y=torch.full((4,), 30.0),
        episode=none,
        step=none,
    )
    bend = 2 * (6.5**2 + 16**2) ** 0.5 + 3  # to the door's upper corners (y = 26) and back
    expected = torch.tensor([10.0, (20**2 + 2**2) ** 0.5, bend, 20.0])
    assert torch.allclose(shortest_path(tasks, TwoRoomConfig()), expected, atol=0.02)
