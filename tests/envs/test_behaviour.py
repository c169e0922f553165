"""TwoRoom's behaviour data: what was commanded, what came of it, and who crossed."""

import math
import time

import numpy as np
import pytest
import torch

from jepa_actions.envs import TwoRoomConfig, generate_episodes, is_free, layout_table, move, render
from jepa_actions.errors import ConfigError

CONFIG = TwoRoomConfig()
FIRST_LAYOUTS = (2001, 2204)  # wall_x and door_y of 64 episodes of seed 5, summed
FIRST_SUMS = (501304.72, 4002.8708, 9818.6631)  # their positions, last positions, and actions without sign


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


def test_without_pushes_the_data_are_those_of_the_first_release() -> None:
    """The same whole numbers, and positions to 1e-3 px."""
    data = generate_episodes(64, seed=5)
    assert torch.equal(generate_episodes(64, seed=5, push=0.0).actions, data.actions)
    assert (int(data.wall_x.sum()), int(data.door_y.sum())) == FIRST_LAYOUTS
    sums = (data.positions.sum().item(), data.positions[:, -1].sum().item(), data.actions.abs().sum().item())
    assert sums == pytest.approx(FIRST_SUMS, rel=1e-5)


def test_with_pushes_a_wall_is_pushed_at_for_several_steps() -> None:
    """Half of the wanderers that a wall has stopped go on as before: the others turn anywhere."""

    def kept(push: float) -> tuple[float, float]:
        data = generate_episodes(600, seed=0, crossing_rate=0.0, push=push)
        reached, blocked = move(
            data.positions[:, :-1], data.actions, data.wall_x[:, None], data.door_y[:, None], CONFIG
        )
        assert torch.equal(reached, data.positions[:, 1:])
        heading = torch.atan2(data.actions[..., 1], data.actions[..., 0])
        change = (torch.remainder(heading.diff(dim=1) + math.pi, 2 * math.pi) - math.pi).abs()
        straight = (change[blocked[:, :-1]] < 0.6).float().mean()  # three standard deviations
        steady = (blocked[:, 2:-1] & blocked[:, 1:-2] & blocked[:, :-3] & (change[:, 1:-1] < 0.6)).float().mean()
        return float(straight), float(steady)

    (none, rare), (half, often) = kept(0.0), kept(0.5)
    by_chance = 0.6 / math.pi
    assert none == pytest.approx(by_chance, abs=0.03)
    assert half == pytest.approx(0.5 + 0.5 * by_chance, abs=0.03)
    assert often > 5 * rare


def test_the_first_direction_is_uniform_with_and_without_pushes() -> None:
    for push in (0.0, 0.5):
        data = generate_episodes(4000, seed=1, steps=1, crossing_rate=0.0, push=push)
        heading = torch.atan2(data.actions[:, 0, 1], data.actions[:, 0, 0])
        quarters = torch.histc(heading, bins=8, min=-math.pi, max=math.pi) / 4000
        assert quarters.tolist() == pytest.approx([0.125] * 8, abs=0.025)


def test_after_a_push_directions_are_uniform() -> None:
    data = generate_episodes(600, seed=2, crossing_rate=0.0, push=0.5)
    _, blocked = move(data.positions[:, :-1], data.actions, data.wall_x[:, None], data.door_y[:, None], CONFIG)
    heading = torch.atan2(data.actions[..., 1], data.actions[..., 0])
    change = (torch.remainder(heading.diff(dim=1) + math.pi, 2 * math.pi) - math.pi).abs()
    turned = change[blocked[:, :-1] & (change > 0.9)]
    shares = torch.histc(turned, bins=4, min=0.9, max=math.pi) / len(turned)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("push", [-0.1, 1.0])
def test_pushing_for_ever_is_refused(push: float) -> None:
    with pytest.raises(ConfigError, match=f"push={push}"):
        generate_episodes(2, seed=0, push=push)
