"""Push-T: its states continue exactly, its physics are gym-pusht's, its pictures show bodies only, its rule holds."""

import contextlib
import io
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("gym_pusht", reason="gym-pusht is not installed (pip install 'jepa-actions[push_t]')")

from jepa_actions.envs.push_t import PushT
from jepa_actions.envs.push_t_geometry import AGENT_RADIUS, block_centre, clearance
from jepa_actions.envs.push_t_physics import MAX_STEP
from jepa_actions.envs.push_t_render import PushTConfig
from jepa_actions.envs.world import Behaviour, World
from jepa_actions.errors import ConfigError, DataError, ShapeError


@pytest.fixture(scope="module")
def world() -> PushT:
    return PushT()


@pytest.fixture(scope="module")
def behaviour(world: PushT) -> Behaviour:
    return world.behaviour(16, steps=100, seed=0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(*numbers: float) -> Tensor:
    return torch.tensor([[*numbers, *[0.0] * (10 - len(numbers))]])


def none(n: int) -> Tensor:
    return torch.empty(n, 0)


def advance(world: PushT, states: Tensor, actions: Tensor) -> Tensor:
    return world.step_states(states, torch.empty(*states.shape[:-1], 0), actions)


def turned(after: Tensor, before: Tensor) -> Tensor:
    return (after[..., 4] - before[..., 4] + math.pi).remainder(2 * math.pi).sub(math.pi).abs()


def moving(states: Tensor) -> Tensor:
    """Whether each step moved the block, (e, t - 1)."""
    shifted = (states[:, 1:, 2:4] - states[:, :-1, 2:4]).norm(dim=-1)
    return (shifted > 0.5) | (turned(states[:, 1:], states[:, :-1]) > 0.01)


def test_it_is_a_world_whose_scenes_do_not_overlap(world: PushT) -> None:
    checked: World = world
    states, layouts = checked.sample(500, "heldout", generator(0))
    assert states.shape == (500, len(checked.state_names))
    assert layouts.shape == (500, len(checked.layout_names)) == (500, 0)
    frames = checked.render(states[:6].reshape(3, 2, 10), layouts[:6].reshape(3, 2, 0))
    assert frames.shape == (3, 2, 3, checked.image_size, checked.image_size)
    assert checked.fps == 10
    assert clearance(states[:, :2], states).min() > AGENT_RADIUS
    still = checked.start(states[:50], layouts[:50]).step(torch.zeros(50, 2))
    assert torch.equal(still[:, 2:5], states[:50, 2:5])  # nothing is pushed apart


def test_an_episode_continues_bit_for_bit_from_any_of_its_rows(world: PushT, behaviour: Behaviour) -> None:
    """Also from the middle of a push."""
    assert moving(behaviour.states)[:, 40].any()
    for begin in (0, 40, 90):
        simulation = world.start(behaviour.states[:, begin], behaviour.layouts)
        assert torch.equal(simulation.states, behaviour.states[:, begin])
        for t in range(begin, begin + 10):
            assert torch.equal(simulation.step(behaviour.actions[:, t]), behaviour.states[:, t + 1])


def test_a_copy_does_not_depend_on_the_others_nor_on_the_past(world: PushT, behaviour: Behaviour) -> None:
    states, actions = behaviour.states[:, :-1].reshape(-1, 10)[:300], behaviour.actions.reshape(-1, 2)[:300]
    after = advance(world, states, actions)
    order = torch.randperm(300, generator=generator(0))
    assert torch.equal(advance(world, states[order], actions[order]), after[order])
    fresh = pickle.loads(pickle.dumps(world))  # another space, which has seen nothing
    assert torch.equal(advance(fresh, states[200:220], actions[200:220]), after[200:220])
    nested = advance(world, states.reshape(10, 30, 10), actions.reshape(10, 30, 2))
    assert torch.equal(nested.reshape(300, 10), after)
    wide = world.step_states(states[:4, None], torch.empty(4, 1, 0), actions[None, :5])  # candidates of problems
    assert torch.equal(wide[2, 3], advance(world, states[2:3], actions[3:4])[0])
    many, few = world.render(states, none(300)), world.render(states[100:107], none(7))
    assert torch.equal(many[100:107], few)


def native() -> Any:
    """gym-pusht's own environment, with its bodies in place."""
    with contextlib.redirect_stdout(io.StringIO()):
        from gym_pusht.envs.pusht import PushTEnv
    env = PushTEnv()
    env._setup()
    return env


def put(env: Any, row: Tensor) -> None:
    env.agent.position = row[:2].tolist()
    env.block.angle = float(row[4])  # before the position: it turns the block about its centre of mass
    env.block.position = row[2:4].tolist()
    env.agent.velocity, env.block.velocity = row[5:7].tolist(), row[7:9].tolist()
    env.block.angular_velocity = float(row[9])


def read(env: Any) -> Tensor:
    agent, block = env.agent, env.block
    turn = (block.angle, *agent.velocity, *block.velocity, block.angular_velocity)
    return torch.tensor([*agent.position, *block.position, *turn], dtype=torch.float64)


def test_a_step_is_gym_pushts(world: PushT, behaviour: Behaviour) -> None:
    """From the same row, to the same target: what its own environment does when it has just been put there."""
    pushes = moving(behaviour.states).nonzero()[::6].tolist()
    gaps = []
    for e, t in pushes:
        row, action = behaviour.states[e, t], behaviour.actions[e, t]
        env = native()
        put(env, row)
        env.step((row[:2].double() + action.double()).clamp(AGENT_RADIUS, 512 - AGENT_RADIUS).numpy())
        gaps.append(float((read(env) - behaviour.states[e, t + 1])[:4].abs().max()))
    assert len(gaps) > 50
    assert np.median(gaps) < 1e-4
    assert np.quantile(gaps, 0.95) < 1e-3  # in the T's inner corner the order of contacts shows
    assert max(gaps) < 1


def test_a_row_taken_from_gym_pusht_in_an_episode_goes_on_closely(world: PushT, behaviour: Behaviour) -> None:
    """Not exactly: pymunk has hidden numbers for contacts, which a row cannot hold."""
    gaps = []
    for e in range(8):
        env = native()
        put(env, behaviour.states[e, 0])
        for t in range(60):
            row = read(env)
            target = (behaviour.states[e, t, :2] + behaviour.actions[e, t]).clamp(AGENT_RADIUS, 512 - AGENT_RADIUS)
            ours = advance(world, row[None].float(), (target.double() - row[:2])[None])[0]
            env.step(target.double().numpy())
            after = read(env)
            if (after[2:4] - row[2:4]).norm() > 0.5:
                gaps.append(float((after[2:4] - ours[2:4]).norm()))
    assert len(gaps) > 100
    assert np.median(gaps) < 0.05
    assert np.quantile(gaps, 0.9) < 0.5


def test_actions_are_cut_to_a_disc_and_to_the_walls(world: PushT) -> None:
    start = scene(400, 400, 200, 200, 0).repeat(3, 1)
    long, short = torch.tensor([[300.0, 400.0]] * 3), torch.tensor([[0.6 * MAX_STEP, 0.8 * MAX_STEP]] * 3)
    assert torch.allclose(advance(world, start, long), advance(world, start, short), atol=1e-4)
    simulation = world.start(scene(460, 300, 200, 200, 0), none(1))
    xs = [float(simulation.step(torch.tensor([[50.0, 0.0]]))[0, 0]) for _ in range(30)]
    assert xs[-1] == pytest.approx(512 - AGENT_RADIUS, abs=0.1)
    assert max(xs) < 512


def test_a_push_moves_and_turns_the_block(world: PushT) -> None:
    simulation = world.start(scene(256, 400, 256, 200, 0), none(1))  # below the stem's end, at y = 320
    for _ in range(10):
        simulation.step(torch.tensor([[0.0, -40.0]]))
    pushed = simulation.states[0]
    assert pushed[3] < 160
    assert pushed[2].item() == pytest.approx(256, abs=2)
    simulation = world.start(scene(200, 310, 256, 200, 0), none(1))  # from the left, at the stem's end
    for _ in range(10):
        simulation.step(torch.tensor([[20.0, 0.0]]))
    assert abs(float(simulation.states[0, 4])) > 0.3


def test_behaviour_is_a_function_of_seed_and_episode(world: PushT, behaviour: Behaviour) -> None:
    few = world.behaviour(3, steps=100, seed=0, split="heldout", episodes_per_layout=2)
    short = world.behaviour(3, steps=20, seed=0)
    assert torch.equal(behaviour.states[:3], few.states)
    assert torch.equal(behaviour.actions[:3], few.actions)
    assert torch.equal(behaviour.states[:3, :21], short.states)
    assert torch.equal(behaviour.actions[:3, :20], short.actions)
    assert not torch.equal(world.behaviour(3, steps=20, seed=1).states, short.states)


def test_behaviour_pushes_often_and_keeps_the_block_off_the_walls(world: PushT, behaviour: Behaviour) -> None:
    states = behaviour.states
    assert moving(states).float().mean() > 0.25
    assert (moving(states).float().mean(dim=1) > 0.05).all()  # in every episode
    centre = block_centre(states)
    assert centre.min() > 50
    assert centre.max() < 462  # all of it within the walls, whichever way it is turned
    assert behaviour.actions.norm(dim=-1).max() <= MAX_STEP
    assert world.solved(states[:, :-25], states[:, 25:]).float().mean() < 0.05
    assert turned(states[:, 50:], states[:, :-50]).median() > 0.2


def test_solved_is_the_communitys_rule(world: PushT) -> None:
    goal = scene(100, 100, 300, 300, 3.1)
    assert world.solved(scene(110, 100, 300, 310, 3.1, 9, 9, 9, 9, 9), goal).item()  # 14.1 px; velocity does not count
    assert not world.solved(scene(115, 100, 300, 315, 3.1), goal).item()  # 21.2 px together, 15 each
    assert world.solved(scene(100, 100, 300, 300, 3.1 + 0.34 - 2 * math.pi), goal).item()  # over the wrap
    assert not world.solved(scene(100, 100, 300, 300, 3.1 - 0.36), goal).item()
    assert not world.solved(scene(110, 100, 300, 310, 3.1), goal, 10.0).item()
    assert not world.solved(scene(100, 100, 300, 300, 3.1 - 0.2), goal, 10.0).item()  # angles scale along
    apart = world.distance(scene(103, 100, 300, 304, 0), goal)
    assert float(apart) == pytest.approx(5.0)
    assert torch.equal(world.shortest_path(goal, scene(0, 0), none(1)), world.distance(goal, scene(0, 0)))


def test_towards_brings_the_agent_to_the_goals_agent(world: PushT) -> None:
    simulation = world.start(scene(60, 400, 350, 200, 0.0), none(1))
    goal = scene(400, 450, 100, 100, 0.0)
    for _ in range(40):
        simulation.step(world.towards(simulation.states, goal))
    assert (simulation.states[:, :2] - goal[:, :2]).norm() < 1
    assert world.towards(simulation.states, scene(0, 0)).norm() <= MAX_STEP + 1e-4


def test_pictures_show_neither_velocity_nor_action(world: PushT) -> None:
    start = scene(400, 400, 200, 200, 0.3)
    fast = scene(400, 400, 200, 200, 0.3, 90, -90, 10, 10, 1)
    assert torch.equal(world.render(start, none(1)), world.render(fast, none(1)))
    one, other = (world.start(start, none(1)) for _ in range(2))
    for simulation, sign in ((one, 1.0), (other, -1.0)):  # the same place by way of other actions
        simulation.step(torch.tensor([[20.0 * sign, 0.0]]))
        for _ in range(30):
            simulation.step(start[:, :2] - simulation.states[:, :2])
    assert torch.equal(world.render(one.states, none(1)), world.render(other.states, none(1)))


def test_the_picture_is_gym_pushts_without_its_goal_zone(world: PushT) -> None:
    env = native()
    env.goal_pose = np.array([-2000.0, -2000.0, 0.0])
    states, _ = world.sample(10, "all", generator(4))
    ours = world.render(states, none(10)).float()
    theirs = []
    for row in states:
        put(env, row)
        env.space.reindex_shapes_for_body(env.block)
        env.space.reindex_shapes_for_body(env.agent)
        whole = torch.from_numpy(env._get_img(env._draw(), 512, 512).copy()).float()
        theirs.append(whole.reshape(64, 8, 64, 8, 3).mean(dim=(1, 3)).permute(2, 0, 1))
    reference = torch.stack(theirs)
    assert (ours - reference).abs().mean() < 2.0
    assert (ours - reference.roll(1, dims=0)).abs().mean() > 6.0  # another scene's picture is far


def test_the_background_can_be_changed(world: PushT) -> None:
    other = PushT(PushTConfig(background=(20, 120, 60)))
    states, layouts = world.sample(3, "all", generator(0))
    plain, green = world.render(states, layouts), other.render(states, layouts)
    empty = (plain == 255).all(dim=1)
    assert empty.float().mean() > 0.5
    assert (green.permute(0, 2, 3, 1)[empty] == torch.tensor([20, 120, 60], dtype=torch.uint8)).all()
    agent = torch.tensor(PushTConfig().agent)
    for frames in (plain, green):
        column, row = (states[0, :2] / 8).long().tolist()
        assert (frames[0, :, row, column].long() - agent).abs().max() < 3


def test_bad_input_is_named_in_one_line(world: PushT) -> None:
    simulation = world.start(*world.sample(2, "train", generator(0)))
    with pytest.raises(ShapeError, match=r"push_t action: found shape \(3, 2\).*\(2, 2\).*target_dx"):
        simulation.step(torch.zeros(3, 2))
    with pytest.raises(DataError, match=r"push_t action: .* in row 1"):
        simulation.step(torch.tensor([[0.0, 0.0], [0.0, float("inf")]]))
    with pytest.raises(ShapeError, match="push_t state: found shape"):
        world.start(torch.zeros(2, 5), none(2))
    with pytest.raises(DataError, match=r"push_t state agent: found .* in row 0"):
        world.start(scene(600, 100, 200, 200), none(1))
    with pytest.raises(DataError, match=r"push_t state block: found .* in row 0"):
        world.start(scene(100, 100, 2000, 200), none(1))
    with pytest.raises(ConfigError, match="seed=-1"):
        world.behaviour(1, steps=5, seed=-1)
    with pytest.raises(ConfigError, match="expected one of train, heldout, all"):
        world.sample(1, "test", generator(0))  # type: ignore[arg-type]
