"""TwoRoom's behaviour data: what was commanded, what came of it, and who crossed."""

import math
import time

import numpy as np
import pytest
import torch

from jepa_actions.envs import TwoRoomConfig, generate_episodes, is_free, layout_table, move, render
from jepa_actions.errors import ConfigError

CONFIG = TwoRoomConfig()


def test_actions_take_each_position_to_the_next_and_keep_their_law() -> None:
    data = generate_episodes(400, seed=0)
    assert data.positions.shape == (400, 121, 2)
    assert data.actions.shape == (400, 120, 2)
    reached, blocked = move(data.positions[:, :-1], data.actions, data.wall_x[:, None], data.door_y[:, None], CONFIG)
    assert torch.equal(reached, data.positions[:, 1:])
    assert is_free(data.positions, data.wall_x[:, None], data.door_y[:, None], CONFIG).all()

    length = data.actions.norm(dim=-1)
    assert length.max() <= 1.8
    assert length.min() >= 0.2 - 1e-6
    assert float(length.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(length.std()) == pytest.approx(0.375, abs=0.01)  # 0.4 before clipping at two std

    free = ~data.steered
    heading = torch.atan2(data.actions[free, :, 1], data.actions[free, :, 0])
    change = torch.remainder(heading.diff(dim=1) + math.pi, 2 * math.pi) - math.pi
    after_block = blocked[free, :-1]
    assert float(change[~after_block].std()) == pytest.approx(0.2, abs=0.01)
    assert float(change[after_block].abs().mean()) == pytest.approx(math.pi / 2, abs=0.1)  # uniform


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1, 0.35, 1.0])
def test_the_steered_share_is_what_was_asked_for_and_steered_episodes_cross(rate: float) -> None:
    data = generate_episodes(1000, seed=3, crossing_rate=rate, accidental_crossings=False)
    assert int(data.steered.sum()) == pytest.approx(1000 * rate, abs=1)
    assert float(data.crossing.float().mean()) == pytest.approx(rate, abs=0.01)
    assert not data.crossing[~data.steered].any()


def test_random_walks_sometimes_cross_by_accident() -> None:
    data = generate_episodes(2000, seed=3)
    assert float(data.crossing[data.steered].float().mean()) > 0.98
    assert 0.10 < float(data.crossing[~data.steered].float().mean()) < 0.22
    x, wall = data.positions[..., 0], data.wall_x[:, None]
    visited_both = (x < wall - 1.5).any(1) & (x > wall + 1.5).any(1)
    assert torch.equal(visited_both, data.crossing)


def test_steered_episodes_wander_on_afterwards() -> None:
    data = generate_episodes(300, seed=1, crossing_rate=1.0)
    last = data.actions[:, -60:]
    heading = torch.atan2(last[..., 1], last[..., 0])
    straightness = torch.stack([heading.cos().mean(1), heading.sin().mean(1)], -1).norm(dim=-1)
    assert float(straightness.mean()) < 0.8
    start_left = data.positions[:, 0, 0] < data.wall_x
    assert 0.3 < float(start_left.float().mean()) < 0.7  # both directions


def test_same_seed_same_data_and_an_episode_does_not_depend_on_their_number() -> None:
    many, few = generate_episodes(60, seed=9, steps=40), generate_episodes(20, seed=9, steps=40)
    for name in ("positions", "actions", "wall_x", "door_y", "steered", "crossing"):
        assert torch.equal(getattr(many, name)[:20], getattr(few, name)), name
    assert not torch.equal(generate_episodes(20, seed=10, steps=40).actions, few.actions)
    assert len(many) == 60


def test_layouts_come_from_the_split_and_are_shared_as_asked() -> None:
    for split in ("train", "heldout"):
        data = generate_episodes(500, seed=0, steps=2, layouts=split)  # type: ignore[arg-type]
        pairs = {(int(x), int(y)) for x, y in zip(data.wall_x, data.door_y, strict=True)}
        assert pairs <= set(layout_table(split, CONFIG))  # type: ignore[arg-type]
    data = generate_episodes(50, seed=0, steps=2, episodes_per_layout=8)
    groups = np.arange(50) // 8
    for group in range(7):
        rows = np.flatnonzero(groups == group)
        assert len(data.wall_x[rows].unique()) == len(data.door_y[rows].unique()) == 1
    assert len(torch.stack([data.wall_x, data.door_y]).unique(dim=1).T) >= 6
    fixed = generate_episodes(5, seed=0, steps=2, config=TwoRoomConfig(wall_x=30, door_y=40))
    assert fixed.wall_x.tolist() == [30.0] * 5
    assert fixed.door_y.tolist() == [40.0] * 5


def test_frames_are_the_rendered_positions() -> None:
    data = generate_episodes(6, seed=2, steps=10)
    frames = data.frames(torch.tensor([4, 1]), torch.tensor([[0, 5, 10], [3, 3, 4]]))
    assert frames.shape == (2, 3, 3, 64, 64)
    assert torch.equal(frames[0, 1], render(data.positions[4, 5], data.wall_x[4], data.door_y[4], CONFIG))


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"crossing_rate": 1.5}, {"seed": -1}, {"episodes_per_layout": 0}])
def test_bad_settings_are_named(wrong: dict[str, float]) -> None:
    settings = {"episodes": 2, "seed": 0} | wrong
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        generate_episodes(settings.pop("episodes"), **settings)  # type: ignore[arg-type]


def test_five_thousand_episodes_take_seconds() -> None:
    begin = time.perf_counter()
    generate_episodes(5000, seed=0)
    assert time.perf_counter() - begin < 20  # 0.4 s on an idle machine
