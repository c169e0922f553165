"""TwoRoom's batch of worlds, its layouts and its state."""

import subprocess
import sys

import pytest
import torch

from jepa_actions.envs import (
    TwoRoom,
    TwoRoomConfig,
    TwoRoomState,
    is_free,
    is_heldout,
    layout_table,
    move,
    same_room,
    sample_layouts,
    sample_positions,
)
from jepa_actions.errors import ConfigError, DataError, ShapeError

CONFIG = TwoRoomConfig()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_heldout_layouts_are_a_tenth_and_never_trained_on() -> None:
    train, heldout = set(layout_table("train", CONFIG)), set(layout_table("heldout", CONFIG))
    assert train | heldout == set(layout_table("all", CONFIG))
    assert not train & heldout
    assert len(train | heldout) == 25 * 45
    assert 0.07 < len(heldout) / (25 * 45) < 0.13
    assert {x for x, _ in heldout} == {x for x, _ in train}  # every wall and every door also occurs in training
    assert {y for _, y in heldout} == {y for _, y in train}
    assert all(is_heldout(*pair) for pair in heldout)
    drawn = sample_layouts(5000, "train", generator(0), CONFIG)
    assert not {(int(x), int(y)) for x, y in zip(*drawn, strict=True)} & heldout


def test_the_heldout_set_never_changes() -> None:
    """A saved model was trained on the rest: this list is part of the protocol."""
    assert [pair for pair in layout_table("heldout", CONFIG) if pair[0] == 32] == [
        (32, y) for y in (14, 24, 34, 44, 54)
    ]
    smaller = TwoRoomConfig(wall_padding=25)
    assert set(layout_table("heldout", smaller)) == {p for p in layout_table("heldout", CONFIG) if 25 <= p[0] <= 39}


def test_fixed_layouts() -> None:
    fixed = TwoRoomConfig(wall_x=32, door_y=20)
    assert layout_table("train", fixed) == ((32, 20),)
    with pytest.raises(ConfigError, match="no 'heldout' layout"):
        layout_table("heldout", fixed)
    with pytest.raises(ConfigError, match="expected one of train, heldout, all"):
        layout_table("test", CONFIG)  # type: ignore[arg-type]
    wall_x, door_y = sample_layouts(20, "all", generator(0), TwoRoomConfig(wall_x=30))
    assert wall_x.unique().tolist() == [30.0]
    assert len(door_y.unique()) > 5


def test_positions_are_free_and_uniform_over_the_rooms() -> None:
    wall_x, door_y = sample_layouts(20_000, "all", generator(1), CONFIG)
    position = sample_positions(wall_x, door_y, generator(2), CONFIG)
    assert is_free(position, wall_x, door_y, CONFIG).all()
    assert position.mean(0).tolist() == pytest.approx([32.0, 32.0], abs=0.4)
    wide = wall_x == 40  # left room 34 px, right room 18 px
    share = float((position[wide, 0] < 40).float().mean())
    assert share == pytest.approx(34 / 52, abs=0.06)
    right = sample_positions(wall_x, door_y, generator(3), CONFIG, right=torch.ones_like(wall_x, dtype=torch.bool))
    left = sample_positions(wall_x, door_y, generator(3), CONFIG, right=torch.zeros_like(wall_x, dtype=torch.bool))
    assert not same_room(left, right, wall_x).any()


def test_reset_and_step_are_reproducible_and_step_is_move() -> None:
    first, second = TwoRoom(16), TwoRoom(16)
    begun = first.reset(generator(5))
    second.reset(generator(5))
    actions = torch.randn(30, 16, 2, generator=generator(6))
    expected = begun.position
    for action in actions:
        after, _ = first.step(action), second.step(action)
        expected, blocked = move(expected, action, begun.wall_x, begun.door_y, CONFIG)
        assert torch.equal(after.position, expected)
        assert torch.equal(first.blocked, blocked)
    assert torch.equal(first.get_state().position, second.get_state().position)
    assert not torch.equal(TwoRoom(16).reset(generator(7)).position, begun.position)


def test_set_state_restores_exactly() -> None:
    world = TwoRoom(8)
    world.reset(generator(0), layouts="heldout")
    actions = torch.randn(20, 8, 2, generator=generator(1))
    for action in actions[:10]:
        world.step(action)
    saved, frame = world.get_state(), world.render()
    once = [world.step(action).position for action in actions[10:]]
    other = TwoRoom(8)
    other.set_state(saved)
    assert torch.equal(other.render(), frame)
    again = [other.step(action).position for action in actions[10:]]
    assert torch.equal(torch.stack(once), torch.stack(again))
    taken = other.get_state()
    taken.position += 1  # what was handed out is a copy
    assert not torch.equal(other.get_state().position, taken.position)


def test_success_uses_the_state() -> None:
    world = TwoRoom(2, TwoRoomConfig(wall_x=32, door_y=20))
    world.set_state(TwoRoomState(torch.tensor([[10.0, 10], [20, 20]]), torch.full((2,), 32.0), torch.full((2,), 20.0)))
    assert world.success(torch.tensor([[10.0, 14.4], [20, 25]])).tolist() == [True, False]


def test_bad_input_is_named_in_one_line() -> None:
    world = TwoRoom(2)
    with pytest.raises(DataError, match="reset"):
        world.render()
    state = world.reset(generator(0))
    with pytest.raises(ShapeError, match=r"found shape \(2,\).*expected \(2, 2\)"):
        world.step(torch.zeros(2))
    with pytest.raises(ShapeError, match=r"int64.*floating point"):
        world.step(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(DataError, match=r"\[nan, 0\.0\] in row 1") as caught:
        world.step(torch.tensor([[0.0, 0.0], [float("nan"), 0.0]]))
    assert "\n" not in str(caught.value)
    with pytest.raises(ShapeError, match=r"position: found \(1, 2\)"):
        world.set_state(TwoRoomState(state.position[:1], state.wall_x, state.door_y))
    with pytest.raises(ShapeError, match="float64"):
        world.set_state(TwoRoomState(state.position.double(), state.wall_x, state.door_y))
    in_wall = state.position.clone()
    in_wall[1, 0], in_wall[1, 1] = state.wall_x[1], state.door_y[1] + 6
    with pytest.raises(DataError, match="row 1, expected a free point"):
        world.set_state(TwoRoomState(in_wall, state.wall_x, state.door_y))
    nan = torch.full_like(state.position, float("nan"))
    with pytest.raises(DataError, match="row 0"):
        world.set_state(TwoRoomState(nan, state.wall_x, state.door_y))
    with pytest.raises(ShapeError, match="num_envs"):
        TwoRoom(0)


def test_the_room_imports_without_gymnasium() -> None:
    """A new process in which gymnasium cannot be found."""
    code = (
        "import sys, importlib.abc\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'gymnasium': raise ModuleNotFoundError(name)\n"
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'gymnasium' else real(name, *a)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import jepa_actions.envs as envs\n"
        "assert 'gymnasium' not in sys.modules\n"
        "print(len(envs.generate_episodes(2, steps=3, seed=0)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"
