"""`env:NAME`: behaviour in a world as a data set, with the settings that are this world's."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from jepa_actions.envs import Distractors
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.envs.worlds import make_world
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.training import DataConfig, EnvConfig, WorldDataset, open_data, world_dataset, world_of
from jepa_actions.training.loaders import scenes_of

ENV = EnvConfig(episodes=9, steps=12, heldout_episodes=4, episodes_per_layout=3)


def test_frames_states_and_actions_are_the_behaviour_s():
    data = world_dataset("two_room", ENV)
    assert (data.name, data.fps, data.action_names, data.image_size("image")) == (
        "env:two_room",
        10.0,
        ("dx", "dy"),
        (64, 64),
    )
    episodes, frames = np.array([4, 0]), np.array([[0, 12], [3, 3]])
    states, layouts = data.states(episodes, frames)
    assert torch.equal(states[0, 1], data.behaviour.states[4, 12])
    assert torch.equal(layouts, data.behaviour.layouts[[4, 0]])
    images = data.read_clips(episodes, frames)["image"]
    assert images.shape == (2, 2, 3, 64, 64)
    assert torch.equal(images[1, 0], data.world.render(states[1, 0], layouts[1]))
    assert torch.equal(torch.from_numpy(data.episode(4).actions), data.behaviour.actions[4])
    assert data.lengths().tolist() == [13] * 9


def test_settings_reach_the_behaviour():
    world = world_of("two_room", replace(ENV, crossing_rate=0.8, accidental_crossings=False, push=0.25))
    assert isinstance(world, TwoRoomWorld)
    assert (world.crossing_rate, world.accidental_crossings, world.push) == (0.8, False, 0.25)
    pushed = world_dataset("two_room", replace(ENV, push=0.5))
    assert not torch.equal(pushed.behaviour.actions, world_dataset("two_room", ENV).behaviour.actions)


@pytest.mark.parametrize(
    "change", [{"crossing_rate": 0.1}, {"accidental_crossings": False}, {"push": 0.5}, {"distractors": Distractors()}]
)
def test_settings_of_two_room_are_refused_elsewhere(change):
    ((key, value),) = change.items()
    with pytest.raises(ConfigError, match=rf"data\.env\.{key}: found {re.escape(repr(value))} with env:point_maze"):
        world_of("point_maze", replace(ENV, **change))
    with pytest.raises(ConfigError, match=r"it is for env:two_room"):
        open_data(DataConfig(path="env:reacher", env=replace(ENV, **change)), (64, 64))


def test_distractors_are_seen_and_nothing_else_changes():
    plain = world_dataset("two_room", ENV)
    dotted = world_dataset("two_room", replace(ENV, distractors=Distractors(moving_dot=True, noise=8.0)))
    assert torch.equal(plain.behaviour.actions, dotted.behaviour.actions)
    assert torch.equal(plain.behaviour.states, dotted.behaviour.states[..., :2])
    assert np.array_equal(plain.scenes(), dotted.scenes()), "episodes of one layout still show one scene"
    one, two = (data.read_clips(np.array([2]), np.array([[0, 5]]))["image"] for data in (plain, dotted))
    assert not torch.equal(one, two)
    light = world_dataset("two_room", replace(ENV, distractors=Distractors(floor=(200, 200, 200))))
    assert torch.equal(light.behaviour.states, plain.behaviour.states)
    assert len({data.fingerprint() for data in (plain, dotted, light)}) == 3, "though only the picture differs"


def test_a_world_that_is_not_known():
    with pytest.raises(DataError, match=r"environment 'env:moon' is not known; there is env:two_room, env:point_maze"):
        open_data(DataConfig(path="env:moon"), (64, 64))
    with pytest.raises(ConfigError, match="world: found 'moon'"):
        world_of("moon", ENV)


def test_scenes_are_layouts():
    data = world_dataset("two_room", ENV)
    scenes = data.scenes()
    assert scenes.dtype == np.int64
    assert scenes.shape == (9,)
    for one in range(9):
        for other in range(9):
            assert (scenes[one] == scenes[other]) == data.same_layout(one, other)
    assert len(set(scenes)) == 3
    assert all(len(set(scenes[i : i + 3])) == 1 for i in (0, 3, 6))


def test_a_world_of_one_layout_is_one_scene():
    data = world_dataset("two_room", ENV)
    bare = replace(data.behaviour, layouts=torch.zeros(9, 0))
    assert WorldDataset(data.world, bare).scenes().tolist() == [0] * 9


def test_the_recipe_says_what_a_scene_is():
    data = world_dataset("two_room", ENV)
    config = DataConfig(path="env:two_room")
    assert np.array_equal(scenes_of(config, data), data.scenes())
    assert scenes_of(replace(config, scenes="episode"), data).tolist() == list(range(9))
    assert scenes_of(replace(config, scenes="one"), data).tolist() == [0] * 9
    with pytest.raises(ConfigError, match=r"data\.scenes: .* does not say which episodes show one scene"):
        scenes_of(config, data.without_labels())


def test_held_out_behaviour_is_in_layouts_of_its_own():
    train, heldout = world_dataset("two_room", ENV), world_dataset("two_room", ENV, heldout=True)
    assert (len(train), len(heldout)) == (9, 4)
    one, two = ({tuple(row) for row in d.behaviour.layouts.tolist()} for d in (train, heldout))
    assert not one & two


def test_the_fingerprint_is_of_everything_that_is_seen_and_done():
    data = world_dataset("two_room", ENV)
    same = world_dataset("two_room", ENV)
    assert data.fingerprint() == same.fingerprint()
    others = [
        WorldDataset(data.world, replace(data.behaviour, **{k: v + 1e-3})) for k, v in vars(data.behaviour).items()
    ]
    others.append(world_dataset("two_room", replace(ENV, seed=1)))
    prints = {other.fingerprint() for other in others}
    assert len(prints | {data.fingerprint()}) == 5


def test_another_world_is_a_data_set_too():
    data = world_dataset("point_maze", ENV)
    world = make_world("point_maze")
    assert data.name == "env:point_maze"
    assert data.action_names == world.action_names
    opened = open_data(DataConfig(path="env:point_maze", block=2, env=ENV), (64, 64))
    assert opened.codec is not None
    assert opened.codec.action_dim == 2 * len(world.action_names)
    image = data.read_clips(np.array([1]), np.array([[0, 5]]))["image"]
    assert torch.equal(image[0, 1], world.render(data.behaviour.states[1, 5], data.behaviour.layouts[1]))
