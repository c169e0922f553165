"""Distractors change what TwoRoom shows and nothing else; off, nothing changes at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from jepa_actions.envs import Distractors, TwoRoom, TwoRoomConfig, TwoRoomState, generate_episodes, render
from jepa_actions.envs.counter_hash import hashed, normal_levels
from jepa_actions.envs.gym_adapter import TwoRoomEnv
from jepa_actions.envs.gym_vector import TwoRoomVectorEnv
from jepa_actions.envs.two_room_scenery import MOST_SHIFT, MOTION, dot_places
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import ConfigError, DataError, ShapeError

EPISODIC = {
    "moving_dot": Distractors(moving_dot=True),
    "static_dot": Distractors(static_dot=True),
    "noise": Distractors(noise=24.0),
    "background": Distractors(background=96.0),
    "jitter": Distractors(jitter=2.0),
}
ALL = Distractors(moving_dot=True, static_dot=True, noise=16.0, background=64.0, texture=32.0, jitter=1.0)
LIGHT = Distractors(agent=(200, 0, 0), walls=(60, 60, 60), floor=(220, 220, 210))


def world_with(distractors: Distractors | None) -> TwoRoomWorld:
    return TwoRoomWorld(TwoRoomConfig(distractors=distractors))


def sha(*tensors: torch.Tensor | np.ndarray) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor).tobytes())
    return found.hexdigest()[:16]


def test_the_plain_room_and_every_random_stream_are_what_they_were() -> None:
    """Hashes from before there were distractors."""
    world = TwoRoomWorld()
    data = world.behaviour(20, steps=30, seed=5, episodes_per_layout=3)
    assert sha(data.states, data.actions, data.layouts) == "e3a7bc6a839a345a"
    assert sha(world.render(data.states, data.layouts[:, None])) == "b33b82f29ad17dfd"
    generator = torch.Generator().manual_seed(3)
    assert sha(*world.sample(9, "all", generator)) == "4affa60d68c7c235"
    assert sha(torch.rand(3, generator=generator)) == "b235b22a9840b93d"
    env = TwoRoom(4)
    env.reset(generator)
    state = env.get_state()
    env.step(torch.ones(4, 2))
    assert sha(env.render(), state.position) == "a77c268247322497"
    assert sha(torch.rand(3, generator=generator)) == "00b8dd85ee59b25a"
    vector = TwoRoomVectorEnv(3, max_episode_steps=2)
    seen, _ = vector.reset(seed=4)
    for _ in range(5):
        seen = vector.step(np.ones((3, 2), np.float32))[0]
    assert sha(seen["image"], seen["goal"]) == "127548ac0b979c89"
    assert sha(vector.get_state()) == "278e0aedb5706451"


def test_default_distractors_draw_the_plain_room() -> None:
    plain, dressed = world_with(None), world_with(Distractors())
    data = plain.behaviour(8, steps=20, seed=0)
    assert torch.equal(
        plain.render(data.states, data.layouts[:, None]), dressed.render(data.states, data.layouts[:, None])
    )
    assert dressed.state_names == plain.state_names


@pytest.mark.parametrize("name", EPISODIC)
def test_behaviour_places_and_rules_are_those_of_the_plain_room(name: str) -> None:
    plain, world = TwoRoomWorld(), world_with(EPISODIC[name])
    one, two = (some.behaviour(6, steps=25, seed=4, episodes_per_layout=2) for some in (plain, world))
    assert torch.equal(one.states, two.states[..., :2])
    assert torch.equal(one.actions, two.actions)
    assert torch.equal(one.layouts, two.layouts)
    assert len(world.state_names) == two.states.shape[-1] == 6
    start, goal = two.states[:, 0], two.states[:, 25]
    assert torch.equal(world.solved(start, goal), plain.solved(start[:, :2], goal[:, :2]))
    assert torch.equal(world.distance(start, goal), plain.distance(start[:, :2], goal[:, :2]))
    assert torch.equal(world.towards(start, goal), plain.towards(start[:, :2], goal[:, :2]))
    way = plain.shortest_path(start[:, :2], goal[:, :2], one.layouts)
    assert torch.equal(world.shortest_path(start, goal, two.layouts), way)
    assert torch.equal(plain.sample(5, "all", torch.Generator().manual_seed(1))[1], two_samples(world)[1])


def two_samples(world: TwoRoomWorld) -> tuple[torch.Tensor, torch.Tensor]:
    states, layouts = world.sample(5, "all", torch.Generator().manual_seed(1))
    world.start(states, layouts)
    assert torch.equal(states[:, :2], TwoRoomWorld().sample(5, "all", torch.Generator().manual_seed(1))[0])
    return states, layouts


@pytest.mark.parametrize("distractors", [*EPISODIC.values(), ALL], ids=[*EPISODIC, "all"])
def test_an_episode_goes_on_from_any_state_bit_for_bit(distractors: Distractors) -> None:
    world = world_with(distractors)
    data = world.behaviour(5, steps=12, seed=2)
    simulation = world.start(data.states[:, 4], data.layouts)
    for t in range(4, 12):
        assert torch.equal(simulation.step(data.actions[:, t]), data.states[:, t + 1])
        now = world.step_states(data.states[:, t, None], data.layouts[:, None], data.actions[:, None, t])
        assert torch.equal(now[:, 0], data.states[:, t + 1])
    more = world.behaviour(9, steps=12, seed=2)
    assert torch.equal(more.states[:5], data.states), "the first n of more are the same n"
    made = generate_episodes(5, steps=12, seed=2, config=world.config)
    frames = made.frames(torch.tensor([3]), torch.tensor([[0, 7]]))
    assert torch.equal(frames[0], world.render(data.states[3, [0, 7]], data.layouts[3]))


@pytest.mark.parametrize("distractors", [*EPISODIC.values(), ALL, LIGHT], ids=[*EPISODIC, "all", "light"])
def test_a_frame_does_not_depend_on_its_batch(distractors: Distractors) -> None:
    world = world_with(distractors)
    data = world.behaviour(40, steps=3, seed=1)
    frames = world.render(data.states, data.layouts[:, None])
    assert frames.dtype == torch.uint8
    assert frames.shape == (40, 4, 3, 64, 64)
    for e, t in ((0, 0), (8, 3), (39, 2)):
        assert torch.equal(world.render(data.states[e, t], data.layouts[e]), frames[e, t])


def test_the_moving_dot_moves_by_itself_and_stays_in_the_room() -> None:
    world = world_with(EPISODIC["moving_dot"])
    data = world.behaviour(30, steps=200, seed=0)
    places = dot_places(data.states[..., 2:].flatten(0, 1), MOTION, world.config).unflatten(0, (30, 201))
    assert places.min() >= world.config.low + 2
    assert places.max() <= world.config.high - 2
    step = (places[:, 1:] - places[:, :-1]).norm(dim=-1)
    assert (step < 1.01).all()
    assert step.median() == pytest.approx(1.0, abs=0.01)
    moved = data.states[:, 1:, :2] - data.states[:, :-1, :2]
    turn = torch.nn.functional.cosine_similarity(moved, places[:, 1:] - places[:, :-1], dim=-1)
    assert abs(float(turn.mean())) < 0.1, "it does not follow the agent"
    frames = world.render(data.states[:, :4], data.layouts[:, None])
    plain = TwoRoomWorld().render(data.states[:, :4, :2], data.layouts[:, None])
    assert torch.equal(frames[:, :, :2], plain[:, :, :2]), "agent and walls are as they were: the dot is blue"
    rows, columns = frames[:, :, 2].amax(3).argmax(2), frames[:, :, 2].amax(2).argmax(2)
    assert (torch.stack([columns, rows], -1) - places[:, :4]).abs().max() < 0.52


def test_what_stays_and_what_changes_within_and_between_episodes() -> None:
    def blue(name: str) -> torch.Tensor:
        world = world_with(EPISODIC[name])
        data = world.behaviour(6, steps=8, seed=3)
        return world.render(data.states, data.layouts[:, None])[:, :, 2]  # neither agent nor walls are in it

    for name in ("static_dot", "background"):
        frames = blue(name)
        covered = TwoRoomWorld().behaviour(6, steps=8, seed=3)
        plain = TwoRoomWorld().render(covered.states, covered.layouts[:, None])
        bare = (plain.amax(2).amax(1) == 0)[:, None]  # where no frame of the episode has agent or wall
        assert ((frames == frames[:, :1]) | ~bare).all(), f"{name} stays for an episode"
        assert len({sha(frame) for frame in frames[:, 0]}) == 6, f"{name} is another one in every episode"
    frames = blue("noise")
    assert len({sha(frame) for frame in frames.flatten(0, 1)}) == 54, "noise is new in every frame"


def test_noise_has_the_standard_deviation_asked_for_and_no_pattern() -> None:
    grey = Distractors(noise=20.0, floor=(128, 128, 128), agent=(128, 128, 128), walls=(128, 128, 128))
    world = world_with(grey)
    data = world.behaviour(20, steps=4, seed=0)
    noise = world.render(data.states, data.layouts[:, None]).double() - 128
    assert float(noise.std()) == pytest.approx(20.0, abs=0.2)
    assert abs(float(noise.mean())) < 0.1
    for axis in (1, 2, 3, 4):
        assert abs(float((noise * noise.roll(1, axis)).mean())) < 0.01 * 400, "neighbours are independent"
    assert normal_levels(20.0, torch.device("cpu")).std() == pytest.approx(20.0, abs=0.3)


def test_the_camera_follows_the_action_in_part() -> None:
    world = world_with(EPISODIC["jitter"])
    data = world.behaviour(60, steps=60, seed=0)
    shift = data.states[:, 1:, 4:].flatten(0, 1)
    actions = data.actions.flatten(0, 1)
    for axis in range(2):
        correlation = float(torch.corrcoef(torch.stack([shift[:, axis], actions[:, axis]]))[0, 1])
        assert 0.6 < correlation < 0.9
    assert shift.abs().max() <= MOST_SHIFT
    plain = TwoRoomWorld().render(data.states[..., :2], data.layouts[:, None])
    frames = world.render(data.states, data.layouts[:, None])
    for e, t in ((0, 1), (5, 30), (11, 60)):
        dx, dy = data.states[e, t, 4:].int().tolist()
        inner = slice(MOST_SHIFT, 64 - MOST_SHIFT)
        moved = plain[e, t].roll((dy, dx), (1, 2))
        assert torch.equal(frames[e, t, :, inner, inner], moved[:, inner, inner])


def test_colours_and_texture_are_the_same_in_every_episode_and_need_no_scenery() -> None:
    world = world_with(LIGHT)
    states = torch.tensor([[12.0, 20.0], [50.0, 30.0]])
    frames = world.render(states, torch.tensor([[32.0, 40.0], [32.0, 40.0]]))
    assert frames[0, :, 20, 12].tolist() == [200, 0, 0]
    assert frames[0, :, 30, 50].tolist() == frames[1, :, 20, 12].tolist() == [220, 220, 210]
    assert frames[:, :, 10, 32].tolist() == [[60, 60, 60]] * 2
    textured = world_with(Distractors(texture=64.0))
    one, two = textured.render(states, torch.tensor([[32.0, 40.0], [32.0, 40.0]]))
    assert torch.equal(one[2, 40:60], two[2, 40:60])
    assert one[2].max() <= 64
    assert one[2].float().std() > 8


def test_goal_pictures_have_a_scenery_of_their_own() -> None:
    world, shared = world_with(ALL), world_with(replace(ALL, shared_goal=True))
    data = world.behaviour(50, steps=5, seed=0)
    start, end = data.states[:, 0], data.states[:, 5]
    goals = world.as_goals(end, start, torch.Generator().manual_seed(0))
    assert torch.equal(goals, world.as_goals(end, start, torch.Generator().manual_seed(0)))
    assert torch.equal(goals[:, :2], end[:, :2])
    assert (goals[:, 2] != start[:, 2]).all()
    world.start(goals, data.layouts)
    kept = shared.as_goals(end, start, torch.Generator().manual_seed(0))
    assert torch.equal(kept[:, 2], start[:, 2]), "the episode's background and resting dot"
    assert (kept[:, 3] != end[:, 3]).float().mean() > 0.9, "at another moment"


def test_gymnasium_environments_draw_the_same_tasks_and_show_the_distractors() -> None:
    config = TwoRoomConfig(distractors=ALL)
    plain, one = TwoRoomEnv(), TwoRoomEnv(config=config)
    vector = TwoRoomVectorEnv(2, config=config)
    bare, _ = plain.reset(seed=7)
    seen, info = one.reset(seed=7)
    both, _ = vector.reset(seed=7)
    assert np.array_equal(plain.get_state(), one.get_state()[:4])
    assert not np.array_equal(bare["image"], seen["image"])
    assert not np.array_equal(bare["goal"], seen["goal"])
    for _ in range(3):
        assert np.array_equal(seen["image"], both["image"][0])
        assert np.array_equal(seen["goal"], both["goal"][0])
        assert np.array_equal(one.get_state(), vector.get_state()[0])
        seen = one.step(np.array([1.0, -0.5], np.float32))[0]
        both = vector.step(np.tile(np.array([1.0, -0.5], np.float32), (2, 1)))[0]
    state = one.world.get_state()
    assert state.scenery is not None
    assert np.array_equal(one.world.render()[0].permute(1, 2, 0).numpy(), seen["image"]), (
        "what is seen is drawn from the state"
    )
    assert info["goal_position"].tolist() == plain.reset(seed=7)[1]["goal_position"].tolist()
    before = vector.get_state()
    vector.reset(seed=3, options={"reset_mask": np.array([False, True])})
    after = vector.get_state()
    assert np.array_equal(after[0], before[0]), "the world that was not reset goes on"
    assert after[1, 4] != before[1, 4], "the other is another episode"


def test_states_without_the_scenery_that_is_needed_are_refused() -> None:
    position, wall_x, door_y = torch.tensor([[10.0, 10.0]]), torch.tensor([30.0]), torch.tensor([30.0])
    env = TwoRoom(1, TwoRoomConfig(distractors=ALL))
    with pytest.raises(ShapeError, match=r"scenery: found None, expected \(1, 4\) torch.float32, \[scenery key, clock"):
        env.set_state(TwoRoomState(position, wall_x, door_y))
    with pytest.raises(ShapeError, match=r"scenery: found \(1, 4\) torch.float32, expected None: no distractor is on"):
        TwoRoom(1).set_state(TwoRoomState(position, wall_x, door_y, torch.zeros(1, 4)))
    for wrong in ([0.5, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 13, 0], [0, float("nan"), 0, 0]):
        with pytest.raises(DataError, match=r"scenery: found .* in row 0, expected integers"):
            env.set_state(TwoRoomState(position, wall_x, door_y, torch.tensor([wrong], dtype=torch.float32)))
    with pytest.raises(ShapeError, match="render, scenery: found None"):
        render(position, wall_x, door_y, TwoRoomConfig(distractors=ALL))


@pytest.mark.parametrize(
    "change", [{"noise": -1.0}, {"jitter": 5.0}, {"background": 300.0}, {"floor": (0, 0, 256)}, {"agent": (1.5, 0, 0)}]
)
def test_what_no_picture_has_is_refused(change: dict[str, object]) -> None:
    (key,) = change
    with pytest.raises(ConfigError, match=rf"Distractors\.{key}: found "):
        Distractors(**change)  # type: ignore[arg-type]


def test_a_hash_is_a_function_of_its_parts_and_looks_random() -> None:
    counter = torch.arange(4096)
    bits = hashed(counter, 3)
    assert torch.equal(hashed(counter[7:9], 3), bits[7:9])
    assert len(bits.unique()) == 4096
    assert not torch.equal(bits, hashed(counter, 4))
    share = torch.stack([(bits >> i) & 1 for i in range(32)]).double().mean(1)
    assert (share - 0.5).abs().max() < 0.04


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("distractors", [*EPISODIC.values(), ALL, LIGHT], ids=[*EPISODIC, "all", "light"])
def test_a_gpu_draws_the_same_bytes(distractors: Distractors) -> None:
    world = world_with(distractors)
    data = world.behaviour(20, steps=5, seed=0)
    here = world.render(data.states, data.layouts[:, None])
    assert torch.equal(world.render(data.states.cuda(), data.layouts[:, None].cuda()).cpu(), here)
